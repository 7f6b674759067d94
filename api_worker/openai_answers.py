"""What OpenAI and servers that speak its API answer, as its SDK reads it, and what that means in our words."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from api_worker.provider import Offer, RemoteJob, RemoteState, state_of
from api_worker.refusals import NO_SLOT, Meaning, cause_of, meaning_of
from queue_app.lifecycle import Cause

DATED = "%Y-%m-%d"
FILES = ("training_file", "validation_file")  # as an error's parameter
KEY = "tuneyard"  # the metadata pair that carries the submission key
ABOUT_JOBS = re.compile(r"(?i)\b(fine-tun\w* )?jobs?\b")
KEY_IN_SUFFIX = re.compile(r"(?:^|-)(ty-[a-z2-7]{10}(?:-\d+)?)$")

STATES = {
    "validating_files": RemoteState.VALIDATING,
    "queued": RemoteState.QUEUED,
    "running": RemoteState.RUNNING,
    "paused": RemoteState.PAUSED,
    "succeeded": RemoteState.SUCCEEDED,
    "failed": RemoteState.FAILED,
    "cancelled": RemoteState.CANCELLED,
}


def seen(job: Any) -> RemoteJob:
    """A job in our words."""
    state = state_of(job.status, STATES)
    look = RemoteJob(
        id=job.id,
        state=state,
        word=str(job.status),
        key=key_of(job),
        base_model=job.model,
        created_at=datetime.fromtimestamp(job.created_at, UTC),
    )
    if state == RemoteState.FAILED and job.error is not None and job.error.message:
        cause = cause_of(job.error.code, job.error.param)
        said = f"{job.error.message} ({job.error.code})"
        full = cause == Cause.PROVIDER and NO_SLOT.search(job.error.message) is not None
        return replace(look, failure=said, cause=cause, wants_slot=full)
    told: Any = job.model_extra or {}
    if state == RemoteState.RUNNING and isinstance(told.get("trained_steps"), int):  # Nebius
        return replace(look, step=told["trained_steps"], steps=told.get("total_steps"))
    return look


def meaning(status: int, code: str | None, text: str) -> Meaning | None:
    """What OpenAI's words for too many unfinished jobs are is not documented: a 429 that speaks of jobs is taken so."""
    common = meaning_of(status, code)
    return Meaning.SLOT if status == 429 and common == Meaning.RETRY and ABOUT_JOBS.search(text) else None


def key_of(job: Any) -> str | None:
    """The submission key that a job carries."""
    told: Any = job.model_extra or {}
    suffix = KEY_IN_SUFFIX.search(str(told.get("suffix") or told.get("user_provided_suffix") or ""))
    return (job.metadata or {}).get(KEY) or (suffix[1] if suffix else None)


def offer(model: Any, limits: dict[str, Any]) -> Offer:
    """What is told of a model.

    Raises:
        ValueError: the day on which it shuts down is none
    """
    shuts_down = datetime.strptime(model.shutdown_date, DATED).replace(tzinfo=UTC) if model.shutdown_date else None
    return Offer(
        model=model.id,
        shuts_down=shuts_down.date() if shuts_down else None,
        max_jobs=limits.get("max_concurrent_jobs"),
        max_jobs_a_day=limits.get("max_total_jobs"),
        tuned=model.id.startswith("ft:"),
    )
