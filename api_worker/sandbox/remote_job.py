"""A job at the sandbox. What it is follows from when it was made and what the clock says, so nothing has to run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

BATCH = 8  # examples a pretended step takes
DISCLAIMER = "This is the Tuneyard sandbox: nothing is trained, and no model comes of it."


class Phase(StrEnum):
    """Where a job is, in nobody's words: each vendor has a table of its own."""

    VALIDATING = "validating"
    QUEUED = "queued"
    RUNNING = "running"
    ODD = "odd"  # it runs, under a word that nobody knows
    FINISHING = "finishing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED)


class Reason(StrEnum):
    """Why a job ends without success."""

    BAD_FILE = "bad_file"
    TOO_FEW = "too_few"
    SLOT = "slot"  # the account had none free
    QUOTA = "quota"  # the account's money ran out
    BROKEN = "broken"  # the provider's own fault
    RESTARTED = "restarted"  # the provider goes on with it under another id


@dataclass(frozen=True)
class Failure:
    """How a job is going to end, known from its beginning."""

    reason: Reason
    said: str = ""  # what is wrong with the file
    file: str = ""  # "training" or "validation"
    phase: Phase = Phase.VALIDATING  # where it happens: at the end of VALIDATING, or half-way through RUNNING


@dataclass(frozen=True)
class Pace:
    """How long a job stays in each phase."""

    validate_seconds: float = 1.0
    queue_seconds: float = 1.0
    run_seconds: float = 5.0
    finish_seconds: float = 0.0
    cancel_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A fine-tune as a vendor's routes have read it from a request."""

    id: str
    key: str  # the submission key it carries, or nothing
    model: str
    training_file: str
    validation_file: str | None = None
    method: str = "sft"  # in the vendor's words
    format: str = ""  # of the examples that the method takes, in the examiner's words; empty: any
    epochs: int = 1
    seed: int = 0
    suffix: str | None = None
    asked: dict[str, Any] = field(default_factory=dict)  # what else the vendor's shapes repeat


@dataclass(frozen=True, kw_only=True)
class SandboxJob(Plan):
    """A plan, when it was made, and what is known of how it will end. Times are POSIX seconds."""

    created_at: float
    examples: int
    pace: Pace = field(default_factory=Pace)
    failure: Failure | None = None
    odd_seconds: float = 0.0  # how long it runs under a word that nobody knows
    successor: str | None = None  # the id under which the provider goes on with it
    predecessor: str | None = None
    cancel_asked_at: float | None = None
    paused_at: float | None = None  # it stands still since
    stood_seconds: float = 0.0  # and has stood still for that long before

    @classmethod
    def read(cls, row: dict[str, Any]) -> SandboxJob:
        """The job of a journal's row."""
        failure = row["failure"] and Failure(**row["failure"])
        return cls(**{**row, "pace": Pace(**row["pace"]), "failure": failure})

    # -- its clock ------------------------------------------------------------------------------------------------

    @property
    def queued_at(self) -> float:
        return self.created_at + self.pace.validate_seconds

    @property
    def running_at(self) -> float:
        """When it starts to run; earlier than that only by the time that it has stood still."""
        return self.queued_at + self.pace.queue_seconds

    @property
    def ends_at(self) -> float:
        """When it ends, unless it is cancelled or stands still."""
        return self.created_at + self.stood_seconds + self._life_seconds

    @property
    def holds_slot(self) -> bool:
        """Whether it takes one of the account's slots until it ends."""
        return self.failure is None or self.failure.reason != Reason.SLOT

    def finished_at(self, now: float) -> float | None:
        """When it ended, if it has."""
        if self.cancel_asked_at is not None:
            end = self.cancel_asked_at + self.pace.cancel_seconds
        else:
            end = math.inf if self.paused_at is not None else self.ends_at
        return end if end <= now else None

    def phase(self, now: float) -> Phase:
        """Where it is."""
        if self.cancel_asked_at is not None and self.cancel_asked_at <= now:
            return Phase.CANCELLING if self.finished_at(now) is None else Phase.CANCELLED
        if self.finished_at(now) is not None:
            return Phase.FAILED if self.failure else Phase.SUCCEEDED
        return self._unfinished_phase(now)

    def _unfinished_phase(self, now: float) -> Phase:
        lived, ran = self._lived_seconds(now), self._run_seconds(now)
        if self.paused_at is not None:
            return Phase.PAUSED
        if lived < self.pace.validate_seconds:
            return Phase.VALIDATING
        if ran < 0:
            return Phase.QUEUED
        if ran < self.odd_seconds:
            return Phase.ODD
        return Phase.RUNNING if ran < self.pace.run_seconds else Phase.FINISHING

    def _lived_seconds(self, now: float) -> float:
        """How long it has lived without standing still."""
        until = [at for at in (now, self.paused_at, self.cancel_asked_at) if at is not None]
        return min(until) - self.created_at - self.stood_seconds

    def _run_seconds(self, now: float) -> float:
        """How long it has run; less than nothing before it does."""
        return self._lived_seconds(now) - self.pace.validate_seconds - self.pace.queue_seconds

    @property
    def _life_seconds(self) -> float:
        pace = self.pace
        if self.failure is None:
            return pace.validate_seconds + pace.queue_seconds + pace.run_seconds + pace.finish_seconds
        if self.failure.phase == Phase.VALIDATING:
            return pace.validate_seconds
        return pace.validate_seconds + pace.queue_seconds + pace.run_seconds / 2

    # -- its steps ------------------------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        return max(1, math.ceil(self.examples / BATCH) * self.epochs)

    def step(self, now: float) -> int:
        """How many of its pretended steps the clock has passed."""
        ran = self._run_seconds(min(now, self.ends_at))
        if ran < 0 or (self.failure and self.failure.phase == Phase.VALIDATING):
            return 0
        if ran >= self.pace.run_seconds:
            return self.steps
        return int(self.steps * ran / self.pace.run_seconds)

    def time_of(self, step: int) -> float:
        """When the clock passes a step, if the job does not stand still."""
        return self.running_at + self.pace.run_seconds * step / self.steps


def most_at_once(spans: list[tuple[float, float]]) -> int:
    """The largest number of half-open spans that hold one moment."""
    moments = sorted(
        [(start, 1) for start, end in spans if end > start] + [(end, -1) for start, end in spans if end > start]
    )
    held = most = 0
    for _, change in moments:
        held += change
        most = max(most, held)
    return most
