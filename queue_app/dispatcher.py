"""What users do: submit jobs and recipes, cancel, pause, resume, retry. It lands in the store; then the bell rings."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from queue_app.errors import Invalid, TuneyardError
from queue_app.job_type import find_job_type
from queue_app.lifecycle import FINAL, State
from queue_app.store.new_job import NewJob, new_id

if TYPE_CHECKING:
    from queue_app.recipe import Recipe
    from queue_app.store import Job, Store

log = logging.getLogger("tuneyard.dispatcher")

# Presses the doorbell: queue → ids of jobs that are due. Best effort; the sweeper makes up for what is lost.
Ring = Callable[[Mapping[str, Sequence[str]]], None]


@dataclass(frozen=True)
class Dispatcher:
    """Hands the user's wishes to the store. Without `ring`, the sweeper is the one to ring."""

    store: Store
    actor: str
    ring: Ring | None = None

    def submit(self, *new: NewJob) -> list[str]:
        """Submit jobs, all or none, and return their ids. It succeeds without a broker."""
        self.store.submit(new, actor=self.actor)
        self._announce(new)
        return [job.id for job in new]

    def run(self, recipe: Recipe, *, reuse: bool = True) -> tuple[str, dict[str, str]]:
        """Submit every step of a recipe and return the run's id and the ids by step.

        `reuse=False` does every step again, also those that were done with the same inputs before.
        """
        run_id, ids = new_id(), {step.name: new_id() for step in recipe.steps}
        new = [
            NewJob(
                kind=step.kind,
                queue=step.queue,
                spec=step.spec,
                id=ids[step.name],
                needs=tuple(ids[need] for need in step.needs),
                priority=step.priority,
                timeout_seconds=step.timeout_seconds,
                reuse=reuse and step.reuse,
                cards=step.cards,
                run_id=run_id,
                step=step.name,
            )
            for step in recipe.steps
        ]
        self.store.submit(new, actor=self.actor, recipe=(run_id, recipe.name, recipe.text), cap_usd=recipe.cap_usd)
        self._announce(new)
        return run_id, ids

    def cancel(self, job: Job) -> Job:
        """Cancel a job; whoever holds it takes back what it holds.

        Raises:
            Invalid: it has ended already
        """
        if job.state in FINAL:
            raise Invalid(f"job {job.id} has ended already: it {_ended(job)}")
        return self.store.cancel(job.id, actor=self.actor)

    def pause(self, job: Job) -> Job:
        """Pause a job: at once if nobody holds it, else at its next checkpoint.

        Raises:
            Invalid: it has ended, is paused, or is of a type that would have to begin anew
        """
        if job.state in FINAL or job.state == State.PAUSED:
            raise Invalid(f"job {job.id} cannot be paused: it {_ended(job)}")
        return self.store.pause(job.id, actor=self.actor, once_begun=find_job_type(job.kind).pausable)

    def resume(self, job: Job) -> Job:
        """Let a paused job go on.

        Raises:
            Invalid: it is not paused
        """
        if job.state != State.PAUSED:
            raise Invalid(f"job {job.id} is not paused: it {_ended(job)}")
        return self.store.resume(job.id, actor=self.actor)

    def retry(self, job: Job) -> Job:
        """Send a failed or cancelled job again, and the jobs that were cancelled for want of it.

        Raises:
            Invalid: it did not fail, or a job it needs did
        """
        if job.state not in (State.FAILED, State.CANCELLED):
            raise Invalid(f"job {job.id} has nothing to retry: it {_ended(job)}")
        missing = [need for need in self.store.read.needs(job.id) if need.state != State.SUCCEEDED]
        if missing:
            names = ", ".join(f"{need.step or need.kind} ({need.id}, {need.state})" for need in missing)
            raise Invalid(f"job {job.id} needs {names}: retry that one, and this one follows")
        return self.store.retry(job.id, actor=self.actor)

    def _announce(self, new: Sequence[NewJob]) -> None:
        if self.ring is None:
            return
        rings: dict[str, list[str]] = defaultdict(list)
        for job in new:
            if not job.needs:
                rings[job.queue].append(job.id)
        try:
            self.ring(rings)
        except TuneyardError as error:
            log.warning("the doorbell is out of order, the sweeper will ring: %s", error)


def _ended(job: Job) -> str:
    return f"is {job.state}" if job.state not in (State.SUCCEEDED, State.FAILED) else str(job.state)
