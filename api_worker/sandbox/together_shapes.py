"""The sandbox's answers in Together's shapes: those of its OpenAPI document, with what its newer SDK (3.1.1) adds."""

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

USER = "user-sandbox"
WORDS = {
    Phase.VALIDATING: "pending",
    Phase.QUEUED: "queued",
    Phase.RUNNING: "running",
    Phase.ODD: "reticulating",
    Phase.FINISHING: "uploading",
    Phase.PAUSED: "running",  # Together has no such thing, and no route that leads here
    Phase.CANCELLING: "cancel_requested",
    Phase.SUCCEEDED: "completed",
    Phase.FAILED: "error",
    Phase.CANCELLED: "cancelled",
}
ENDS = {Reason.BAD_FILE: "user_error", Reason.TOO_FEW: "user_error", Reason.QUOTA: "cancelled"}  # others: "error"
SAID = {
    Reason.QUOTA: "The account's balance does not suffice for this job.",
    Reason.SLOT: "The account already runs as many fine-tuning jobs as it may at once.",
    Reason.BROKEN: "The job failed due to an internal error.",
}
MAX_EPOCHS = 20
MAX_EVALS = 100
MAX_RANK = 64
MAX_BATCH = 128
MAX_TOKENS = 8192
USER_LIMIT_USD = 100.0
BYTES_PER_TOKEN = 4  # a guess; there is no tokenizer here
USD_PER_MILLION_TOKENS = 0.48  # what a LoRA of a model up to 16B cost when last seen


def word_of(job: SandboxJob, now: float) -> str:
    """Together's word for where a job is."""
    phase = job.phase(now)
    if phase == Phase.FAILED and job.failure is not None:
        return ENDS.get(job.failure.reason, WORDS[phase])
    return WORDS[phase]


# -- files --------------------------------------------------------------------------------------------------------


def processing_status(file: SandboxFile, now: float) -> str:
    if now < file.ready_at:
        return "RUNNING"
    if file.is_broken:
        return "FAILED"
    return "INVALID_FORMAT" if file.problem else "COMPLETED"


def file_object(file: SandboxFile, now: float) -> dict[str, Any]:
    status = processing_status(file, now)
    shown: dict[str, Any] = {
        "id": file.id,
        "object": "file",
        "created_at": int(file.created_at),
        "filename": file.filename,
        "bytes": file.size_bytes,
        "purpose": "fine-tune",
        "FileType": file.filename.rsplit(".", 1)[-1],
        "Processed": status == "COMPLETED",
        "processing_status": status,
    }
    if status in ("COMPLETED", "INVALID_FORMAT"):
        report = {"valid": not file.problem, "file_id": file.id, "nlines": file.examples}
        wrong = {"error": file.problem, "error_type": "INVALID_FORMAT"} if file.problem else {}
        shown["validation_report"] = {**report, "dataset_format": file.format, **wrong}
    return shown


# -- jobs ---------------------------------------------------------------------------------------------------------


def tuned_model(job: SandboxJob) -> str:
    """The name of a model that does not exist."""
    name = "-".join(filter(None, (job.model.rsplit("/", 1)[-1], job.suffix, job.id[-8:])))
    return f"sandbox/{name}"


def job_object(job: SandboxJob, now: float) -> dict[str, Any]:
    """A job as it is shown by itself: with its events, and without its suffix."""
    return {**_both(job, now), "events": job_events(job, now), "epochs_completed": _epochs_done(job, now)}


def listed_job(job: SandboxJob, now: float) -> dict[str, Any]:
    """A job as it is shown in a list, and when it is created or cancelled."""
    shown = {**_both(job, now), "events": [], "random_seed": job.seed}
    return shown if job.suffix is None else {**shown, "suffix": job.suffix}


def _both(job: SandboxJob, now: float) -> dict[str, Any]:
    finished = job.finished_at(now)
    shown = {
        "id": job.id,
        "status": word_of(job, now),
        "created_at": _iso(job.created_at),
        "updated_at": _iso(finished if finished is not None else now),
        "user_id": USER,
        "model": job.model,
        "model_output_name": tuned_model(job),
        "training_file": job.training_file,
        "n_epochs": job.epochs,
        "training_method": job.asked["training_method"],
        "training_type": job.asked["training_type"],
        "n_evals": job.asked["n_evals"],
        "token_count": 0,
        "total_price": 0,
    }
    return shown if job.validation_file is None else {**shown, "validation_file": job.validation_file}


def _epochs_done(job: SandboxJob, now: float) -> int:
    return job.step(now) * job.epochs // job.steps


def job_events(job: SandboxJob, now: float) -> list[dict[str, Any]]:
    """What has happened to a job so far, oldest first."""
    return [event for event in _story(job, now) if event["created_at"] <= _iso(now)]


def _story(job: SandboxJob, now: float) -> Iterator[dict[str, Any]]:
    yield _event(job, "job_pending", job.created_at, "The job waits for its turn.")
    yield _event(job, "warning", job.created_at, DISCLAIMER, level="warning")
    done = job.step(now)
    if done or job.phase(now) in (Phase.RUNNING, Phase.ODD):
        yield _event(job, "training_start", job.running_at, "The job pretends to train.")
    for epoch in range(1, job.epochs + 1):
        step = math.ceil(job.steps * epoch / job.epochs)
        if step <= done:
            yield _event(
                job, "epoch_complete", job.time_of(step), f"Epoch {epoch} has passed; nothing was trained.", step
            )
    if job.cancel_asked_at is not None:
        yield _event(job, "cancel_requested", job.cancel_asked_at, "Somebody asked for the job to be cancelled.")
    finished = job.finished_at(now)
    if finished is not None:
        yield from _ending(job, job.phase(now), finished)


def _ending(job: SandboxJob, phase: Phase, at: float) -> Iterator[dict[str, Any]]:
    if phase == Phase.SUCCEEDED:
        yield _event(job, "job_complete", at, "The job is complete; nothing was trained.", job.steps)
    elif phase == Phase.CANCELLED:
        yield _event(job, "job_stopped", at, "The job was stopped.")
    elif job.failure is not None and job.failure.reason == Reason.RESTARTED:
        yield _event(job, "job_error", at, "An internal error occurred.", level="error")
        yield _event(job, "job_restarted", at, f"The job was restarted. The new job's ID is {job.successor}.")
        yield _event(job, "refund", at, "What the job had cost was refunded.")
    elif job.failure is not None:
        kind = "billing_limit" if job.failure.reason == Reason.QUOTA else "job_error"
        yield _event(job, kind, at, job.failure.said or SAID.get(job.failure.reason, ""), level="error")


def _event(
    job: SandboxJob, kind: str, at: float, message: str, step: int = 0, *, level: str = "info"
) -> dict[str, Any]:
    return {
        "object": "fine-tune-event",
        "created_at": _iso(at),
        "level": level,
        "message": message,
        "type": kind,
        "param_count": 0,
        "token_count": 0,
        "total_steps": job.steps,
        "wandb_url": "",
        "step": step,
        "checkpoint_path": "",
        "model_path": "",
        "training_offset": 0,
        "hash": "",
    }


def metrics(job: SandboxJob, now: float, *, since: float = 0.0) -> dict[str, Any]:
    """A row a step that was passed after a moment, without figures: there are none."""
    steps = [step for step in range(1, job.step(now) + 1) if job.time_of(step) >= since]
    return {"metrics": [{"train/global_step": step, "timestamp": int(job.time_of(step) * 1e9)} for step in steps]}


def checkpoints(job: SandboxJob, now: float) -> dict[str, Any]:
    if job.phase(now) != Phase.SUCCEEDED:
        return {"data": []}
    made = {"checkpoint_type": "Final adapter", "created_at": _iso(job.ends_at), "step": job.steps}
    return {"data": [{**made, "path": f"sandbox://{job.id}"}]}


# -- prices, limits, refusals -------------------------------------------------------------------------------------


def estimate(training: SandboxFile, validation: SandboxFile | None, epochs: int, evals: int) -> dict[str, Any]:
    """A price by the file's size."""
    trained = math.ceil(training.size_bytes / BYTES_PER_TOKEN) * epochs
    looked_at = math.ceil(validation.size_bytes / BYTES_PER_TOKEN) * evals if validation else 0
    usd = (trained + looked_at) * USD_PER_MILLION_TOKENS / 1e6
    return {
        "estimation_available": True,
        "estimated_total_price": usd,
        "estimated_train_token_count": trained,
        "estimated_eval_token_count": looked_at,
        "allowed_to_proceed": usd <= USER_LIMIT_USD,
        "user_limit": USER_LIMIT_USD,
    }


def model_limits(model: str) -> dict[str, Any]:
    batch = {"max_batch_size": MAX_BATCH, "max_batch_size_dpo": MAX_BATCH // 2, "min_batch_size": 1}
    return {
        "model_name": model,
        "full_training": batch,
        "lora_training": {**batch, "max_rank": MAX_RANK, "default_rank": MAX_RANK, "target_modules": ["q_proj"]},
        "default_gradient_accumulation_steps": 1,
        "max_num_epochs": MAX_EPOCHS,
        "max_num_evals": MAX_EVALS,
        "max_num_checkpoints": MAX_EVALS,
        "max_learning_rate": 0.1,
        "min_learning_rate": 1e-8,
        "max_seq_length_sft": MAX_TOKENS,
        "max_seq_length_dpo": MAX_TOKENS // 2,
        "min_max_seq_length": 32,
        "supports_full_training": True,
        "supports_vision": False,
        "supports_tools": True,
        "supports_reasoning": False,
        "merge_output_lora": True,
    }


def error_object(denial: Denial) -> dict[str, Any]:
    kind = denial.kind or ("server_error" if denial.status >= 500 else "invalid_request_error")
    return {"error": {"message": denial.message, "type": kind, "param": denial.param, "code": denial.code}}


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
