"""What a job type is, and how they are found.

A job type is one module in the folder `tasks`: a frozen spec, a result, and a body under `@job`. The kind
`dataset.prepare` lives in `tasks/prepare_dataset.py`, so a kind is found without importing any other.
"""

from __future__ import annotations

import difflib
import glob
import importlib
import logging
import os
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, Protocol, TypeVar, cast, get_args, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo

from queue_app.errors import Invalid
from queue_app.lifecycle import Reason

if TYPE_CHECKING:
    from queue_app.at_account import AtAccount
    from queue_app.shelf import Shelf
    from queue_app.store import Ancestor
    from settings import Settings

Queue = Literal["cpu", "api", "gpu"]
QUEUES: tuple[Queue, ...] = get_args(Queue)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*://|builtin:|\$")  # a URL, a source of our own, what another step makes
T = TypeVar("T")


class Spec(BaseModel):
    """What a job is to do. Frozen, strict about its keys; every field says its meaning and unit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def done_at(self, settings: Settings) -> str:
        """What stands for the place that the work is done at; at another place the same spec is other work."""
        return ""

    def also_reads(self) -> Sequence[str]:
        """Paths and artifacts that an input names in its turn; if they hold something else it is other work."""
        return ()

    @classmethod
    def cards_needed(cls, told: Mapping[str, Any]) -> int:
        """How many cards of one host a job takes at once; `told` is its spec as it is submitted.

        Raises:
            Invalid: another step is still to say so
        """
        return 1


class Result(BaseModel):
    """What a job has made: figures, and the ids of the artifacts it published."""

    model_config = ConfigDict(frozen=True)

    def told(self) -> dict[str, str]:
        """What came of it in words, by title: what a person asks first of a job that took hours."""
        return {}


S = TypeVar("S", bound=Spec)
R = TypeVar("R", bound=Result)


def _absolute(value: Any, info: ValidationInfo) -> Any:
    context = info.context or {}
    base = context.get("base")
    if base is None or not isinstance(value, str) or ELSEWHERE.match(value):
        return value
    path = Path(base, value).resolve()
    there = os.path.exists(path) or glob.glob(str(path), recursive=True)  # noqa: PTH110, PTH207  (see below)
    if not there and not context.get("unchecked"):
        raise ValueError(f"there is no file or folder {path}")
    if os.path.exists(path) and not (path.is_file() or path.is_dir()):  # noqa: PTH110
        raise ValueError(f"{path} is neither a file nor a folder")
    return str(path)


def _absolute_if_there(value: Any, info: ValidationInfo) -> Any:
    # os.path: a text too long for a file name is no path, and no error either
    base = (info.context or {}).get("base")
    if base is None or not isinstance(value, str) or not os.path.exists(place := Path(base, value)):  # noqa: PTH110
        return value
    if not (place.is_file() or place.is_dir()):  # a pipe would be waited for without end
        raise ValueError(f"{place} is neither a file nor a folder; write what it gives to a file first")
    return str(place.resolve())


# A path or pattern of the user's: relative ones are taken from where the user stands, and travel as absolute ones.
InputPath = Annotated[str, BeforeValidator(_absolute), "path"]
# An artifact (id, unique prefix or name), or a path of the user's that stands for one.
ArtifactRef = Annotated[str, BeforeValidator(_absolute_if_there), "artifact"]


@dataclass(frozen=True)
class PollAgain:
    """A body's word that it holds nothing here and wants to be called again in `seconds`."""

    seconds: float
    reason: Reason = Reason.REMOTE


@dataclass(frozen=True)
class TakenBack:
    """What became of the things elsewhere that a cancelled job held."""

    forget: tuple[str, ...] = ()  # the once-only steps that a retry does anew
    detail: Mapping[str, Any] = field(default_factory=dict)  # for the event


@dataclass(frozen=True)
class Lag:
    """How late the other side may show what was made there."""

    listing_seconds: float = 0.0  # from the end of a request to where lists show it
    answer_seconds: float = 0.0  # from the begin of a request to its end, where nobody is left to see that


class Artifacts(Protocol):
    """The artifact store, as a job sees it. What a job resolves becomes a parent of what it publishes."""

    @property
    def shelf(self) -> Shelf:
        """What the job keeps there until it has succeeded, so that another host can go on with it."""

    def resolve(self, ref: str) -> Path:
        """The local file or folder behind an artifact id, unique prefix, name, or path.

        Raises:
            Permanent: there is no such thing
        """

    def publish(self, path: Path, *, kind: str, name: str | None = None) -> str:
        """Move a file or folder into the store, whole or not at all, and return its id (`sha256:…`).

        Raises:
            Permanent: the disk is full; says how much was needed and free
        """

    def lineage(self) -> Sequence[Ancestor]:
        """What was resolved so far, and everything that it was made from, nearest first."""


AT_ONCE = Lag()


class Attempt(Protocol):
    """One try at a job, as its body sees it: no Celery, no SQL."""

    @property
    def job_id(self) -> str: ...

    @property
    def number(self) -> int:
        """The fence: grows with every claim."""

    @property
    def settings(self) -> Settings: ...

    @property
    def cards(self) -> tuple[str, ...] | None:
        """UUIDs of the cards that it holds together, its worker's first; None: that of its worker, or the CPU."""

    @property
    def workdir(self) -> Path:
        """A folder of the job's own that outlives the attempt: checkpoints live here."""

    @property
    def artifacts(self) -> Artifacts: ...

    @property
    def log(self) -> logging.Logger:
        """Writes to the job's log (`tuneyard jobs logs`)."""

    def at(self, account: str) -> AtAccount:
        """What the job may do at an account elsewhere: slots, bills, files."""

    def recall(self, step: str) -> Any:
        """The value of a step (see `once`) that was done; None: it was not."""

    def report(self, **progress: float | int | str | None) -> None:
        """Show how far the job is (`step`, `steps`, `loss`, …) and learn whether it shall go on.

        Raises:
            Cancelled, Paused, Released: somebody asked for it
            Permanent: the deadline has passed
            StaleTransition: the lease was lost; stop at once and touch nothing
        """

    def once(
        self,
        step: str,
        action: Callable[[str], T],
        *,
        find: Callable[[str], T | None] | None = None,
        undo: Callable[[T], object] | None = None,
        lag: Lag = AT_ONCE,
    ) -> T:
        """Do `action(key)` once in the life of the job and remember its JSON value across attempts.

        The intent, with a key of at most 18 characters of `[a-z0-9-]`, is committed before the action. If an attempt
        died or was left in doubt in between, `find(key)` looks first; what it finds is adopted, and only when
        `lag` is over and nothing is found is it done again. The lag counts from the end of the action, or from when it
        must have ended where its attempt died. `undo` takes back a value that came too late: another attempt had taken
        over and recorded another.

        Covered: death at any line, lost answers, answers after the lease was lost. Not covered: a listing that lags
        longer than `lag`.
        """


Body = Callable[[S, Attempt], R | PollAgain]


@dataclass(frozen=True)
class JobType(Generic[S, R]):
    """One kind of job: what it takes, what it makes, where it runs."""

    kind: str
    body: Body[S, R]
    spec: type[S]
    result: type[R]
    queues: tuple[Queue, ...]  # the first is the default
    pausable: bool
    version: int
    on_cancel: Callable[[S, Attempt], TakenBack] | None

    @property
    def summary(self) -> str:
        return (self.body.__doc__ or "").strip().partition("\n")[0]


def job(
    kind: str,
    *,
    queues: tuple[Queue, ...],
    pausable: bool = False,
    version: int = 1,
    on_cancel: Callable[[S, Attempt], TakenBack] | None = None,
) -> Callable[[Body[S, R]], JobType[S, R]]:
    """Make a body a job type.

    `version` counts changes that make earlier results unfit for reuse. `on_cancel` takes back what lives elsewhere (a
    remote job) before the job is cancelled.
    """

    if pausable and on_cancel is not None:
        raise TypeError(f"{kind}: what holds something elsewhere cannot stand still here")

    def declare(body: Body[S, R]) -> JobType[S, R]:
        hints = get_type_hints(body)
        made = [t for t in (get_args(hints["return"]) or (hints["return"],)) if t not in (PollAgain, NoneType)]
        specs = (t for name, t in hints.items() if name != "return" and isinstance(t, type) and issubclass(t, Spec))
        spec = cast("type[S]", next(specs))
        return JobType(kind, body, spec, made[0], queues, pausable, version, on_cancel)

    return declare


def module_name(kind: str) -> str:
    """`dataset.prepare` → `tasks.prepare_dataset`."""
    noun, _, verb = kind.partition(".")
    return f"tasks.{verb}_{noun}"


def kinds() -> list[str]:
    """Every kind there is, by listing the folder."""
    folder = importlib.import_module("tasks")
    names = [m.name for m in pkgutil.iter_modules(folder.__path__) if not m.ispkg]
    return sorted(f"{noun}.{verb}" for verb, _, noun in (name.rpartition("_") for name in names))


def find_job_type(kind: str) -> JobType[Any, Any]:
    """The job type called `kind`.

    Raises:
        Invalid: there is none; names the nearest
    """
    known = kinds()
    if kind not in known:
        raise Invalid(f'there is no job type "{kind}"{nearest(kind, known)}; `tuneyard kinds` lists them')
    module = importlib.import_module(module_name(kind))
    for value in vars(module).values():
        if isinstance(value, JobType) and value.kind == kind:
            return value
    raise Invalid(f'tasks/{module.__name__.partition(".")[2]}.py declares no job type "{kind}"')


def nearest(word: str, known: list[str] | Mapping[str, Any]) -> str:
    """The end of an error message: `; did you mean "…"?`, or nothing."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f'; did you mean "{found[0]}"?' if found else ""
