"""The sandbox's answers in Mistral's shapes: those of the last OpenAPI document that had its fine-tuning routes."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from api_worker.sandbox.remote_job import DISCLAIMER, Phase, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api_worker.sandbox.refusals import Denial
    from api_worker.sandbox.remote_job import SandboxJob
    from api_worker.sandbox.state import SandboxFile

WORDS = {
    Phase.VALIDATING: "VALIDATING",
    Phase.QUEUED: "QUEUED",
    Phase.RUNNING: "RUNNING",
    Phase.ODD: "RETICULATING",
    Phase.FINISHING: "RUNNING",
    Phase.PAUSED: "VALIDATED",  # until it is started, where that was not to happen by itself
    Phase.CANCELLING: "CANCELLATION_REQUESTED",
    Phase.SUCCEEDED: "SUCCESS",
    Phase.FAILED: "FAILED",
    Phase.CANCELLED: "CANCELLED",
}
AT_VALIDATION = (Reason.BAD_FILE, Reason.TOO_FEW, Reason.SLOT, Reason.QUOTA)  # others: by when it happens
SAID = {
    Reason.SLOT: "You have reached the maximum number of jobs you can run concurrently. Please try again later.",
    Reason.QUOTA: "You have reached the maximum number of jobs you can launch with your free trial. "
    "You can subscribe via the console.",
    Reason.BROKEN: "The job failed due to an internal error.",
}
CAPABILITIES = ("completion_chat", "function_calling", "fine_tuning")
MAX_CONTEXT = 32768
BYTES_PER_TOKEN = 4  # a guess; there is no tokenizer here
LEAST_USD = 4.0  # what a job cost at the least, when Mistral still took them


def word_of(job: SandboxJob, now: float) -> str:
    """Mistral's word for where a job is."""
    phase = job.phase(now)
    if phase == Phase.FAILED and job.failure is not None:
        failure = job.failure
        early = failure.reason in AT_VALIDATION or failure.phase == Phase.VALIDATING
        return "FAILED_VALIDATION" if early else WORDS[phase]
    return WORDS[phase]


# -- files --------------------------------------------------------------------------------------------------------


def file_object(file: SandboxFile) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": int(file.created_at),
        "filename": file.filename,
        "purpose": "fine-tune",
        "sample_type": "instruct",
        "num_lines": file.examples,
        "mimetype": "application/jsonl",
        "source": "upload",
        "signature": file.sha256[:16],
    }


# -- jobs ---------------------------------------------------------------------------------------------------------


def tuned_model(job: SandboxJob) -> str:
    """The name of a model that does not exist."""
    day = datetime.fromtimestamp(job.created_at, UTC).strftime("%Y%m%d")
    return ":".join(filter(None, ("ft", job.model, "sandbox", day, job.suffix, job.id[:8])))


def listed_job(job: SandboxJob, now: float) -> dict[str, Any]:
    """A job as it is shown in a list, and when it is created."""
    finished, done = job.finished_at(now), job.phase(now) == Phase.SUCCEEDED
    return {
        "id": job.id,
        "auto_start": job.asked["auto_start"],
        "model": job.model,
        "status": word_of(job, now),
        "created_at": int(job.created_at),
        "modified_at": int(now if finished is None else finished),
        "training_files": [job.training_file],
        "validation_files": [job.validation_file] if job.validation_file else [],
        "object": "job",
        "fine_tuned_model": tuned_model(job) if done else None,
        "suffix": job.suffix,
        "integrations": [],
        "trained_tokens": 0 if done else None,
        "metadata": {"cost": 0.0, "cost_currency": "USD", "expected_duration_seconds": _lasts(job)},
        "job_type": "completion",
        "hyperparameters": {**job.asked["hyperparameters"], "training_steps": job.steps},
        "repositories": [],
    }


def job_object(job: SandboxJob, now: float) -> dict[str, Any]:
    """A job as it is shown by itself."""
    events = [event for event in _story(job, now) if event["created_at"] <= now]
    return {**listed_job(job, now), "events": events[::-1], "checkpoints": _checkpoints(job, now)}


def _lasts(job: SandboxJob) -> int:
    return math.ceil(job.ends_at - job.created_at)


def _story(job: SandboxJob, now: float) -> Iterator[dict[str, Any]]:
    """What has happened to a job, oldest first. What the data of an event holds is not documented."""
    yield _event("job-created", job.created_at, {"note": DISCLAIMER})
    if job.step(now) or job.phase(now) in (Phase.RUNNING, Phase.ODD):
        yield _event("status-updated", job.running_at, {"status": "RUNNING"})
    finished = job.finished_at(now)
    if finished is not None:
        failure = job.failure if job.phase(now) == Phase.FAILED else None
        error = {"error": failure.said or SAID[failure.reason]} if failure else {}
        yield _event("status-updated", finished, {"status": word_of(job, now), **error})


def _event(name: str, at: float, data: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "created_at": int(at), "data": data}


def _checkpoints(job: SandboxJob, now: float) -> list[dict[str, Any]]:
    """One an epoch that has passed, newest first, without figures: there are none."""
    done = job.step(now)
    steps = [step for epoch in range(job.epochs, 0, -1) if (step := job.steps * epoch // job.epochs) <= done]
    empty = {"train_loss": None, "valid_loss": None, "valid_mean_token_accuracy": None}
    return [{"metrics": empty, "step_number": step, "created_at": int(job.time_of(step))} for step in steps]


def dry_run(file: SandboxFile, epochs: int) -> dict[str, Any]:
    """What is told of a job that is not to be made: tokens by the file's size, and the price that was the least."""
    tokens = math.ceil(file.size_bytes / BYTES_PER_TOKEN)
    return {
        "object": "job.metadata",
        "details": DISCLAIMER,
        "deprecated": True,
        "cost": LEAST_USD,
        "cost_currency": "USD",
        "data_tokens": tokens,
        "train_tokens": tokens * epochs,
        "epochs": epochs,
    }


# -- models, refusals ---------------------------------------------------------------------------------------------


def base_model(name: str) -> dict[str, Any]:
    return {**_model(name), "type": "base"}


def fine_tune(job: SandboxJob) -> dict[str, Any]:
    own = {"type": "fine-tuned", "job": job.id, "root": job.model, "archived": False}
    return {**_model(tuned_model(job)), **own, "created": int(job.ends_at)}


def _model(name: str) -> dict[str, Any]:
    capabilities = dict.fromkeys(CAPABILITIES, True)
    return {"id": name, "object": "model", "capabilities": capabilities, "max_context_length": MAX_CONTEXT}


def error_object(denial: Denial) -> dict[str, Any]:
    """A refusal: of a body in the shape of its checks, else as an error."""
    if denial.status == 422 and denial.param is not None:
        return {"detail": [{"type": "value_error", "loc": ["body", denial.param], "msg": denial.message}]}
    if denial.status == 422:
        return {"detail": denial.message}
    kind = denial.kind or ("internal_server_error" if denial.status >= 500 else "invalid_request_error")
    return {"object": "error", "message": denial.message, "type": kind, "param": denial.param, "code": denial.code}
