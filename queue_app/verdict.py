"""What the end of an attempt means for its job: every error has one verdict."""

from __future__ import annotations

import random
import traceback
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from queue_app.artifacts import NO_ROOM
from queue_app.errors import (
    AccountPaused,
    Cancelled,
    NotFound,
    Paused,
    Permanent,
    Released,
    Repaired,
    SlotRefused,
    StandsStill,
    Throttled,
    Transient,
    Unsettled,
)
from queue_app.job_log import redact
from queue_app.lifecycle import Cause, Event, Reason, Request, backoff_seconds
from queue_app.store.slots import Refused

if TYPE_CHECKING:
    from queue_app.attempt import LiveAttempt

ENDLESS_ROUND = 3  # the pause of what is asked after without end: the third one of the doubling
SHORTEST_PAUSE_SECONDS = 1.0  # however soon the other side lets itself be asked again


@dataclass(frozen=True)
class Verdict:
    """What is recorded at the end of an attempt."""

    event: Event
    changes: dict[str, Any] = field(default_factory=dict)
    detail: dict[str, Any] = field(default_factory=dict)
    forget: tuple[str, ...] = ()
    refused: Refused | None = None  # a slot was taken that was none
    heeded: bool = False  # the user's request to cancel was known when this was judged


def judge(error: BaseException, attempt: LiveAttempt) -> Verdict:
    """What an error that left a body means for its job."""
    job, settings = attempt.job, attempt.settings
    text = redact(str(error), settings)
    if isinstance(error, Cancelled):
        return Verdict(Event.CANCELLED, detail=dict(error.detail), forget=error.forget)
    if isinstance(error, Paused):
        return Verdict(Event.PAUSED)
    if isinstance(error, Released):
        return Verdict(Event.RELEASED)
    if isinstance(error, Repaired):
        return Verdict(Event.REPAIRED, detail={"why": text, "before": dict(error.before), "after": dict(error.after)})
    if isinstance(error, StandsStill | Throttled | Unsettled | SlotRefused | AccountPaused):
        return _wait(error, text, attempt)
    if isinstance(error, Permanent) and _leaves_it_running(error, attempt):
        return _try_again(Transient(text), text, attempt)
    if isinstance(error, Transient):
        return _try_again(error, text, attempt)
    if isinstance(error, Permanent):
        detail = {"error": type(error).__name__, **error.detail}
        return Verdict(Event.FAILED, {"cause": error.cause, "failure": text}, detail, error.forget)
    if isinstance(error, OSError) and (error.errno in NO_ROOM or isinstance(error, PermissionError)):
        said = "no room left on the disk; free some" if error.errno in NO_ROOM else "permission denied; allow it"
        failure = f"{error.filename or 'a file'}: {said}, then `tuneyard jobs retry {job.id}`"
        return Verdict(Event.FAILED, {"cause": Cause.USER, "failure": failure})
    trace = redact("".join(traceback.format_exception(error)), settings)
    failure = f"a bug in {job.kind}: {type(error).__name__}: {text}; the traceback is in `tuneyard jobs logs {job.id}`"
    attempt.log.error("%s", trace)
    return Verdict(Event.FAILED, {"cause": Cause.BUG, "failure": failure}, {"traceback": trace})


def _leaves_it_running(error: Permanent, attempt: LiveAttempt) -> bool:
    """Whether something elsewhere goes on all the same: then it is asked after, whatever stands in the way now.

    Only its own end ends the job: such an error forgets the step that started it.
    """
    if error.forget or error.cause == Cause.DEADLINE:
        return False
    gone = attempt.job.request == Request.CANCEL and isinstance(error, NotFound)  # there is nothing to cancel
    return attempt.holds and not gone


def _wait(
    error: StandsStill | Throttled | Unsettled | SlotRefused | AccountPaused, text: str, attempt: LiveAttempt
) -> Verdict:
    """Wait without counting a failure: the job has done nothing wrong. A cancel is tried again before long."""
    now, changes, limits = datetime.now(UTC), dict[str, Any](), attempt.settings.queue
    asked = attempt.job.request == Request.CANCEL
    soon = backoff_seconds(ENDLESS_ROUND, first=limits.backoff_seconds, longest=limits.backoff_max_seconds)
    longest = soon if asked else float("inf")
    if isinstance(error, StandsStill):  # whoever stands still holds up nobody else
        due_at = None if error.seconds is None else now + timedelta(seconds=error.seconds)
        changes = {"reason": error.reason, "due_at": due_at, "has_slot": False}
    elif isinstance(error, Unsettled):
        changes = {"reason": Reason.REMOTE, "due_at": now + timedelta(seconds=min(longest, error.seconds))}
        if error.forget and not attempt.holds:  # it goes back to a step before the one that a slot is for
            changes["has_slot"] = False
        return Verdict(Event.POLL_SCHEDULED, changes, {"why": text}, error.forget, heeded=asked)
    elif isinstance(error, Throttled):
        told = max(SHORTEST_PAUSE_SECONDS, error.retry_after or 0.0) * random.uniform(1.0, 1.2)
        pause = min(longest, told)
        changes = {"reason": Reason.BACKOFF, "due_at": now + timedelta(seconds=pause), "failure": text}
        if error.undone and not attempt.holds:  # others may have the slot meanwhile
            changes["has_slot"] = False
        return Verdict(Event.RETRY_SCHEDULED, changes, {"why": text, "seconds": round(pause, 1)}, heeded=asked)
    elif isinstance(error, SlotRefused):
        changes = {"reason": Reason.SLOT, "due_at": None, "has_slot": False, "failure": text}
        refused = Refused(error.retry_after)
        return Verdict(Event.POLL_SCHEDULED, changes, {"why": text}, error.forget, refused)
    else:
        changes = {"reason": error.reason, "due_at": None, "failure": text}
        if error.until_resumed:
            changes["has_slot"] = False
        if asked or not error.until_resumed:
            seconds = min(longest, error.retry_after or limits.paused_seconds)
            changes["due_at"] = now + timedelta(seconds=seconds)
        return Verdict(Event.POLL_SCHEDULED, changes, {"why": text}, error.forget, heeded=asked)
    return Verdict(Event.POLL_SCHEDULED, changes, {"why": text})


def _try_again(error: Transient, text: str, attempt: LiveAttempt) -> Verdict:
    """Try again until the budget is spent; what holds something elsewhere is asked after without end.

    To give up on a remote job would leave it running, and paid for, with nobody to look after it.
    """
    job, limits = attempt.job, attempt.settings.queue
    asked = job.request == Request.CANCEL
    endless = attempt.holds or asked
    failures = job.failures if endless else job.failures + 1
    if failures >= limits.max_failures and not endless:
        failure = f"{text} (tried {failures} times); `tuneyard jobs retry {job.id}` tries again"
        return Verdict(Event.FAILED, {"cause": error.cause, "failure": failure, "failures": failures})
    pause = None if asked else error.retry_after
    if pause is None:
        rounds = ENDLESS_ROUND if endless else failures
        pause = backoff_seconds(rounds, first=limits.backoff_seconds, longest=limits.backoff_max_seconds)
    due = datetime.now(UTC) + timedelta(seconds=pause)
    changes = {"reason": Reason.BACKOFF, "due_at": due, "failures": failures, "failure": text}
    return Verdict(Event.RETRY_SCHEDULED, changes, {"why": text, "seconds": round(pause, 1)}, heeded=asked)
