"""`finetune.hosted`: a fine-tune at a provider, paid for once and waited for without a worker."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import closing
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from pydantic import Field

from api_worker.provider import Order, RemoteState
from api_worker.providers import account_of, open_provider
from queue_app.errors import Permanent
from queue_app.job_type import ArtifactRef, Attempt, PollAgain, Result, Spec, TakenBack, job
from queue_app.lifecycle import Cause
from tasks.data.examples import read_examples, turns

if TYPE_CHECKING:
    from pathlib import Path

    from api_worker.provider import Provider, RemoteJob, RemoteResult

UPLOADS = ("upload", "upload-holdout")


class HostedFinetune(Spec):
    """What to fine-tune, where, on what."""

    dataset: ArtifactRef = Field(description="the examples to train on")
    holdout: ArtifactRef | None = Field(None, description="examples that the provider measures on while it trains")
    provider: str = Field("sandbox", description="an account of the settings; the sandbox trains nothing and is free")
    base_model: str = Field(description="the provider's name for the model to start from")
    epochs: int = Field(3, ge=1, le=50, description="passes over the dataset; the price grows with them")
    suffix: str | None = Field(None, min_length=1, max_length=64, description="shows in the tuned model's name")
    seed: int = Field(42, ge=0, le=2**31 - 1, description="of whatever the provider draws at random")


class HostedModel(Result):
    """The tuned model at the provider, and what the provider tells of its training."""

    model: str = Field(description="the name to call it by")
    provider: str
    base_model: str
    remote_job: str = Field(description="the provider's id of the job")
    examples: int
    holdout_examples: int
    trained_tokens: int | None = Field(description="what the provider bills")
    steps: int | None
    train_loss: float | None = Field(description="at the last step that tells one")
    holdout_loss: float | None = Field(description="at the last step that tells one")
    warnings: tuple[str, ...] = Field(description="the provider's own words")
    report: str = Field(description="artifact: every step's figures, and the result files as the provider gave them")


class NothingStarted(Exception):
    """There is no remote job to take back."""


def cancel_remote(spec: HostedFinetune, attempt: Attempt) -> TakenBack:
    """Cancel the remote job, if there is one. What it has finished is paid for, and a retry collects it."""
    account = account_of(attempt.settings, spec.provider)
    with closing(open_provider(spec.provider, account)) as provider:
        lag = account.listing_lag_seconds
        try:
            remote_id = attempt.once("start", _start_nothing, find=provider.find, lag_seconds=lag)
        except NothingStarted:
            return TakenBack()
        state = provider.cancel(remote_id)
    forget = () if state == RemoteState.SUCCEEDED else ("start",)
    return TakenBack(forget, {"remote_job": remote_id, "remote": state.value})


@job("finetune.hosted", queues=("api",), on_cancel=cancel_remote)
def hosted_finetune(spec: HostedFinetune, attempt: Attempt) -> HostedModel | PollAgain:
    """Fine-tune at a hosted provider."""
    account = account_of(attempt.settings, spec.provider)
    with closing(open_provider(spec.provider, account)) as provider:
        training = attempt.once("upload", lambda _: _upload(provider, attempt, spec.dataset))
        order = Order(spec.base_model, training["file"], epochs=spec.epochs, suffix=spec.suffix, seed=spec.seed)
        holdout: dict[str, Any] = {"file": None, "examples": 0}
        if spec.holdout is not None:
            ref = spec.holdout
            holdout = attempt.once("upload-holdout", lambda _: _upload(provider, attempt, ref))
            order = replace(order, validation_file=holdout["file"])
        remote_id = attempt.once(
            "start",
            lambda key: provider.start(order, key),
            find=provider.find,
            undo=provider.cancel,
            lag_seconds=account.listing_lag_seconds,
        )
        remote = provider.state(remote_id)
        attempt.report(**_progress(remote))
        if not remote.state.is_final:
            return PollAgain(account.poll_seconds)
        if remote.state != RemoteState.SUCCEEDED:
            raise _why_not(spec, remote)
        made = provider.result(remote_id)
    return HostedModel(
        model=made.model,
        provider=spec.provider,
        base_model=spec.base_model,
        remote_job=remote_id,
        examples=training["examples"],
        holdout_examples=holdout["examples"],
        trained_tokens=made.trained_tokens,
        steps=int(made.series[-1]["step"]) if made.series else None,
        train_loss=made.last("train_loss"),
        holdout_loss=made.last("full_valid_loss", "valid_loss"),
        warnings=made.warnings,
        report=attempt.artifacts.publish(_write_report(attempt.workdir, order, remote_id, made), kind="hosted-model"),
    )


def _start_nothing(_: str) -> str:
    raise NothingStarted


def _upload(provider: Provider, attempt: Attempt, ref: str) -> dict[str, Any]:
    """Send a dataset as chat examples, under a name that tells its content."""
    folder = attempt.workdir / f"upload-{attempt.number}"  # an attempt that lost its lease may still be writing
    folder.mkdir(exist_ok=True)
    part = folder / "upload.jsonl"
    digest, count = hashlib.sha256(), 0
    with part.open("wb") as file:
        for example in read_examples(attempt.artifacts.resolve(ref)):
            line = json.dumps({"messages": turns(example)}, ensure_ascii=False).encode() + b"\n"
            digest.update(line)
            file.write(line)
            count += 1
    path = part.rename(part.with_name(f"{digest.hexdigest()[:32]}.jsonl"))
    sent = {"file": provider.upload(path), "examples": count}
    shutil.rmtree(folder)
    return sent


def _progress(remote: RemoteJob) -> dict[str, Any]:
    told = {"remote": remote.state.value, "step": remote.step, "steps": remote.steps, "loss": remote.train_loss}
    return {name: value for name, value in told.items() if value is not None}


def _why_not(spec: HostedFinetune, remote: RemoteJob) -> Permanent:
    where = f"{spec.provider}: job {remote.id}"
    if remote.state == RemoteState.CANCELLED:
        text = f"{where} was cancelled at the provider, by somebody else; a retry starts another one"
        return Permanent(text, cause=Cause.PROVIDER, forget=("start",))
    cause = remote.cause or Cause.PROVIDER
    forget = ("start", *UPLOADS) if cause == Cause.DATA else ("start",)
    return Permanent(f"{where} failed: {remote.failure or 'no reason was given'}", cause=cause, forget=forget)


def _write_report(workdir: Path, order: Order, remote_id: str, made: RemoteResult) -> Path:
    folder = workdir / "hosted-model"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    told = {"model": made.model, "trained_tokens": made.trained_tokens, "warnings": made.warnings}
    report = {**told, "remote_job": remote_id, "order": asdict(order), "series": made.series}
    (folder / "training.json").write_text(json.dumps(report, indent=2, ensure_ascii=False), encoding="utf-8")
    for number, content in enumerate(made.files.values(), 1):
        (folder / f"result-{number}").write_bytes(content)
    return folder
