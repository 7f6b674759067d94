"""What Fireworks answers with, and what it means in our words.

Fields are the SDK's (1.2.30); what it leaves out, or does not know yet, is None. Its integers of 64 bits are texts.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec

from api_worker.provider import Offer, RemoteJob, RemoteState, state_of
from queue_app.lifecycle import Cause

CONTEXT_MULTIPLE = 16  # of tokens: what an example may have is a multiple of it
KEY = re.compile(r"ty-[a-z0-9-]{1,15}")
ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"

STATES = {
    "JOB_STATE_CREATING": RemoteState.VALIDATING,
    "JOB_STATE_CREATING_INPUT_DATASET": RemoteState.VALIDATING,
    "JOB_STATE_VALIDATING": RemoteState.VALIDATING,
    "JOB_STATE_PENDING": RemoteState.QUEUED,
    "JOB_STATE_RE_QUEUEING": RemoteState.QUEUED,
    "JOB_STATE_RUNNING": RemoteState.RUNNING,  # the trainer itself may still be starting
    "JOB_STATE_WRITING_RESULTS": RemoteState.FINISHING,
    "JOB_STATE_IDLE": RemoteState.PAUSED,
    "JOB_STATE_PAUSED": RemoteState.PAUSED,  # mostly because the account is suspended
    "JOB_STATE_CANCELLING": RemoteState.CANCELLING,
    "JOB_STATE_DELETING": RemoteState.CANCELLING,
    "JOB_STATE_DELETING_CLEANING_UP": RemoteState.CANCELLING,
    "JOB_STATE_COMPLETED": RemoteState.SUCCEEDED,
    "JOB_STATE_EARLY_STOPPED": RemoteState.SUCCEEDED,  # the validation loss fell no more
    "JOB_STATE_FAILED": RemoteState.FAILED,
    "JOB_STATE_EXPIRED": RemoteState.FAILED,
    "JOB_STATE_CANCELLED": RemoteState.CANCELLED,
    "JOB_STATE_DELETED": RemoteState.CANCELLED,
}

# gRPC's names by their number: a refusal tells the number, a job's status the name.
CODES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)

# Of a job that was created: its order was looked at then, so what is found invalid later is the dataset.
CAUSES = {"INVALID_ARGUMENT": Cause.DATA, "DATASET_INVALID": Cause.DATA, "FAILED_PRECONDITION": Cause.USER}
BAD_DATASET = frozenset({"INVALID_ARGUMENT", "DATASET_INVALID", "FAILED_PRECONDITION", "OUT_OF_RANGE"})


class Status(msgspec.Struct):
    """How a job, a dataset or a request stands, in gRPC's form."""

    code: int | str | None = None
    message: str | None = None
    details: list[dict[str, Any]] | None = None

    @property
    def word(self) -> str:
        """The reason, where one is told, else the code by its name; empty where all is well."""
        for detail in self.details or ():
            if detail.get("@type") == ERROR_INFO and detail.get("reason"):
                return str(detail["reason"])
        number = self.code if isinstance(self.code, int) else -1
        word = CODES[number] if 0 <= number < len(CODES) else str(self.code or "")
        return "" if word == "OK" else word

    @property
    def said(self) -> str:
        """Its words and its code, for people."""
        return f"{self.message or 'no reason was given'} ({self.word or 'no code'})"


class Answer(msgspec.Struct, rename="camel"):
    """What Fireworks answers with: fields that it leaves out, or does not know yet, are None."""


class Money(Answer):
    currency_code: str | None = None
    units: str | int | None = None
    nanos: int | None = None


class Progress(Answer):
    percent: float | None = None
    input_tokens: str | int | None = None


class Config(Answer):
    base_model: str | None = None
    output_model: str | None = None


class Job(Config, kw_only=True):
    """A job. One by DPO has its order a level deeper."""

    name: str
    state: str | None = None
    status: Status | None = None
    create_time: datetime | None = None
    training_config: Config | None = None
    job_progress: Progress | None = None
    estimated_cost: Money | None = None
    metrics_file_signed_url: str | None = None

    @property
    def order(self) -> Config:
        return self.training_config or self


class Dataset(Answer):
    name: str
    state: str | None = None
    status: Status | None = None


class Model(Answer):
    name: str
    tunable: bool | None = None
    supervised_lora_tunable: bool | None = None
    supervised_full_parameter_tunable: bool | None = None
    training_context_length: int | None = None
    fine_tuning_job: str | None = None  # that made it


class Page(Answer):
    supervised_fine_tuning_jobs: list[Job] | None = None
    dpo_jobs: list[Job] | None = None
    models: list[Model] | None = None
    next_page_token: str | None = None

    @property
    def jobs(self) -> list[Job]:
        return [*(self.supervised_fine_tuning_jobs or ()), *(self.dpo_jobs or ())]


class Owner(Answer):
    suspend_state: str | None = None


class SignedUrls(Answer):
    signed_url: str | None = None
    filename_to_signed_urls: dict[str, str] | None = None


def seen(job: Job) -> RemoteJob:
    """A job as Fireworks shows it, in our words."""
    word, key = job.state or "", job.name.rpartition("/")[2]
    look = RemoteJob(
        id=job.name,
        state=state_of(word, STATES),
        word=word,
        key=key if KEY.fullmatch(key) else None,
        base_model=job.order.base_model,
        created_at=job.create_time,
    )
    if look.state != RemoteState.FAILED:
        return look
    status, progress = job.status or Status(), job.job_progress or Progress()
    return replace(
        look,
        usd=price_of(job.estimated_cost)[0],
        failure=f"{status.message or 'no reason was given'} ({status.word or word})",
        cause=CAUSES.get(status.word, Cause.PROVIDER),
        # No machine was found for it, so nothing is wrong with the order, and before anything is trained it can wait.
        # Whether the account's quota was in the way or Fireworks' own capacity, the code does not tell.
        wants_slot=status.word == "RESOURCE_EXHAUSTED" and not progress.percent,
    )


def rows_of(metrics: bytes) -> tuple[list[dict[str, Any]], int]:
    """The rows of a file of metrics, and how many of its lines are none.

    Its form is not documented. Seen were lines of JSON with a step and figures such as "train/loss", beside the step or
    within "data"; here they are "train_loss" and "valid_loss", as everywhere.
    """
    rows, unread = [], 0
    for line in filter(None, map(bytes.strip, metrics.splitlines())):
        try:
            told = json.loads(line)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            unread += 1
            continue
        within = told.get("data")
        figures = {"step": told.get("step"), **(within if isinstance(within, dict) else told)}
        rows.append({name.replace("train/", "train_").replace("eval/", "valid_"): figures[name] for name in figures})
    return rows, unread


def price_of(cost: Money | None) -> tuple[float | None, list[str]]:
    """What a job costs in dollars, as far as Fireworks tells, and what is to be said of it."""
    if cost is None or (cost.units is None and cost.nanos is None):
        return None, []
    amount = int(cost.units or 0) + (cost.nanos or 0) / 1e9
    if cost.currency_code != "USD":
        return None, [f"Fireworks estimates the cost at {amount:g} {cost.currency_code or 'of a currency not named'}"]
    return amount, ["the cost is Fireworks' own estimate; what it bills is on its billing page alone"]


def tokens_of(job: Job) -> int | None:
    """The tokens that a job has read; whether a training job tells them is not documented."""
    return int(job.job_progress.input_tokens or 0) or None if job.job_progress else None


def offer_of(model: Model) -> Offer | None:
    tunable = model.tunable or model.supervised_lora_tunable or model.supervised_full_parameter_tunable
    if not (tunable or model.fine_tuning_job):
        return None
    tokens = (model.training_context_length or 0) // CONTEXT_MULTIPLE * CONTEXT_MULTIPLE
    return Offer(model.name, max_tokens=tokens or None, tuned=bool(model.fine_tuning_job))
