"""What the Hub answers about Hugging Face Jobs, and what it means in our words."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from api_worker.hf_jobs_command import MODEL_NAME, TUNED_NAME
from api_worker.provider import RemoteJob, RemoteState, state_of
from api_worker.refusals import NO_SLOT
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from collections.abc import Sequence

LABEL = "tuneyard"  # of a job, with the submission key

STATES = {
    "SCHEDULING": RemoteState.QUEUED,
    "RUNNING": RemoteState.RUNNING,
    "COMPLETED": RemoteState.SUCCEEDED,
    "ERROR": RemoteState.FAILED,
    "CANCELED": RemoteState.CANCELLED,
    "DELETED": RemoteState.CANCELLED,
}
# How the Hub words these is not documented; the classes of errors are those of `datasets`.
NO_MONEY = re.compile(r"\bcredits?\b|\bbilling\b|\bbalance\b|\bpayment\b", re.IGNORECASE)
BAD_DATA = re.compile(r"DatasetGeneration\w*Error|DatasetNotFoundError|DataFilesNotFoundError|CastError|ArrowInvalid")
FIGURE = re.compile(r"'(\w+)': '?(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)\b")  # one that is no number is left out
ERROR_LINE = re.compile(r"^[\w.]*(?:Error|Exception|Invalid|Interrupt)\b.*:")


class Named(msgspec.Struct):
    """A user, as whom the key is known."""

    name: str


class Model(msgspec.Struct):
    id: str


class Placed(msgspec.Struct, rename="camel"):
    """How a file is to be sent: in the commit itself ("regular"), or apart ("lfs")."""

    path: str
    upload_mode: str


class Places(msgspec.Struct):
    files: list[Placed]


class Action(msgspec.Struct):
    href: str


class Kept(msgspec.Struct):
    """Where a file goes that is sent apart; without actions it is there already."""

    actions: dict[str, Action] = {}


class Batch(msgspec.Struct):
    objects: list[Kept]


class Status(msgspec.Struct):
    stage: str
    message: str | None = None


class Durations(msgspec.Struct, rename="camel"):
    running_secs: float | None = None


class Job(msgspec.Struct, rename="camel"):
    id: str
    status: Status
    created_at: str | None = None
    flavor: str | None = None
    command: list[str] | None = None
    labels: dict[str, str] | None = None
    durations: Durations | None = None

    @property
    def state(self) -> RemoteState:
        return state_of(self.status.stage, STATES)

    @property
    def key(self) -> str | None:
        return (self.labels or {}).get(LABEL)

    @property
    def base_model(self) -> str | None:
        return self._asked(MODEL_NAME)

    @property
    def tuned_model(self) -> str | None:
        return self._asked(TUNED_NAME)

    def _asked(self, option: str) -> str | None:
        """What stands behind an option of its command."""
        words = self.command or []
        return next((value for name, value in zip(words, words[1:], strict=False) if name == option), None)


class Hardware(msgspec.Struct, rename={"usd": "unitCostUSD", "label": "unitLabel"}):
    name: str
    usd: float
    label: str


def seen(job: Job) -> RemoteJob:
    """A job in our words."""
    made_at = datetime.fromisoformat(job.created_at) if job.created_at else None
    return RemoteJob(job.id, job.state, job.status.stage, job.key, base_model=job.base_model, created_at=made_at)


def failed(look: RemoteJob, message: str | None, log: Sequence[str]) -> RemoteJob:
    """A job that failed, with the reason that its status and the end of its log give, and whose matter that is."""
    told = next((line for line in reversed(log) if ERROR_LINE.match(line)), log[-1] if log else "")
    said = "; its log: ".join(filter(None, (message, told.strip())))
    of_money, of_data = NO_MONEY.search(message or ""), BAD_DATA.search(told)
    cause = Cause.QUOTA if of_money else Cause.DATA if of_data else Cause.PROVIDER
    full = cause == Cause.PROVIDER and NO_SLOT.search(message or "") is not None
    return replace(look, failure=said or None, cause=cause, wants_slot=full)


def figures(log: Sequence[str]) -> list[dict[str, float]]:
    """The figures of TRL's lines in a log, each of which is a dict as Python prints it; other lines have none."""
    found = (FIGURE.findall(line) for line in log if line.lstrip().startswith("{'"))
    return [{name: float(value) for name, value in row} for row in found if row]


def series(rows: Sequence[dict[str, float]]) -> tuple[dict[str, float], ...]:
    """One row a step: TRL tells a loss at every one of them, and what it measures after it."""
    made: list[dict[str, float]] = []
    for row in rows:
        if "loss" in row:
            made.append({"step": len(made) + 1, "train_loss": row["loss"]})
        elif "eval_loss" in row and made:
            made[-1]["valid_loss"] = row["eval_loss"]
    return tuple(made)
