"""A job's life: its states, the events that move it, and the one table that says which may happen when."""

from __future__ import annotations

import random
from enum import StrEnum


class State(StrEnum):
    """What a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Reason(StrEnum):
    """What a waiting job waits for."""

    DEPENDENCY = "dependency"
    SLOT = "slot"
    REMOTE = "remote"
    BACKOFF = "backoff"
    BUDGET = "budget"
    GPU = "gpu"
    APPROVAL = "approval"


class Cause(StrEnum):
    """Why a job failed."""

    DATA = "data"
    USER = "user"
    PROVIDER = "provider"
    QUOTA = "quota"
    OOM = "oom"
    STALLED = "stalled"
    LOST = "lost"
    DEADLINE = "deadline"
    GATE = "gate"
    BUG = "bug"


class Request(StrEnum):
    """What the user has asked of a job that somebody holds."""

    CANCEL = "cancel"
    PAUSE = "pause"


class Event(StrEnum):
    """What happened to a job."""

    SUBMITTED = "submitted"  # its inputs are there
    PLANNED = "planned"  # its inputs are still to be made by the jobs it needs
    WOKEN = "woken"
    APPROVED = "approved"  # over its caps
    STARTED = "started"
    POLL_SCHEDULED = "poll_scheduled"
    RETRY_SCHEDULED = "retry_scheduled"
    RELEASED = "released"
    REPAIRED = "repaired"  # it goes on with settings of its own choice
    LEASE_EXPIRED = "lease_expired"
    REUSED = "reused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    PAUSE_REQUESTED = "pause_requested"
    PAUSED = "paused"
    RESUMED = "resumed"
    CANCEL_REQUESTED = "cancel_requested"
    CANCELLED = "cancelled"
    RETRIED = "retried"
    REPLANNED = "replanned"  # it waits for its inputs again


FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})
CLAIMABLE = frozenset({State.QUEUED, State.WAITING})
# A cap or an account said no. Most such jobs ask again by themselves, soon where room is made and else now and then;
# but what is sure to help is a person's word or money.
NEEDS_A_PERSON = frozenset({Reason.APPROVAL, Reason.BUDGET})

_NEW: frozenset[State] = frozenset()
_RUNNING = frozenset({State.RUNNING})

# event → (states it may happen in, state it leads to; None: the state stays)
TRANSITIONS: dict[Event, tuple[frozenset[State], State | None]] = {
    Event.SUBMITTED: (_NEW, State.QUEUED),
    Event.PLANNED: (_NEW, State.WAITING),
    Event.WOKEN: (frozenset({State.WAITING}), State.QUEUED),
    Event.APPROVED: (frozenset({State.WAITING}), State.QUEUED),
    Event.STARTED: (CLAIMABLE, State.RUNNING),
    Event.POLL_SCHEDULED: (_RUNNING, State.WAITING),
    Event.RETRY_SCHEDULED: (_RUNNING, State.WAITING),
    Event.RELEASED: (_RUNNING, State.QUEUED),
    Event.REPAIRED: (_RUNNING, State.QUEUED),
    Event.LEASE_EXPIRED: (_RUNNING, State.QUEUED),
    Event.REUSED: (_RUNNING, State.SUCCEEDED),
    Event.SUCCEEDED: (_RUNNING, State.SUCCEEDED),
    Event.FAILED: (_RUNNING | CLAIMABLE, State.FAILED),
    Event.PAUSE_REQUESTED: (_RUNNING, None),
    Event.PAUSED: (_RUNNING | CLAIMABLE, State.PAUSED),
    Event.RESUMED: (frozenset({State.PAUSED}), State.QUEUED),
    Event.CANCEL_REQUESTED: (_RUNNING | CLAIMABLE, None),
    Event.CANCELLED: (_RUNNING | CLAIMABLE | {State.PAUSED}, State.CANCELLED),
    Event.RETRIED: (frozenset({State.FAILED, State.CANCELLED}), State.QUEUED),
    Event.REPLANNED: (frozenset({State.CANCELLED, State.PAUSED}), State.WAITING),
}


def backoff_seconds(failures: int, *, first: float, longest: float) -> float:
    """The pause before try number `failures` + 1: doubled each time, with a jitter of ± 20 %."""
    pause = min(longest, first * 2.0 ** max(0, failures - 1))
    return pause * random.uniform(0.8, 1.2)
