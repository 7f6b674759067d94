"""The errors, named by what happens next.

    TuneyardError
    ├── Permanent          → failed(cause)
    │   ├── Invalid        the user's input: usage or validation, exit code 3
    │   └── NotFound       no such job, artifact, model or file: exit code 4
    ├── Transient          → waiting(backoff), one failure counted
    ├── Interruption       not an error of the job: somebody asked for it
    │   ├── Cancelled      → cancelled
    │   ├── Paused         → paused
    │   └── Released       → queued again: the worker is told to stop
    └── StaleTransition    → dropped and counted: another attempt owns the job now

Anything else that leaves a job's body is a bug: failed(bug) with its traceback, never retried.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from collections.abc import Mapping


class TuneyardError(Exception):
    """The root: its message says what was wrong, where, and what to do."""


class Permanent(TuneyardError):
    """Trying again changes nothing.

    `forget` names the steps (see `Attempt.once`) that a retry by the user does anew: they are forgotten in the
    transaction that fails the job, so that neither a crash nor a retry in between can repeat a paid step.
    """

    def __init__(self, message: str, *, cause: Cause = Cause.USER, forget: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.cause = cause
        self.forget = forget
        self.detail: Mapping[str, Any] = {}  # for the event


class Invalid(Permanent):
    """What the user gave cannot be used as it stands."""


class NotFound(Permanent):
    """What the user named does not exist."""


class Transient(TuneyardError):
    """Trying again later may help; `retry_after` is the source's own advice in seconds.

    `cause` is what the job fails of when it has been tried often enough.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, cause: Cause = Cause.PROVIDER) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.cause = cause


class Interruption(TuneyardError):
    """The body is asked to stop; it lets this pass after tidying up."""


class Cancelled(Interruption):
    """The user does not want the job any more; `forget` is as in `Permanent`."""

    forget: tuple[str, ...] = ()
    detail: Mapping[str, Any] = MappingProxyType({})


class Paused(Interruption):
    """The user wants the job to stand still."""


class Released(Interruption):
    """The worker is shutting down and hands the job back."""


class StaleTransition(TuneyardError):
    """The row is no longer in the state, or in the hands, that the writer believed."""
