"""What a vendor's routes stand on: files, jobs and slots, in nobody's words.

Whatever reads and then writes here does so without awaiting in between.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from api_worker.sandbox.refusals import Refused, denial_of
from api_worker.sandbox.remote_job import Failure, Phase, Plan, Reason, SandboxJob
from api_worker.sandbox.rules import MIB
from api_worker.sandbox.state import SandboxFile, SandboxState

if TYPE_CHECKING:
    from collections.abc import Callable

    from api_worker.sandbox.faults import Faults
    from api_worker.sandbox.rules import Rules
    from api_worker.sandbox.training_files import TrainingFile
    from api_worker.sandbox.vendor import Vendor

DAY_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Desk:
    """One vendor's side of the sandbox."""

    vendor: Vendor
    state: SandboxState
    rules: Rules
    faults: Faults
    received: Counter[str] = field(default_factory=Counter)  # requests by route, since the process started
    refused: Counter[str] = field(default_factory=Counter)  # answers of 400 and above, by route and status

    @property
    def models(self) -> tuple[str, ...]:
        """The base models that can be fine-tuned."""
        return self.rules.models or self.vendor.models

    @property
    def min_examples(self) -> int:
        return self.vendor.min_examples if self.rules.min_examples is None else self.rules.min_examples

    def word(self, job: SandboxJob, now: float) -> str:
        """The vendor's word for where a job is."""
        return self.vendor.words[job.phase(now)]

    def refusal(self, what: str) -> Refused:
        """What the vendor says to a status or to the name of a fault."""
        return Refused.by(denial_of(what, self.vendor.denials))

    # -- files ----------------------------------------------------------------------------------------------------

    async def keep_file(
        self, file_id: str, filename: str, content: bytes, examine: Callable[[bytes], TrainingFile]
    ) -> SandboxFile:
        """Keep an upload and what its examination finds.

        Raises:
            Refused: it is too large
        """
        if len(content) > self.rules.max_file_mib * MIB:
            raise Refused(413, f"The file is larger than {self.rules.max_file_mib:g} MiB.", param="file")
        found = await run_in_threadpool(examine, content)
        now = time.time()
        refused = self.faults.number("file", "refused")
        file = SandboxFile(
            id=file_id,
            created_at=now,
            filename=filename,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            examples=found.examples,
            format=found.format,
            problem=found.problem or (f"Example {refused:g} was refused by moderation." if refused else None),
            ready_at=now + self.faults.number("file", "slow"),
            is_broken=self.faults.draw("file") is not None,
        )
        self.state.keep_file(file, content)
        return file

    def files(self) -> list[SandboxFile]:
        """The files, newest first."""
        return sorted(self.state.files.values(), key=lambda file: file.created_at, reverse=True)

    def file(self, file_id: str | None) -> SandboxFile | None:
        return self.state.files.get(file_id or "")

    # -- jobs -----------------------------------------------------------------------------------------------------

    def create(self, plan: Plan) -> SandboxJob:
        """Create the job of a plan whose files are there.

        Raises:
            Refused: the account has no slot free, or has started as many jobs as it may in a day
        """
        now, limit = time.time(), self.rules.max_concurrent
        self._insist_on_the_day(plan.model, now)
        full = limit is not None and self.held(now) >= limit
        if full and not self.vendor.fails_when_full:
            raise self.refusal("slot")
        failure = Failure(Reason.SLOT) if full else self._what_validation_finds(plan)
        training = self.state.files[plan.training_file]
        job = SandboxJob(
            **vars(plan), created_at=now, examples=training.examples, pace=self.rules.pace, failure=failure
        )
        self.state.create_jobs(*self._as_fate_has_it(job))
        return self.state.jobs[job.id]

    def _as_fate_has_it(self, job: SandboxJob) -> list[SandboxJob]:
        """The job with the fault that is committed at it, and the one that goes on with it."""
        fault = self.faults.draw("job") if job.failure is None else None
        if fault is None:
            return [job]
        if fault.what == "odd-word":
            return [replace(job, odd_seconds=fault.seconds or 0.0)]
        if fault.what == "restart":
            successor = self.vendor.new_job_id()
            doomed = replace(job, failure=Failure(Reason.RESTARTED, phase=Phase.RUNNING), successor=successor)
            return [doomed, replace(job, id=successor, created_at=doomed.ends_at, predecessor=job.id)]
        phase = Phase.VALIDATING if fault.what == "slot" else Phase.RUNNING
        return [replace(job, failure=Failure(Reason(fault.what), phase=phase))]

    def _what_validation_finds(self, plan: Plan) -> Failure | None:
        for name, file in (
            ("training", self.file(plan.training_file)),
            ("validation", self.file(plan.validation_file)),
        ):
            if file is not None and file.is_broken:
                return Failure(Reason.BROKEN, file=name)
            if file is not None and file.problem:
                return Failure(Reason.BAD_FILE, file.problem, name)
            if file is not None and plan.format and file.format not in ("", plan.format):
                text = f"Example 1 is of the format {file.format}, where the method takes {plan.format}."
                return Failure(Reason.BAD_FILE, text, name)
        examples, least = self.state.files[plan.training_file].examples, self.min_examples
        if examples < least:
            text = f"The training file has {examples} examples; it must have at least {least}."
            return Failure(Reason.TOO_FEW, text, "training")
        return None

    def _insist_on_the_day(self, model: str, now: float) -> None:
        limit = self.rules.max_jobs_a_day
        started = sum(job.model == model and job.created_at > now - DAY_SECONDS for job in self.jobs(now))
        if limit is not None and started >= limit:
            raise self.refusal("daily-cap")

    def jobs(self, now: float) -> list[SandboxJob]:
        """The jobs there are, newest first."""
        there = [job for job in self.state.jobs.values() if self._is_there(job, now)]
        return sorted(there, key=lambda job: job.created_at, reverse=True)

    def listed_jobs(self, now: float) -> list[SandboxJob]:
        """The jobs as a list shows them: those that are new may be missing."""
        return self.jobs(now - self.faults.number("list", "lag"))

    def job(self, job_id: str) -> SandboxJob | None:
        job = self.state.jobs.get(job_id)
        return job if job is not None and self._is_there(job, time.time()) else None

    def held(self, now: float) -> int:
        """How many jobs hold a slot."""
        return sum(job.finished_at(now) is None and job.holds_slot for job in self.jobs(now))

    def cancel(self, job: SandboxJob) -> SandboxJob:
        """Ask a job that has not ended to stop."""
        return self.state.change_job(job.id, cancel_asked_at=time.time())

    def pause(self, job: SandboxJob) -> SandboxJob:
        """Make a job stand still that does not."""
        return self.state.change_job(job.id, paused_at=time.time())

    def resume(self, job: SandboxJob) -> SandboxJob:
        """Let a job that stands still go on."""
        assert job.paused_at is not None
        stood = job.stood_seconds + time.time() - job.paused_at
        return self.state.change_job(job.id, paused_at=None, stood_seconds=stood)

    def _is_there(self, job: SandboxJob, now: float) -> bool:
        """Whether it was made: one that goes on with another is not, when that one was cancelled before."""
        before = self.state.jobs.get(job.predecessor or "")
        needed = before is None or before.cancel_asked_at is None or before.cancel_asked_at > job.created_at
        return needed and job.created_at <= now
