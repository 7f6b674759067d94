"""A job at the sandbox. What it is follows from when it was made and what the clock says, so nothing has to run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

BATCH = 8  # examples a pretended step takes


@dataclass(frozen=True)
class Pace:
    """How long a job stays in each state."""

    validate_seconds: float = 1.0
    queue_seconds: float = 1.0
    run_seconds: float = 5.0


@dataclass(frozen=True)
class SandboxJob:
    """What was asked, when, and what is known of how it will end. Times are POSIX seconds."""

    id: str
    created_at: float
    model: str
    training_file: str
    validation_file: str | None
    epochs: int
    seed: int
    suffix: str | None
    metadata: dict[str, str]
    examples: int
    pace: Pace = field(default_factory=Pace)
    error: dict[str, Any] | None = None  # what the validation finds, when it ends
    cancelled_at: float | None = None

    @classmethod
    def read(cls, row: dict[str, Any]) -> SandboxJob:
        """The job of a journal's row."""
        return cls(**{**row, "pace": Pace(**row["pace"])})

    @property
    def key(self) -> str:
        """The submission key it was created under, or nothing."""
        return self.metadata.get("tuneyard", "")

    @property
    def queued_at(self) -> float:
        return self.created_at + self.pace.validate_seconds

    @property
    def running_at(self) -> float:
        return self.queued_at + self.pace.queue_seconds

    @property
    def ends_at(self) -> float:
        """When it ends, unless it is cancelled."""
        return self.queued_at if self.error else self.running_at + self.pace.run_seconds

    def finished_at(self, now: float) -> float | None:
        """When it ended, if it has."""
        end = self.ends_at if self.cancelled_at is None else self.cancelled_at
        return end if end <= now else None

    def status(self, now: float) -> str:
        """OpenAI's word for its state."""
        if self.cancelled_at is not None and self.cancelled_at <= now:
            return "cancelled"
        if now < self.queued_at:
            return "validating_files"
        if self.error:
            return "failed"
        if now < self.running_at:
            return "queued"
        return "running" if now < self.ends_at else "succeeded"

    @property
    def steps(self) -> int:
        return max(1, math.ceil(self.examples / BATCH) * self.epochs)

    def step(self, now: float) -> int:
        """How many of its pretended steps the clock has passed."""
        until = min(now, self.cancelled_at if self.cancelled_at is not None else now)
        if self.error or until < self.running_at:
            return 0
        if until >= self.ends_at:
            return self.steps
        return int(self.steps * (until - self.running_at) / self.pace.run_seconds)

    def time_of(self, step: int) -> float:
        """When the clock passes a step."""
        return self.running_at + self.pace.run_seconds * step / self.steps

    @property
    def tuned_model(self) -> str:
        """The name of a model that does not exist."""
        return f"ft:{self.model}:sandbox:{self.suffix or ''}:{self.id[-8:]}"

    @property
    def result_file(self) -> str:
        return f"file-results-{self.id.removeprefix('ftjob-')}"


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
