"""What a provider of hosted fine-tuning is to Tuneyard.

A remote job is found again by its submission key, so every provider carries the key where its API can be searched.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import date, datetime

    from queue_app.lifecycle import Cause


def providers() -> list[str]:
    """The providers there are: the files of their folder."""
    return sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).with_name("providers"))]))


class RemoteState(StrEnum):
    """What a job at a provider is, in our words."""

    VALIDATING = "validating"
    QUEUED = "queued"
    RUNNING = "running"
    FINISHING = "finishing"  # trained; the provider is still writing what came of it
    PAUSED = "paused"  # by the provider or by somebody there; it may go on
    CANCELLING = "cancelling"
    UNKNOWN = "unknown"  # a word that is not known here: it may still run, so it is asked after
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (RemoteState.SUCCEEDED, RemoteState.FAILED, RemoteState.CANCELLED)


class Method(StrEnum):
    """How a model learns from examples."""

    SFT = "sft"
    DPO = "dpo"


class Tuned(StrEnum):
    """Which weights a fine-tune changes."""

    LORA = "lora"
    FULL = "full"


@dataclass(frozen=True)
class Order:
    """A fine-tune as it is asked of a provider. What is None is left to the provider."""

    base_model: str  # the provider's name for it
    training_file: str  # what `upload` returned
    validation_file: str | None = None
    method: Method = Method.SFT
    tuned: Tuned | None = None
    epochs: int | None = None
    suffix: str | None = None  # shows in the tuned model's name
    seed: int | None = None
    learning_rate: float | None = None
    batch_size: int | None = None  # examples a step
    lora_r: int | None = None

    @property
    def wishes(self) -> dict[str, Any]:
        """What is asked for beyond the model, the training file and the method, by field."""
        plain = {"base_model", "training_file", "method"}
        asked = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in plain}
        return {name: value for name, value in asked.items() if value is not None}


@dataclass(frozen=True)
class RemoteJob:
    """A look at a job at a provider."""

    id: str  # another one than was asked for: the provider has restarted it under this id
    state: RemoteState
    word: str = ""  # the provider's own for the state
    key: str | None = None  # the submission key it carries; None: it carries none that we could have given
    base_model: str | None = None
    created_at: datetime | None = None
    step: int | None = None
    steps: int | None = None
    train_loss: float | None = None
    failure: str | None = None  # the provider's own words
    cause: Cause | None = None  # whose matter the failure is
    wants_slot: bool = False  # it ended only because the account had no slot free: nothing was trained
    is_billed: bool | None = None  # though it did not succeed; None: the provider does not say
    trained_tokens: int | None = None  # by then
    usd: float | None = None  # what that costs, told or reckoned


@dataclass(frozen=True)
class RemoteResult:
    """What a job at a provider has made, as far as the provider tells."""

    model: str  # the name to call it by
    trained_tokens: int | None  # what is billed
    usd: float | None = None  # what was billed, where the provider tells
    is_estimate: bool = False  # `usd` is reckoned by the adapter, or the provider's own estimate
    series: tuple[Mapping[str, float], ...] = ()  # one row a step; `step` is always there
    warnings: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)  # as the provider gave them

    def last(self, *names: str) -> float | None:
        """The newest figure by one of the names, the first of them before the others."""
        found = (row[name] for name in names for row in reversed(self.series) if name in row)
        return next(found, None)


@dataclass(frozen=True)
class Estimate:
    """What a provider itself says an order would cost."""

    usd: float
    tokens: int | None = None
    allowed: bool = True
    why: str = ""  # the provider's own words, where it is not allowed


@dataclass(frozen=True)
class Offer:
    """What a provider's API tells of a model. None: it does not tell."""

    model: str
    shuts_down: date | None = None
    max_jobs: int | None = None  # unfinished at once
    max_jobs_a_day: int | None = None
    max_tokens: int | None = None  # an example
    tuned: bool = False  # it is a fine-tune of this account


class Provider(Protocol):
    """One account at one provider. Every method may raise what `refusals.error_of` makes of a refusal."""

    takes: frozenset[str]
    """The wishes of an `Order` that this provider can heed; with any other it is not asked."""

    methods: frozenset[Method]
    """How it can train; for any other nothing is sent."""

    def upload(self, path: Path) -> str:
        """Send a file of examples in the provider's own format and return the provider's id for it."""

    def is_ready(self, file: str) -> bool:
        """Whether the provider has looked through an uploaded file, and takes it.

        Raises:
            NotFound: it does not have the file, or no more
            Permanent: it refuses the file, in its own words (cause DATA), or could not look (cause PROVIDER)
        """

    def start(self, order: Order, key: str) -> str:
        """Create a remote job that `find(key)` finds, by exactly one request, and return its id."""

    def find(self, key: str) -> str | None:
        """The id of the remote job that was created under `key`, if the provider lists one."""

    def state(self, remote_id: str) -> RemoteJob:
        """Look at a remote job; one that was restarted under another id is followed.

        Raises:
            Unsettled: it was restarted, and nothing shows yet under which id
        """

    def listed(self) -> Iterator[RemoteJob]:
        """The account's jobs, newest first, page by page as they are asked for."""

    def cancel(self, remote_id: str) -> RemoteState:
        """Stop a remote job and return what it is then; one that has ended is left as it is."""

    def result(self, remote_id: str) -> RemoteResult:
        """Collect what a remote job that has succeeded made."""

    def estimate(self, order: Order) -> Estimate | None:
        """What the provider says the order would cost; None: it has no such question, or cannot tell yet."""

    def offers(self) -> Iterator[Offer]:
        """What the provider's API tells of its models and of this account's limits at them."""

    def close(self) -> None:
        """Let go of the connections."""


def state_of(word: str | None, words: Mapping[str, RemoteState]) -> RemoteState:
    """A provider's status word in ours."""
    return words.get(word or "", RemoteState.UNKNOWN)


def metrics_of(data: object) -> dict[str, float]:
    """The figures of an event that tells of a training step; empty for any other."""
    if not isinstance(data, dict) or not isinstance(data.get("step"), int | float):
        return {}
    return {name: value for name, value in data.items() if isinstance(value, int | float)}


def series_of(events: Iterable[object]) -> tuple[dict[str, float], ...]:
    """The figures of every step that the data of the events tells of, in the order of the steps."""
    return tuple(sorted(filter(None, map(metrics_of, events)), key=lambda row: row["step"]))


def progress_of(newest_first: Iterable[object]) -> dict[str, Any]:
    """How far a running job is, by the data of its events: fields of a `RemoteJob`."""
    row = next(filter(None, map(metrics_of, newest_first)), {})
    step, steps = (int(row[name]) if name in row else None for name in ("step", "total_steps"))
    return {"step": step, "steps": steps, "train_loss": row.get("train_loss")}


class Listed(Protocol):
    """What a list of a provider's holds."""

    id: str


L = TypeVar("L", bound=Listed)


def each_once(listed: Iterable[L]) -> Iterator[L]:
    """What all pages list, each once: a server that knows no cursor sends the first page for ever."""
    seen = set()
    for item in listed:
        if item.id in seen:
            return
        seen.add(item.id)
        yield item
