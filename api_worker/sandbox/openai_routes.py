"""OpenAI's files, fine-tuning, models and chat routes, and those of the servers that speak like it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from api_worker.sandbox.openai_jobs import JobRoutes
from api_worker.sandbox.openai_models import ModelRoutes
from api_worker.sandbox.openai_orders import MODELS, Flavour, key_of
from api_worker.sandbox.openai_shapes import FULL, QUOTA, error_object
from api_worker.sandbox.openai_uploads import FileRoutes
from api_worker.sandbox.refusals import Denial
from api_worker.sandbox.remote_job import Phase
from api_worker.sandbox.state import new_id
from api_worker.sandbox.vendor import Entry, Vendor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request

    from api_worker.sandbox.desk import Desk

WORDS = {
    Phase.VALIDATING: "validating_files",
    Phase.QUEUED: "queued",
    Phase.RUNNING: "running",
    Phase.ODD: "reticulating",
    Phase.FINISHING: "running",
    Phase.PAUSED: "paused",  # beside those of the specification, which has the routes without the word
    Phase.CANCELLING: "running",
    Phase.SUCCEEDED: "succeeded",
    Phase.FAILED: "failed",
    Phase.CANCELLED: "cancelled",
}
DAILY = (
    "This fine-tune request has been rate-limited. Your organization has reached the maximum of 5 fine-tuning requests "
    "per day for the model."
)
DENIALS = {
    "daily-cap": Denial(429, DAILY, "daily_rate_limit_exceeded", kind="invalid_request_error"),
    "quota": Denial(429, QUOTA, "insufficient_quota", kind="insufficient_quota"),
    "slot": Denial(429, FULL, "rate_limit_exceeded"),
}


def openai_shaped(name: str, prefix: str, flavour: Flavour, **differences: Any) -> Vendor:
    """A vendor whose API is OpenAI's but for its flavour."""
    plain: dict[str, Any] = {"words": WORDS, "denials": DENIALS, "models": MODELS, "min_examples": 10}
    return Vendor(
        name=name,
        prefix=prefix,
        entries=partial(_entries, flavour),
        key_of=partial(_key_of, flavour),
        error_body=error_object,
        new_job_id=partial(new_id, "ftjob"),
        **{**plain, **differences},
    )


def _key_of(flavour: Flavour, _: Request, body: dict[str, Any]) -> str:
    return key_of(body, flavour)


def _entries(flavour: Flavour, desk: Desk) -> Iterable[Entry]:
    files, jobs, models = FileRoutes(desk, flavour), JobRoutes(desk, flavour), ModelRoutes(desk)
    many, one = "/fine_tuning/jobs", "/fine_tuning/jobs/{job_id}"
    yield Entry("POST", "/files", "upload", files.upload)
    yield Entry("GET", "/files", "files", files.listed)
    yield Entry("GET", "/files/{file_id}", "files", files.retrieve)
    yield Entry("DELETE", "/files/{file_id}", "files", files.delete)
    yield Entry("GET", "/files/{file_id}/content", "content", files.content)
    yield Entry("POST", many, "create", jobs.create)
    yield Entry("GET", many, "list", jobs.listed)
    yield Entry("GET", one, "retrieve", jobs.retrieve)
    yield Entry("POST", f"{one}/cancel", "cancel", jobs.cancel)
    yield Entry("POST", f"{one}/pause", "pause", jobs.pause)
    yield Entry("POST", f"{one}/resume", "resume", jobs.resume)
    yield Entry("GET", f"{one}/events", "events", jobs.events)
    yield Entry("GET", f"{one}/checkpoints", "checkpoints", jobs.checkpoints)
    yield Entry("GET", "/models", "models", models.listed)
    yield Entry("GET", "/models/{model:path}", "models", models.retrieve)
    yield Entry("POST", "/chat/completions", "chat", models.chat)
    if flavour.has_model_limits:
        yield Entry("GET", "/fine_tuning/model_limits", "limits", models.limits)


VENDOR = openai_shaped("openai", "/v1", Flavour())
