"""The errors, named by what happens next.

    TuneyardError
    ├── Permanent          → failed(cause)
    │   ├── Invalid        the user's input: usage or validation, exit code 3
    │   └── NotFound       no such job, artifact, model or file: exit code 4
    │   └── Unauthorized   a key or a right is missing; what is held elsewhere is asked after all the same
    ├── Transient          → waiting(backoff), one failure counted
    │   ├── Throttled      → waiting(backoff) for as long as the other side says; no failure
    │   ├── SlotRefused    → waiting(slot): the pool is fuller than was believed; no failure
    │   ├── AccountPaused  → waiting(budget): nothing is taken from the account now; no failure
    │   └── Unsettled      → waiting(remote), to look again soon; no failure
    ├── Interruption       not an error of the job: somebody asked for it
    │   ├── Cancelled      → cancelled
    │   ├── Paused         → paused
    │   ├── Released       → queued again: the worker is told to stop
    │   ├── Repaired       → queued again: it goes on with what it has changed about itself; no failure
    │   └── StandsStill    → waiting(reason), until somebody else wakes it, or to ask again
    └── StaleTransition    → dropped and counted: another attempt owns the job now

Anything else that leaves a job's body is a bug: failed(bug) with its traceback, never retried.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from queue_app.lifecycle import Cause, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping


class TuneyardError(Exception):
    """The root: its message says what was wrong, where, and what to do."""

    undone = False  # who raised it is sure that nothing was done elsewhere


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
    """What the user gave cannot be used as it stands; found here, before anybody was asked."""

    undone = True


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


class Unauthorized(Permanent):
    """The account's key is refused, or it has no right to do this."""


class Throttled(Transient):
    """The other side answers, and says when to ask again: there is nothing to count against the job."""


class SlotRefused(Transient):
    """There was no slot free where one was believed to be; `forget` is as in `Permanent`."""

    forget: tuple[str, ...] = ()


class AccountPaused(Transient):
    """An account is left alone; `reason` is what its jobs wait for meanwhile, `forget` is as in `Permanent`.

    `until_resumed`: only a person ends that.
    """

    forget: tuple[str, ...] = ()
    until_resumed = False
    reason = Reason.BUDGET


class Unsettled(Transient):
    """Somebody may be, or have been, at the same thing: look again in `seconds`, and count no failure.

    `forget` is as in `Permanent`.
    """

    forget: tuple[str, ...] = ()

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


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


class Repaired(Interruption):
    """The job has changed how it is done, and goes on so in a new attempt; `before` and `after` are for the event."""

    def __init__(self, message: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.before, self.after = before, after


class StandsStill(Interruption):
    """The job waits for what somebody else gives: a slot, or an approval; `seconds`: it asks for it again then."""

    def __init__(self, message: str, reason: Reason, seconds: float | None = None) -> None:
        super().__init__(message)
        self.reason, self.seconds = reason, seconds


class StaleTransition(TuneyardError):
    """The row is no longer in the state, or in the hands, that the writer believed."""
