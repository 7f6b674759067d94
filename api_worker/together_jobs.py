"""The fine-tunes of an account at Together: looked up, listed, and followed where Together restarts one as another."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from api_worker import together_answers as answers
from api_worker.provider import RemoteState
from api_worker.refusals import Refusal
from api_worker.together_api import quoted
from queue_app.errors import Unsettled

if TYPE_CHECKING:
    from api_worker.together_api import Api

HEIR_SECONDS = 30.0  # pause while a job was restarted, and nothing shows yet as what


def path_of(job_id: str) -> str:
    return f"fine-tunes/{quoted(job_id)}"


@dataclass(frozen=True)
class Jobs:
    """An account's fine-tunes."""

    account: str
    api: Api

    def get(self, remote_id: str) -> answers.Job:
        return self.api.typed(answers.Job, self.api.get(path_of(remote_id)))

    def newest(self) -> list[answers.Job]:
        """The account's jobs, newest first; in which order Together lists them is not documented."""
        jobs = self.api.typed(answers.Jobs, self.api.get("fine-tunes")).data
        return sorted(jobs, key=lambda job: job.rank, reverse=True)

    def series(self, job_id: str, **since: str) -> tuple[dict[str, float], ...]:
        return answers.series(self.api.typed(answers.Metrics, self.api.get(f"{path_of(job_id)}/metrics", **since)))

    def followed(
        self, remote_id: str, *, patience: timedelta | None = None
    ) -> list[tuple[answers.Job, list[answers.Event]]]:
        """The job, the one it was restarted as, and so on, each with its events; the last one is what counts.

        Raises:
            Unsettled: it was restarted, and nothing shows yet as what; with `patience`, not longer than that
        """
        job: answers.Job | None = self.get(remote_id)
        chain = []
        while job is not None:
            events = self._events(job)
            chain.append((job, events))
            job = self._heir(job, events, patience)
        return chain

    def _events(self, job: answers.Job) -> list[answers.Event]:
        told = job.events
        if not told and job.state != RemoteState.QUEUED:  # then there is nothing to tell yet
            told = self.api.typed(answers.Events, self.api.get(f"{path_of(job.id)}/events")).data
        return sorted(told or [], key=lambda event: event.created_at or "")

    def _heir(self, job: answers.Job, events: list[answers.Event], patience: timedelta | None) -> answers.Job | None:
        """The job that this one was restarted as: a later one, which its events name, or else one like it in the list.

        Where an event names it is not documented, so it is looked for in the message. The heir's own events may name
        the job that it goes on with, which is no later one.
        """
        restarts = [event for event in events if event.kind == "job_restarted"]
        if job.state == RemoteState.SUCCEEDED or not (restarts or job.state == RemoteState.FAILED):
            return None
        ids = {found for event in restarts for found in answers.JOB_ID.findall(event.message or "")} - {job.id}
        kin = [self._named(one) for one in ids]
        if not any(one.rank > job.rank for one in kin):
            kin += self._kin(job, restarts)
        later = [one for one in kin if one.rank > job.rank]
        if later or not restarts or not job.state.is_final:
            return max(later, key=lambda one: one.rank, default=None)
        since = events[events.index(restarts[-1]) :]
        if kin and any(event.is_complaint for event in since):  # it is the heir itself, and has ended by itself
            return None
        if patience is not None and datetime.now(UTC) - restarts[-1].at > patience:
            return None
        said = f"{self.account}: job {job.id} was restarted there, and its list does not show yet as which one"
        raise Unsettled(f"{said}; it is looked for again every {HEIR_SECONDS:.0f} s", HEIR_SECONDS)

    def _kin(self, job: answers.Job, restarts: list[answers.Event]) -> list[answers.Job]:
        """Those of the list that were made for the same submission: by the key, or like a restart just after one."""
        listed = self.newest()
        own = next((one for one in listed if one.id == job.id and one.key), job)  # a list is sure to name the key
        at = restarts[-1].at if restarts else None
        return [one for one in listed if one.is_kin_of(own) or (at is not None and one.may_follow(own, at))]

    def _named(self, remote_id: str) -> answers.Job:
        """A job that an event names; one that is not there may be so in a moment."""
        told = self.api.look(path_of(remote_id))
        if isinstance(told, Refusal) and told.status == 404:
            said = f"{self.account}: a restart goes on as job {remote_id}, which is not there yet"
            raise Unsettled(said, HEIR_SECONDS)
        return self.api.typed(answers.Job, told)
