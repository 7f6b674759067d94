"""What Mistral answers, and what it means in our words."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from api_worker.provider import RemoteJob, RemoteState, series_of, state_of
from api_worker.refusals import cause_of_words
from queue_app.lifecycle import Cause

STATES = {
    "QUEUED": RemoteState.QUEUED,
    "STARTED": RemoteState.VALIDATING,  # not explained; it stands before VALIDATING in Mistral's list
    "VALIDATING": RemoteState.VALIDATING,
    "VALIDATED": RemoteState.QUEUED,
    "RUNNING": RemoteState.RUNNING,
    "FAILED_VALIDATION": RemoteState.FAILED,
    "FAILED": RemoteState.FAILED,
    "SUCCESS": RemoteState.SUCCEEDED,
    "CANCELLED": RemoteState.CANCELLED,
    "CANCELLATION_REQUESTED": RemoteState.CANCELLING,
}
# Both sentences are Mistral's, of jobs that ended as FAILED_VALIDATION; other words for a lack of money are not known.
NO_SLOT = re.compile(r"maximum number of jobs you can run concurrently")
NO_MONEY = re.compile(r"with your free trial|\bquota\b|\bspending limit\b", re.IGNORECASE)
KEY = re.compile(r"ty-[a-z2-7]{10}(?:-\d{1,4})?")
WORDED = ("message", "detail", "error", "reason", "msg")  # where an error's or an event's sentence is found


class Event(msgspec.Struct):
    """A change of a job's status. What its data holds is not documented."""

    created_at: int = 0
    data: dict[str, Any] | None = None


class Checkpoint(msgspec.Struct):
    step_number: int
    metrics: dict[str, float | None] = {}


class Parameters(msgspec.Struct):
    training_steps: int | None = None


class Metadata(msgspec.Struct):
    """What Mistral reckons a job costs."""

    cost: float | None = None
    cost_currency: str | None = None


class Job(msgspec.Struct):
    """A job as Mistral shows it, in full or in a list, which has neither events nor checkpoints."""

    id: str
    status: str
    auto_start: bool = True
    model: str | None = None
    created_at: int | None = None
    suffix: str | None = None
    fine_tuned_model: str | None = None
    trained_tokens: int | None = None
    hyperparameters: Parameters = msgspec.field(default_factory=Parameters)
    metadata: Metadata | None = None
    events: list[Event] | None = None
    checkpoints: list[Checkpoint] | None = None

    @property
    def state(self) -> RemoteState:
        if self.status == "VALIDATED" and not self.auto_start:
            return RemoteState.PAUSED  # until somebody starts it
        return state_of(self.status, STATES)

    @property
    def series(self) -> tuple[dict[str, float], ...]:
        rows = [{"step": found.step_number, **found.metrics} for found in self.checkpoints or ()]
        return series_of(rows)

    @property
    def failure(self) -> str | None:
        newest = sorted(self.events or (), key=lambda event: event.created_at, reverse=True)
        return next(filter(None, (words(event.data) for event in newest)), None)


def seen(job: Job) -> RemoteJob:
    """A job in our words."""
    key = job.suffix if KEY.fullmatch(job.suffix or "") else None
    made_at = None if job.created_at is None else datetime.fromtimestamp(job.created_at, UTC)
    look = RemoteJob(job.id, job.state, job.status, key, base_model=job.model, created_at=made_at)
    if job.state == RemoteState.RUNNING and job.series:
        newest, steps = job.series[-1], job.hyperparameters.training_steps
        return replace(look, step=int(newest["step"]), steps=steps, train_loss=newest.get("train_loss"))
    if job.state != RemoteState.FAILED:
        return look
    said = job.failure or ""
    if NO_SLOT.search(said):
        return replace(look, failure=said, cause=Cause.QUOTA, wants_slot=True)
    invalid = job.status == "FAILED_VALIDATION"  # then nothing was trained, whosever matter it is
    whose = cause_of_words(said) if invalid else Cause.PROVIDER
    cause = Cause.QUOTA if NO_MONEY.search(said) else whose
    return replace(look, failure=said or None, cause=cause, is_billed=False if invalid else None)


def as_sent(told: dict[str, Any]) -> dict[str, Any]:
    """What the SDK has read; of a kind that it has no class for it keeps what came."""
    found: dict[str, Any] = told["raw"] if told.get("is_unknown") else told
    return found


def words(told: Any) -> str:
    """The sentence in an error or an event, however deep it lies, with the field that it blames."""
    if isinstance(told, str):
        return told
    if isinstance(told, list):
        return "; ".join(filter(None, map(words, told)))
    if not isinstance(told, dict):
        return ""
    said = next(filter(None, (words(told.get(name)) for name in WORDED)), "")
    place = told.get("loc")
    field = ".".join(str(part) for part in place if part != "body") if isinstance(place, list) else ""
    return f"{field}: {said}" if field and said else said


def json_of(text: str) -> Any:
    """The JSON of an error's body; None: it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return None
