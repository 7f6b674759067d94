"""What is told of a remote job: its progress, its failure, and the report of one that has succeeded."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from api_worker.provider import RemoteState
from queue_app.errors import AccountPaused, Permanent, SlotRefused, TuneyardError
from queue_app.lifecycle import Cause
from tasks.hosting.billing import bill_end

if TYPE_CHECKING:
    from pathlib import Path

    from api_worker.provider import Order, RemoteJob, RemoteResult
    from queue_app.at_account import AtAccount

UPLOADS = ("upload", "upload-holdout")
REPORT = "training_report.json"


def progress_of(remote: RemoteJob) -> dict[str, Any]:
    """What `attempt.report` is told of a look."""
    word = remote.word if remote.state == RemoteState.UNKNOWN else remote.state.value
    told = {"remote": word, "step": remote.step, "steps": remote.steps, "loss": remote.train_loss}
    return {name: value for name, value in told.items() if value is not None}


def why_not(place: AtAccount, remote: RemoteJob, sent: str) -> TuneyardError:
    """The error of a remote job that ended without success, which is billed; `sent` says which data it is about."""
    bill_end(place, remote)
    where = f"{place.name}: job {remote.id}"
    if remote.wants_slot:
        error = SlotRefused(f"{where} found no slot free: {remote.failure}")
        error.forget = ("start",)
        return error
    if remote.state == RemoteState.CANCELLED:
        text = f"{where} was cancelled at the provider, by somebody else; a retry starts another one"
        return Permanent(text, cause=Cause.PROVIDER, forget=("start",))
    if remote.cause == Cause.QUOTA:
        advice = f"add some, then `tuneyard providers resume {place.name}` starts another one"
        paused = AccountPaused(f"{where} ended for want of money or quota: {remote.failure}; {advice}")
        paused.cause, paused.forget = Cause.QUOTA, ("start",)
        paused.until_resumed = True  # what is created and ends so again may be billed each time
        return paused
    cause = remote.cause or Cause.PROVIDER
    anew = cause == Cause.DATA or not remote.step  # what comes to nothing before a step may have lacked a whole file
    forget = ("start", *UPLOADS) if anew else ("start",)
    if anew:
        place.forget_sent_by(UPLOADS)
    why = f"{where} failed: {remote.failure or 'no reason was given'}"
    return Permanent(f"{why}; {sent}" if cause == Cause.DATA else why, cause=cause, forget=forget)


def write_report(workdir: Path, order: Order, remote_id: str, made: RemoteResult) -> Path:
    """The folder of a report: every figure the provider told, and its files as it gave them."""
    folder = workdir / "hosted-model"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    told = {"model": made.model, "trained_tokens": made.trained_tokens, "usd": made.usd, "warnings": made.warnings}
    report = {**told, "remote_job": remote_id, "order": asdict(order), "series": made.series}
    (folder / REPORT).write_text(json.dumps(report, indent=2, ensure_ascii=False), encoding="utf-8")
    for number, content in enumerate(made.files.values(), 1):
        (folder / f"result-{number}").write_bytes(content)
    return folder
