"""The sandbox's answers in Fireworks' shapes. The fields are those of its SDK; no specification is published."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from api_worker.sandbox.openai_files import CHAT
from api_worker.sandbox.refusals import Denial
from api_worker.sandbox.remote_job import DISCLAIMER, Phase, Reason

if TYPE_CHECKING:
    from api_worker.sandbox.remote_job import Failure, SandboxJob
    from api_worker.sandbox.state import SandboxFile

ACCOUNT = "accounts/sandbox"
VENDOR_MODELS = "accounts/fireworks/models"
CONTEXT_TOKENS = 32_768
ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"

WORDS = {
    Phase.VALIDATING: "JOB_STATE_VALIDATING",
    Phase.QUEUED: "JOB_STATE_PENDING",
    Phase.RUNNING: "JOB_STATE_RUNNING",
    Phase.ODD: "JOB_STATE_RETICULATING",
    Phase.FINISHING: "JOB_STATE_WRITING_RESULTS",
    Phase.PAUSED: "JOB_STATE_PAUSED",
    Phase.CANCELLING: "JOB_STATE_CANCELLING",
    Phase.SUCCEEDED: "JOB_STATE_COMPLETED",
    Phase.FAILED: "JOB_STATE_FAILED",
    Phase.CANCELLED: "JOB_STATE_CANCELLED",
}

# gRPC's codes that the sandbox has a use for, and which of them a status stands for where nothing else is said.
CODES = {
    "INVALID_ARGUMENT": 3,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "UNAUTHENTICATED": 16,
}
CODE_OF_STATUS = {401: 16, 403: 7, 404: 5, 409: 10, 412: 9, 429: 8, 500: 13, 503: 14}

# The sentence about the suspension is Fireworks' own; the others are ours.
SUSPENDED = (
    "Account sandbox is suspended, possibly due to reaching the monthly spending limit or failure to pay past invoices."
)
FULL = "The account's quota of GPUs is in use."
DENIALS = {
    "quota": Denial(412, SUSPENDED, "FAILED_PRECONDITION"),
    "slot": Denial(429, FULL, "RESOURCE_EXHAUSTED"),
}


def error_object(denial: Denial) -> dict[str, Any]:
    """A refusal in gRPC's terms."""
    code = CODES.get(denial.code or "", CODE_OF_STATUS.get(denial.status, CODES["INVALID_ARGUMENT"]))
    return {"code": code, "message": denial.message, "details": []}


def time_of(seconds: float) -> str:
    """A time as Fireworks writes it, with nanoseconds."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06d}000Z"


def dataset_object(dataset: str, examples: str, file: SandboxFile | None, now: float) -> dict[str, Any]:
    """A dataset, whose content may still be missing."""
    shown = {
        "name": f"{ACCOUNT}/datasets/{dataset}",
        "exampleCount": examples,
        "userUploaded": {},
        "format": "FORMAT_UNSPECIFIED",
        "state": "UPLOADING",
        "status": {"code": "OK", "message": ""},
    }
    if file is None or now < file.ready_at:
        return shown
    if file.is_broken:
        broken = {"code": "INTERNAL", "message": "The sandbox could not process this file because it was told to."}
        return {**shown, "status": broken}
    if file.problem:
        return {**shown, "status": {"code": "INVALID_ARGUMENT", "message": file.problem}}
    kind = "CHAT" if file.format == CHAT else "FORMAT_UNSPECIFIED"
    return {**shown, "state": "READY", "format": kind, "exampleCount": str(file.examples)}


def job_object(job: SandboxJob, now: float, word: str, metrics_url: str) -> dict[str, Any]:
    """A job; one by DPO has its order a level deeper, and its metrics behind a route of their own."""
    finished = job.finished_at(now)
    shown = {
        "name": job_name(job),
        "displayName": job.asked["displayName"],
        "createTime": time_of(job.created_at),
        "completedTime": None if finished is None else time_of(finished),
        "dataset": f"{ACCOUNT}/datasets/{job.training_file}",
        "state": word,
        "status": _status(job, now),
    }
    config = {"baseModel": job.model, "epochs": job.epochs, **job.asked["config"]}
    if job.method == "dpo":
        return {**shown, "trainingConfig": config, "lossConfig": job.asked["lossConfig"]}
    holdout = job.validation_file and f"{ACCOUNT}/datasets/{job.validation_file}"
    progress = {"percent": 100 * job.step(now) // job.steps, "epoch": 0, "inputTokens": 0, "outputTokens": 0}
    return {
        **shown,
        **config,
        "evaluationDataset": holdout or "",
        "jobProgress": progress,
        "estimatedCost": {"currencyCode": "USD", "units": "0", "nanos": 0},
        "metricsFileSignedUrl": metrics_url,
    }


def job_name(job: SandboxJob) -> str:
    collection = "dpoJobs" if job.method == "dpo" else "supervisedFineTuningJobs"
    return f"{ACCOUNT}/{collection}/{job.id}"


def _status(job: SandboxJob, now: float) -> dict[str, Any]:
    phase = job.phase(now)
    if phase == Phase.FAILED and job.failure:
        return _failure_status(job.failure)
    return {"code": "OK", "message": DISCLAIMER if phase == Phase.SUCCEEDED else "", "details": []}


def _failure_status(failure: Failure) -> dict[str, Any]:
    match failure.reason:
        case Reason.BAD_FILE | Reason.TOO_FEW:
            reason = {"@type": ERROR_INFO, "reason": "DATASET_INVALID", "domain": "training.fireworks.ai"}
            return {"code": "INVALID_ARGUMENT", "message": failure.said, "details": [reason]}
        case Reason.SLOT:
            return {"code": "RESOURCE_EXHAUSTED", "message": "No machine could be found for the job.", "details": []}
        case Reason.QUOTA:
            return {"code": "FAILED_PRECONDITION", "message": SUSPENDED, "details": []}
    return {"code": "INTERNAL", "message": "Internal error", "details": []}


def metrics_lines(job: SandboxJob, now: float) -> bytes:
    """A line a step, without figures: there are none."""
    lines = [{"step": step, "timestamp": job.time_of(step)} for step in range(1, job.step(now) + 1)]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def base_model_object(name: str) -> dict[str, Any]:
    return {
        "name": name if "/" in name else f"{VENDOR_MODELS}/{name}",
        "kind": "HF_BASE_MODEL",
        "state": "READY",
        "tunable": True,
        "supervisedLoraTunable": True,
        "supervisedFullParameterTunable": False,
        "trainingContextLength": CONTEXT_TOKENS,
        "fineTuningJob": "",
    }


def tuned_model_object(job: SandboxJob) -> dict[str, Any]:
    """A model that does not exist."""
    return {
        "name": job.asked["config"]["outputModel"],
        "kind": "HF_PEFT_ADDON",
        "state": "READY",
        "tunable": False,
        "fineTuningJob": job_name(job),
    }
