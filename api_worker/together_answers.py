"""What Together answers, and what it means in our words.

The fields are those of its SDK (3.1.1) where they differ from its older OpenAPI document.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from api_worker.provider import RemoteJob, RemoteState, series_of, state_of
from api_worker.refusals import NO_SLOT
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KEY = re.compile(r"(?:^|-)(ty-[a-z2-7]{10}(?:-\d{1,4})?)(?:-[0-9a-f]{8})?$")  # ends a suffix, or a tuned model's name
JOB_ID = re.compile(r"\bft-[0-9a-f][0-9a-f-]{6,}[0-9a-f]\b")
STEP = "train/global_step"  # in the rows of training and of validation
NANODOLLARS = 1e9  # a job's price is told in them; an estimate in dollars
LONG_AGO = datetime.min.replace(tzinfo=UTC)
RESTARTED_WITHIN = timedelta(hours=1)  # an heir without a key is taken for one so soon after the restart alone

STATES = {
    "pending": RemoteState.QUEUED,
    "queued": RemoteState.QUEUED,
    "running": RemoteState.RUNNING,
    "compressing": RemoteState.FINISHING,
    "uploading": RemoteState.FINISHING,
    "completed": RemoteState.SUCCEEDED,
    "cancel_requested": RemoteState.CANCELLING,
    "cancelled": RemoteState.CANCELLED,
    "error": RemoteState.FAILED,
    "user_error": RemoteState.FAILED,
}


class Event(msgspec.Struct):
    """One line of a job's story. The SDK writes types and levels in capitals in one place and small in another."""

    type: str | None = None
    message: str | None = None
    level: str | None = None
    created_at: str | None = None
    step: float | None = None
    total_steps: float | None = None

    @property
    def kind(self) -> str:
        return (self.type or "").lower()

    @property
    def at(self) -> datetime:
        return _time_of(self.created_at) or LONG_AGO

    @property
    def is_warning(self) -> bool:
        grave = (self.level or "").lower().removeprefix("legacy_i") in ("warning", "error")
        return grave or self.kind in ("warning", "refund", "early_stopped", "job_restarted")

    @property
    def is_complaint(self) -> bool:
        return self.kind in ("job_error", "job_user_error", "billing_limit") or (self.level or "").lower() == "error"


class Job(msgspec.Struct):
    """A job as Together shows it, in full or in a list. Only a list is sure to name the suffix."""

    id: str
    status: str | None = None
    created_at: str | None = None
    model: str | None = None
    training_file: str | None = None
    suffix: str | None = None
    model_output_name: str | None = None
    model_object_name: str | None = None
    adapter_object_name: str | None = None
    token_count: float | None = None
    total_price: float | None = None
    events: list[Event] | None = None

    @property
    def state(self) -> RemoteState:
        return state_of(self.status, STATES)

    @property
    def made_at(self) -> datetime | None:
        return _time_of(self.created_at)

    @property
    def usd(self) -> float | None:
        return None if self.total_price is None else self.total_price / NANODOLLARS

    @property
    def rank(self) -> datetime:
        """By which the newest job of several is told."""
        return self.made_at or LONG_AGO

    @property
    def key(self) -> str | None:
        names = (self.suffix, self.model_output_name)
        return next((found[1] for name in names if (found := KEY.search(name or ""))), None)

    def carries(self, key: str) -> bool:
        return key in (self.suffix, self.key) or (self.suffix or "").endswith(f"-{key}")

    def is_kin_of(self, other: Job) -> bool:
        """Whether both were made for one submission."""
        return self.id != other.id and self.key is not None and self.key == other.key

    def may_follow(self, other: Job, restarted_at: datetime) -> bool:
        """Whether this shows no key, and is like what a restart of the other would make, just after one."""
        alike = (self.training_file, self.model) == (other.training_file, other.model)
        soon = timedelta() <= self.rank - restarted_at <= RESTARTED_WITHIN
        return self.key is None and self.training_file is not None and alike and soon

    @property
    def tuned_model(self) -> str | None:
        return self.model_output_name or self.model_object_name or self.adapter_object_name


class Jobs(msgspec.Struct):
    data: list[Job]


class Events(msgspec.Struct):
    data: list[Event]


class Metrics(msgspec.Struct):
    metrics: list[dict[str, float | None]] | None = None


class ValidationReport(msgspec.Struct):
    error: str | None = None


class File(msgspec.Struct):
    """An uploaded file. Older servers tell `Processed` alone."""

    id: str
    processing_status: str | None = None
    validation_report: ValidationReport | None = None
    processed: bool | None = msgspec.field(name="Processed", default=None)


class Price(msgspec.Struct):
    """An answer about the price; without `estimation_available`, from a server older than that."""

    estimation_available: bool = True
    estimated_total_price: float | None = None
    estimated_train_token_count: float | None = None
    estimated_eval_token_count: float | None = None
    allowed_to_proceed: bool | None = None
    user_limit: float | None = None


class Supported(msgspec.Struct):
    models: list[str]


class Limits(msgspec.Struct):
    max_seq_length_sft: int | None = None


def seen(job: Job, events: Sequence[Event]) -> RemoteJob:
    """A job in our words, with what its own events tell."""
    total = max((event.total_steps or 0 for event in events), default=0)
    look = RemoteJob(
        id=job.id,
        state=job.state,
        word=job.status or "",
        key=job.key,
        base_model=job.model,
        created_at=job.made_at,
        step=int(max((event.step or 0 for event in events), default=0)) or None,
        steps=int(total) or None,
    )
    if job.state not in (RemoteState.FAILED, RemoteState.CANCELLED):
        return look
    # what was cancelled, by whomever, is billed for its completed steps; of what failed the documents do not say
    is_billed = True if look.step and job.state == RemoteState.CANCELLED else None
    look = replace(look, usd=job.usd or None, is_billed=is_billed)
    failure = next((event.message for event in reversed(events) if event.is_complaint), None)
    if look.step is None and NO_SLOT.search(failure or ""):
        return replace(look, state=RemoteState.FAILED, failure=failure, cause=Cause.PROVIDER, wants_slot=True)
    if any(event.kind == "billing_limit" for event in events):  # Together cancels such a job itself
        return replace(look, state=RemoteState.FAILED, failure=failure, cause=Cause.QUOTA)
    if job.state == RemoteState.CANCELLED:
        return replace(look, failure=failure)
    # Its documents call a user error one of the inputs, and name the data first.
    return replace(look, failure=failure, cause=Cause.DATA if job.status == "user_error" else Cause.PROVIDER)


def series(metrics: Metrics) -> tuple[dict[str, float], ...]:
    """One row a step, of what was measured in training and on the validation file."""
    rows: dict[float, dict[str, float]] = {}
    for told in metrics.metrics or ():
        step = told.get(STEP)
        if step is not None:
            rows.setdefault(step, {"step": step}).update(_figures(told))
    return series_of(rows.values())


def _figures(told: Mapping[str, float | None]) -> dict[str, float]:
    """A row of Together's under the names that other providers use: train_loss, valid_loss."""
    skipped = (STEP, "timestamp")
    found = {name: value for name, value in told.items() if name not in skipped and value is not None}
    names = {name: name.replace("eval/", "valid/").replace("/", "_") for name in found}
    return {names[name]: value for name, value in found.items() if math.isfinite(value)}


def _time_of(text: str | None) -> datetime | None:
    try:
        at = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
