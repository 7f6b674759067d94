"""What a provider of hosted fine-tuning is to Tuneyard.

A remote job is found again by its submission key, so every provider carries the key where its API can be searched.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from queue_app.errors import Permanent
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path


class RemoteState(StrEnum):
    """What a job at a provider is, in our words."""

    VALIDATING = "validating"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (RemoteState.SUCCEEDED, RemoteState.FAILED, RemoteState.CANCELLED)


@dataclass(frozen=True)
class Order:
    """A fine-tune as it is asked of a provider."""

    base_model: str  # the provider's name for it
    training_file: str  # what `upload` returned
    validation_file: str | None = None
    epochs: int | None = None  # None: the provider's choice
    suffix: str | None = None  # shows in the tuned model's name
    seed: int | None = None

    @property
    def wishes(self) -> dict[str, Any]:
        """What is asked for beyond the model, the file and the epochs; nothing that is left to the provider."""
        asked = {"validation_file": self.validation_file, "suffix": self.suffix, "seed": self.seed}
        return {name: value for name, value in asked.items() if value is not None}


@dataclass(frozen=True)
class RemoteJob:
    """A look at a job at a provider."""

    id: str
    state: RemoteState
    step: int | None = None
    steps: int | None = None
    train_loss: float | None = None
    failure: str | None = None  # the provider's own words
    cause: Cause | None = None  # whose matter the failure is


@dataclass(frozen=True)
class RemoteResult:
    """What a job at a provider has made, as far as the provider tells."""

    model: str  # the name to call it by
    trained_tokens: int | None  # what is billed
    series: tuple[Mapping[str, float], ...] = ()  # one row a step; `step` is always there
    warnings: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)  # as the provider gave them

    def last(self, *names: str) -> float | None:
        """The newest figure by one of the names, the first of them before the others."""
        found = (row[name] for name in names for row in reversed(self.series) if name in row)
        return next(found, None)


class Provider(Protocol):
    """One account at one provider. Every method may raise what `refusals.error_of` makes of a refusal."""

    def upload(self, path: Path) -> str:
        """Send a file of chat examples and return the provider's id for it."""

    def start(self, order: Order, key: str) -> str:
        """Create a remote job that `find(key)` finds, by exactly one request, and return its id."""

    def find(self, key: str) -> str | None:
        """The id of the remote job that was created under `key`, if the provider lists one."""

    def state(self, remote_id: str) -> RemoteJob:
        """Look at a remote job.

        Raises:
            Permanent: its status is a word that is not known here
        """

    def cancel(self, remote_id: str) -> RemoteState:
        """Stop a remote job and return what it is then; one that has ended is left as it is."""

    def result(self, remote_id: str) -> RemoteResult:
        """Collect what a remote job that has succeeded made."""

    def close(self) -> None:
        """Let go of the connections."""


def state_of(word: str | None, words: Mapping[str, RemoteState], job: str) -> RemoteState:
    """A provider's status word in ours.

    Raises:
        Permanent: the word is not known
    """
    if word is None or word not in words:
        raise Permanent(
            f'{job} has the status "{word}", which is not known here (known: {", ".join(words)}). It may still run '
            f"there: a retry looks at it again and starts nothing",
            cause=Cause.PROVIDER,
        )
    return words[word]


def metrics_of(data: object) -> dict[str, float]:
    """The figures of an event that tells of a training step; empty for any other."""
    if not isinstance(data, dict) or not isinstance(data.get("step"), int | float):
        return {}
    return {name: value for name, value in data.items() if isinstance(value, int | float)}


def series_of(events: Iterable[object]) -> tuple[dict[str, float], ...]:
    """The figures of every step that the data of the events tells of, in the order of the steps."""
    return tuple(sorted(filter(None, map(metrics_of, events)), key=lambda row: row["step"]))


def running_job(remote_id: str, newest_first: Iterable[object]) -> RemoteJob:
    """A running job as far as the data of its events tells how far it is."""
    row = next(filter(None, map(metrics_of, newest_first)), {})
    step, steps = (int(row[name]) if name in row else None for name in ("step", "total_steps"))
    return RemoteJob(remote_id, RemoteState.RUNNING, step, steps, row.get("train_loss"))


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
