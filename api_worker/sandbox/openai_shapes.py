"""The sandbox's answers in OpenAI's shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from api_worker.sandbox.remote_job import SandboxJob
    from api_worker.sandbox.state import SandboxFile

ORGANISATION = "org-sandbox"
DISCLAIMER = "This is the Tuneyard sandbox: nothing is trained, and no model comes of it."
KEPT_CHECKPOINTS = 3


def file_object(file: SandboxFile) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": int(file.created_at),
        "filename": file.filename,
        "purpose": "fine-tune",
        "status": "processed",
    }


def result_file_object(job: SandboxJob) -> dict[str, Any]:
    """The file of metrics that comes of a job."""
    return {
        "id": job.result_file,
        "object": "file",
        "bytes": len(result_csv(job)),
        "created_at": int(job.ends_at),
        "filename": "step_metrics.csv",
        "purpose": "fine-tune-results",
        "status": "processed",
    }


def result_csv(job: SandboxJob) -> bytes:
    """A row a step, without figures: there are none."""
    rows = "".join(f"{step},,,,\n" for step in range(1, job.steps + 1))
    return f"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n{rows}".encode()


def job_object(job: SandboxJob, now: float) -> dict[str, Any]:
    status, finished = job.status(now), job.finished_at(now)
    done = status == "succeeded"
    hyperparameters = {"n_epochs": job.epochs, "batch_size": "auto", "learning_rate_multiplier": "auto"}
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": int(job.created_at),
        "estimated_finish": int(job.ends_at) if status == "running" else None,
        "error": job.error if status == "failed" else None,
        "fine_tuned_model": job.tuned_model if done else None,
        "finished_at": int(finished) if finished is not None else None,
        "hyperparameters": hyperparameters,
        "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        "model": job.model,
        "organization_id": ORGANISATION,
        "result_files": [job.result_file] if done else [],
        "seed": job.seed,
        "status": status,
        "trained_tokens": 0 if done else None,
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "integrations": [],
        "metadata": job.metadata or None,
    }


def job_events(job: SandboxJob, now: float) -> list[dict[str, Any]]:
    """What has happened to a job so far, newest first."""
    told: list[tuple[float, str, str, dict[str, Any]]] = [
        (job.created_at, "warn", DISCLAIMER, {}),
        (job.created_at, "info", f"Created fine-tuning job: {job.id}", {}),
    ]
    for step in range(1, job.step(now) + 1):
        figures = {"step": step, "total_steps": job.steps}
        told.append((job.time_of(step), "info", f"Step {step}/{job.steps} has passed; nothing was trained", figures))
    status, finished = job.status(now), job.finished_at(now)
    if status == "failed" and job.error and finished is not None:
        told.append((finished, "error", job.error["message"], {}))
    elif finished is not None:
        told.append((finished, "info", f"The job is {status}; nothing was trained", {}))
    events = [_event(job, number, *row) for number, row in enumerate(told)]
    return events[::-1]


def _event(job: SandboxJob, number: int, at: float, level: str, text: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"ftevent-{job.id.removeprefix('ftjob-')}-{number}",
        "object": "fine_tuning.job.event",
        "created_at": int(at),
        "level": level,
        "message": text,
        "type": "metrics" if data else "message",
        "data": data,
    }


def job_checkpoints(job: SandboxJob, now: float) -> list[dict[str, Any]]:
    """The names of the last epochs' checkpoints, newest first, once the job has succeeded."""
    if job.status(now) != "succeeded":
        return []
    epochs = range(job.epochs, max(0, job.epochs - KEPT_CHECKPOINTS), -1)
    return [_checkpoint(job, job.steps * epoch // job.epochs) for epoch in epochs]


def _checkpoint(job: SandboxJob, step: int) -> dict[str, Any]:
    return {
        "id": f"ftckpt-{job.id.removeprefix('ftjob-')}-{step}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": int(job.time_of(step)),
        "fine_tuned_model_checkpoint": f"{job.tuned_model}:ckpt-step-{step}",
        "fine_tuning_job_id": job.id,
        "metrics": {"step": step},
        "step_number": step,
    }


def model_object(name: str, created_at: float) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": int(created_at), "owned_by": "sandbox", "shutdown_date": None}


def list_object(items: Sequence[dict[str, Any]], *, more: bool, ends: bool = False) -> dict[str, Any]:
    """A page of a list; `ends` adds the ids at its two ends."""
    page: dict[str, Any] = {"object": "list", "data": list(items), "has_more": more}
    if ends:
        page |= {"first_id": items[0]["id"] if items else "", "last_id": items[-1]["id"] if items else ""}
    return page


def completion_object(model: str, answer_id: str, at: float) -> dict[str, Any]:
    message = {"role": "assistant", "content": f"{DISCLAIMER} Nobody has read your message.", "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return {"id": answer_id, "object": "chat.completion", "created": int(at), "model": model, "choices": [choice]}


def error_object(message: str, *, kind: str, code: str | None, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
