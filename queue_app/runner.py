"""Runs one claimed job: resolves its inputs, calls its body, and records what came of it."""

from __future__ import annotations

import json
import logging
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tenacity
from pydantic import ValidationError

from queue_app.artifacts import ArtifactStore, Content, JobArtifacts
from queue_app.attempt import LiveAttempt, overdue
from queue_app.errors import (
    Cancelled,
    Invalid,
    NotFound,
    Paused,
    Permanent,
    Released,
    StaleTransition,
    StandsStill,
    Transient,
    TuneyardError,
)
from queue_app.job_log import job_log, redact
from queue_app.job_type import JobType, PollAgain, Result, Spec, find_job_type
from queue_app.lifecycle import Cause, Event, Request, State
from queue_app.recipe import fingerprint, resolve_references
from queue_app.verdict import Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from queue_app.dispatcher import Ring
    from queue_app.store import Job, Store
    from settings import Settings

log = logging.getLogger("tuneyard.runner")


@dataclass(frozen=True)
class Runner:
    """A worker's hands. `stopping` is set when the worker shuts down: bodies that report hand their job back."""

    store: Store
    settings: Settings
    worker: str
    stopping: threading.Event = field(default_factory=threading.Event)
    find: Callable[[str], JobType[Any, Any]] = find_job_type
    ring: Ring | None = None  # without it, the sweeper is the one to ring

    @property
    def artifacts(self) -> ArtifactStore:
        cache = self.settings.home.absolute() / "cache"
        return ArtifactStore(self.settings.artifacts_url, self.store.artifacts, cache)

    def run(self, *, queue: str | None = None, job_id: str | None = None) -> bool:
        """Claim the most urgent due job of a queue, or the named one, and run it; False: there was nothing to do."""
        if self.stopping.is_set():
            return False
        seconds = self.settings.queue.lease_seconds
        job = self.store.claim(worker=self.worker, lease_seconds=seconds, queue=queue, job_id=job_id)
        if job is None:
            return False
        self.work_on(job)
        return True

    def work_on(self, job: Job) -> None:
        """Run a job that this worker holds."""
        with ExitStack() as stack:
            trouble: Permanent | None = None
            logger = log
            try:
                logger = stack.enter_context(job_log(self.settings, job))
            except OSError as error:  # the job is claimed by now, and gets its end all the same
                trouble = Permanent(
                    f"{error.filename or 'the folder of the job'}: the job's log cannot be written ({error.strerror}); "
                    f"put that right, then `tuneyard jobs retry {job.id}`"
                )
            artifacts = JobArtifacts(self.artifacts, job.id, self.settings.home.absolute() / "jobs" / job.id)
            attempt = LiveAttempt(self.store, job, self.settings, artifacts, self.stopping, logger, self.call)
            self._attend(attempt, trouble)

    def _attend(self, attempt: LiveAttempt, trouble: Permanent | None) -> None:
        """Try the job, unless something is in its way already, and record the end while its lease is kept."""
        try:
            with attempt.lease():
                self._settle(attempt, judge(trouble, attempt) if trouble else self._try(attempt))
        except StaleTransition as error:
            attempt.log.warning("dropped: %s", error)
            self.store.count("stale_transitions")

    def _try(self, attempt: LiveAttempt) -> Verdict:
        """Call the body. The `except` is broad on purpose: whatever a body raises, its job gets an end."""
        try:
            return self._perform(attempt)
        except StaleTransition:
            raise
        except (Exception, Cancelled, Paused, Released, StandsStill) as error:
            verdict = judge(error, attempt)
            attempt.log.info("%s: %s", verdict.event, redact(str(error), self.settings))
            return verdict

    def _perform(self, attempt: LiveAttempt) -> Verdict:
        job = attempt.job
        attempt.look_back()
        job_type = self.find(job.kind)
        spec = self._spec(job_type, job)
        attempt.log.info("attempt %d of %s on %s", job.attempt, job.kind, self.worker)
        try:
            if job.request == Request.CANCEL:
                raise Cancelled("the user cancelled the job")
            if job.deadline_at is not None and datetime.now(UTC) > job.deadline_at:
                raise overdue(job)
            twin = self._twin(job_type, spec, attempt)
            if twin is not None:
                return Verdict(Event.REUSED, {"result": twin.result, "reused_from": twin.id}, {"job": twin.id})
            made = job_type.body(spec, attempt)
        except (Cancelled, Permanent) as error:
            ended = isinstance(error, Cancelled) or error.cause == Cause.DEADLINE
            if ended and job_type.on_cancel is not None:
                taken_back = job_type.on_cancel(spec, attempt)
                error.forget, error.detail = taken_back.forget, taken_back.detail
            raise
        if isinstance(made, PollAgain):
            due = datetime.now(UTC) + timedelta(seconds=made.seconds)
            # the remote job was seen to be well: failures are counted in a row
            return Verdict(Event.POLL_SCHEDULED, {"reason": made.reason, "due_at": due, "failures": 0, "failure": None})
        if not isinstance(made, Result):
            raise TypeError(f"{job.kind} returned {type(made).__name__}, which is no Result")
        if attempt.fingerprint != self._fingerprint(job_type, spec, attempt):
            attempt.log.warning("an input has changed since the job began: its result is not reused")
            attempt.fingerprint = None
        return Verdict(Event.SUCCEEDED, {"result": made.model_dump(mode="json"), "failure": None, "cause": None})

    def _spec(self, job_type: JobType[Any, Any], job: Job) -> Spec:
        results = {need.step or need.id: need.result or {} for need in self.store.read.needs(job.id)}
        try:
            spec: Spec = job_type.spec.model_validate(resolve_references(job.spec, results))
        except ValidationError as error:
            raise Invalid(f"{job.kind}: {'; '.join(explain(error))}") from error
        return spec

    def _twin(self, job_type: JobType[Any, Any], spec: Spec, attempt: LiveAttempt) -> Job | None:
        """A succeeded job that did the same with the same inputs, and whose artifacts are still there.

        Only a first attempt looks: a later one may hold something of its own already, such as a remote job.
        """
        job = attempt.job
        if attempt.fingerprint is None:
            attempt.fingerprint = self._fingerprint(job_type, spec, attempt)
        if attempt.fingerprint is None or not job.reuse or job.attempt > 1:
            return None
        twins = self.store.read.reusable(attempt.fingerprint)
        return next((twin for twin in twins if twin.id != job.id and self._is_whole(twin)), None)

    def _fingerprint(self, job_type: JobType[Any, Any], spec: Spec, attempt: LiveAttempt) -> str | None:
        """The fingerprint of the inputs as they are now; None if one cannot be read."""
        try:
            place = "".join((spec.done_at(self.settings), *map(self._content, spec.also_reads())))
            return fingerprint(job_type.kind, job_type.version, spec, self._content, place)
        except (OSError, Invalid) as error:  # the body says so, in its own words
            attempt.log.warning("nothing can be reused, an input is unreadable: %s", error)
            return None

    def _is_whole(self, job: Job) -> bool:
        made = [
            value for value in (job.result or {}).values() if isinstance(value, str) and value.startswith("sha256:")
        ]
        return all(self.artifacts.has(artifact_id) for artifact_id in made)

    def _content(self, ref: str) -> str:
        """What stands for an input in a fingerprint: an artifact's id, or the hash of a path's content."""
        if not Path(ref).is_absolute():
            try:
                return self.store.artifacts.find(ref).id
            except NotFound:
                return ref  # a built-in source, or a name that the body will resolve
        if Path(ref).exists():
            return Content.of(Path(ref)).digest
        matches = sorted(Path("/").glob(ref.lstrip("/")))  # a pattern stands for all that it finds
        return json.dumps([(path.name, Content.of(path).digest) for path in matches]) if matches else ref

    def _settle(self, attempt: LiveAttempt, verdict: Verdict) -> None:
        """Record the end; a store that is busy or full is asked again, while the heartbeat keeps the lease."""
        keep_trying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((Transient, Permanent)),  # busy, or full: what was done is kept
            wait=tenacity.wait_fixed(1),
            stop=tenacity.stop_after_delay(300),
            reraise=True,
        )
        recorded: Job = keep_trying(
            self.store.record,
            attempt.job_id,
            verdict.event,
            actor=self.worker,
            fence=attempt.number,
            detail=verdict.detail,
            forget=verdict.forget,
            refused=verdict.refused,
            **{"fingerprint": attempt.fingerprint, "account": attempt.account, **verdict.changes},
        )
        if recorded.state == State.WAITING and recorded.request == Request.CANCEL and not verdict.heeded:
            self.store.cancel(recorded.id, actor=self.worker)  # it came while the body was ending: see to it now
        if recorded.pool is not None and not recorded.has_slot:
            self.call(recorded.pool)
        self._press(lambda: self.store.cards.called(attempt.job))
        if recorded.state == State.SUCCEEDED:
            self._clear_shelf(attempt)

    def _clear_shelf(self, attempt: LiveAttempt) -> None:
        """Remove what the job kept for other hosts: not before its success is written, so that a crash loses none."""
        try:
            attempt.artifacts.clear_shelf()
        except OSError as error:
            attempt.log.warning("its checkpoints stay in the artifact store until `tuneyard gc --delete`: %s", error)

    def call(self, pool: str) -> None:
        """Ring for those who were given a slot of a pool: the sweeper would do so a moment later."""
        self._press(lambda: self.store.slots.called(pool))

    def _press(self, called: Callable[[], dict[str, list[str]]]) -> None:
        try:
            if self.ring is not None and (rings := called()):
                self.ring(rings)
        except TuneyardError as error:
            log.warning("the doorbell is out of order, the sweeper will ring: %s", error)


def explain(error: ValidationError) -> Iterator[str]:
    """A validation error as one line a field."""
    for fault in error.errors():
        yield f"{'.'.join(map(str, fault['loc'])) or 'spec'}: {fault['msg'].removeprefix('Value error, ')}"
