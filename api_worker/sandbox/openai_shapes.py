"""The sandbox's answers in OpenAI's shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api_worker.sandbox.remote_job import DISCLAIMER, Phase, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from api_worker.sandbox.refusals import Denial
    from api_worker.sandbox.remote_job import Failure, SandboxJob
    from api_worker.sandbox.state import SandboxFile

# Announced by OpenAI; a fine-tune goes with its base model.
SHUTDOWN_DATES = {"gpt-4.1-2025-04-14": "2027-01-14", "gpt-4.1-mini-2025-04-14": "2027-01-14"}
ORGANISATION = "org-sandbox"
KEPT_CHECKPOINTS = 3
SHOWN = ("n_epochs", "batch_size", "learning_rate_multiplier")  # beside the method's own
QUOTA = "You exceeded your current quota, please check your plan and billing details."
FULL = "The account already has as many unfinished fine-tuning jobs as it may have at once."
BROKEN_FILE = "The sandbox could not process this file because it was told to."


def file_object(file: SandboxFile, now: float, *, tells_status: bool = True) -> dict[str, Any]:
    shown = {
        "id": file.id,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": int(file.created_at),
        "filename": file.filename,
        "purpose": "fine-tune",
        "status": "uploaded" if now < file.ready_at else "error" if file.is_broken else "processed",
    }
    if not tells_status:
        return {**shown, "status": None}
    return {**shown, "status_details": BROKEN_FILE} if shown["status"] == "error" else shown


def result_file_object(job: SandboxJob) -> dict[str, Any]:
    """The file of metrics that comes of a job."""
    return {
        "id": result_file(job),
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


def tuned_model(job: SandboxJob) -> str:
    """The name of a model that does not exist."""
    return f"ft:{job.model}:sandbox:{job.suffix or ''}:{job.id[-8:]}"


def result_file(job: SandboxJob) -> str:
    return f"file-results-{job.id.removeprefix('ftjob-')}"


def job_error(failure: Failure) -> dict[str, Any]:
    """Why a job failed. The sentences about a file's format and the quota are OpenAI's; the others are ours."""
    param = f"{failure.file}_file" if failure.file else None
    match failure.reason:
        case Reason.BAD_FILE:
            text = f"The job failed due to a file format error in the {failure.file} file. "
            text += f"Invalid file format. {failure.said}"
            return {"code": "invalid_file_format", "message": text, "param": param}
        case Reason.TOO_FEW:
            return {"code": "invalid_n_examples", "message": failure.said, "param": param}
        case Reason.QUOTA:
            return {"code": "exceeded_quota", "message": QUOTA, "param": None}
        case Reason.SLOT:
            return {"code": "rate_limit_exceeded", "message": FULL, "param": None}
    said = BROKEN_FILE if failure.file else "The job failed due to an internal error."
    return {"code": "server_error", "message": said, "param": param}


def job_object(job: SandboxJob, now: float, word: str) -> dict[str, Any]:
    phase, finished = job.phase(now), job.finished_at(now)
    done = phase == Phase.SUCCEEDED
    hyperparameters = job.asked["hyperparameters"]
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": int(job.created_at),
        "estimated_finish": int(job.ends_at) if phase in (Phase.RUNNING, Phase.ODD) else None,
        "error": job_error(job.failure) if phase == Phase.FAILED and job.failure else None,
        "fine_tuned_model": tuned_model(job) if done else None,
        "finished_at": int(finished) if finished is not None else None,
        "hyperparameters": {name: hyperparameters[name] for name in SHOWN if name in hyperparameters},
        "method": {"type": job.method, job.method: {"hyperparameters": hyperparameters}},
        "model": job.model,
        "organization_id": ORGANISATION,
        "result_files": [result_file(job)] if done else [],
        "seed": job.seed,
        "status": word,
        "trained_tokens": 0 if done else None,
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "integrations": [],
        "metadata": job.asked["metadata"] or None,
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
    phase, finished = job.phase(now), job.finished_at(now)
    if phase == Phase.FAILED and job.failure and finished is not None:
        told.append((finished, "error", job_error(job.failure)["message"], {}))
    elif finished is not None:
        told.append((finished, "info", f"The job is {phase}; nothing was trained", {}))
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
    if job.phase(now) != Phase.SUCCEEDED:
        return []
    epochs = range(job.epochs, max(0, job.epochs - KEPT_CHECKPOINTS), -1)
    return [_checkpoint(job, job.steps * epoch // job.epochs) for epoch in epochs]


def _checkpoint(job: SandboxJob, step: int) -> dict[str, Any]:
    return {
        "id": f"ftckpt-{job.id.removeprefix('ftjob-')}-{step}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": int(job.time_of(step)),
        "fine_tuned_model_checkpoint": f"{tuned_model(job)}:ckpt-step-{step}",
        "fine_tuning_job_id": job.id,
        "metrics": {"step": step},
        "step_number": step,
    }


def model_object(name: str, created_at: float) -> dict[str, Any]:
    base = next((base for base in SHUTDOWN_DATES if base == name or name.startswith(f"ft:{base}:")), "")
    date = SHUTDOWN_DATES.get(base)
    return {"id": name, "object": "model", "created": int(created_at), "owned_by": "sandbox", "shutdown_date": date}


def model_limits(models: Iterable[str], limits: tuple[int, int], active: Mapping[str, int]) -> dict[str, Any]:
    """Jobs within a day and at once, by model. The vendor does not document the shape; others have seen this one."""
    a_day, at_once = limits
    return {
        name: {"max_total_jobs": a_day, "max_concurrent_jobs": at_once, "active_jobs": active.get(name, 0)}
        for name in models
    }


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


def error_object(denial: Denial) -> dict[str, Any]:
    kind = denial.kind or {429: "requests", 500: "server_error", 503: "server_error"}.get(denial.status)
    shown = {"message": denial.message, "type": kind or "invalid_request_error"}
    return {"error": {**shown, "param": denial.param, "code": denial.code}}
