"""The sandbox's answers in the Hub's shapes: what its own client (`huggingface_hub` 1.33) reads of them."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from api_worker.sandbox.remote_job import DISCLAIMER, Phase, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from api_worker.sandbox.refusals import Denial
    from api_worker.sandbox.remote_job import SandboxJob
    from api_worker.sandbox.state import SandboxFile

OWNER = "sandbox"
WORDS = {
    Phase.VALIDATING: "SCHEDULING",
    Phase.QUEUED: "SCHEDULING",
    Phase.RUNNING: "RUNNING",
    Phase.ODD: "RETICULATING",
    Phase.FINISHING: "RUNNING",
    Phase.PAUSED: "RUNNING",  # the Hub has no such thing, and no route that leads here
    Phase.CANCELLING: "RUNNING",
    Phase.SUCCEEDED: "COMPLETED",
    Phase.FAILED: "ERROR",
    Phase.CANCELLED: "CANCELED",
}
NO_CREDITS = "The account's credits are used up."
NO_SLOT = "The account already runs as many jobs as it may at once."
ENDED = {Reason.QUOTA: NO_CREDITS, Reason.SLOT: NO_SLOT}  # of a job that was accepted; the sentences are ours
# USD an hour
MACHINES = {"l4x1": 0.80, "a10g-small": 1.00, "l40sx1": 1.80, "a100-large": 2.50, "h200": 5.00}


def job_object(job: SandboxJob, now: float) -> dict[str, Any]:
    finished = job.finished_at(now)
    until = now if finished is None else finished
    started = min(job.running_at, until)
    message = None
    if job.phase(now) == Phase.FAILED and job.failure is not None:
        message = ENDED.get(job.failure.reason, "Job failed with exit code: 1.")
    return {
        "type": "job",
        "id": job.id,
        "createdAt": _iso(job.created_at),
        "startedAt": _iso(started) if until > job.running_at else None,
        "finishedAt": None if finished is None else _iso(finished),
        **job.asked,
        "arguments": [],
        "status": {"stage": WORDS[job.phase(now)], "message": message},
        "durations": {
            "schedulingSecs": int(started - job.created_at),
            "runningSecs": int(until - started),
            "totalSecs": int(until - job.created_at),
        },
        "owner": {"id": OWNER, "name": OWNER, "type": "user"},
        "initiator": {"id": OWNER, "name": OWNER, "type": "user"},
    }


def log_lines(job: SandboxJob, now: float) -> Iterator[str]:
    """What a job's container has written by now; no figures of training, as there are none."""
    if now < job.running_at and job.finished_at(now) is None:
        return
    yield f"===== Job started at {_iso(job.running_at)} ====="
    yield DISCLAIMER
    if job.step(now):
        yield f"{job.step(now)} of {job.steps} steps have passed; nothing was trained."
    if job.phase(now) != Phase.FAILED or job.failure is None:
        return
    yield "Traceback (most recent call last):"
    if job.failure.reason in (Reason.BAD_FILE, Reason.TOO_FEW):
        yield f"datasets.exceptions.DatasetGenerationError: {job.failure.said}"
    else:
        yield "RuntimeError: the container was stopped by a fault of the machine."


def events(lines: Iterable[str], at: float) -> str:
    """Lines as a stream of events."""
    return "".join(f"data: {json.dumps({'data': line, 'timestamp': _iso(at)})}\n\n" for line in lines)


def machines() -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "prettyName": name,
            "cpu": "8 vCPU",
            "ram": "30 GB",
            "accelerator": None,
            "unitCostMicroUSD": math.ceil(usd / 60 * 1e6),
            "unitCostUSD": usd / 60,
            "unitLabel": "minute",
        }
        for name, usd in MACHINES.items()
    ]


def tree_object(file: SandboxFile) -> dict[str, Any]:
    return {"type": "file", "oid": file.sha256[:40], "size": file.size_bytes, "path": f"{file.id}/{file.filename}"}


def model_object(name: str) -> dict[str, Any]:
    return {"id": name, "modelId": name, "private": False, "gated": False, "pipeline_tag": "text-generation"}


def error_object(denial: Denial) -> dict[str, Any]:
    return {"error": denial.message}


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
