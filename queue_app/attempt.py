"""One live attempt at a job: what a body is handed, and the heartbeat that keeps its lease."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from queue_app.at_account import AtAccount, server_of
from queue_app.errors import (
    Cancelled,
    Paused,
    Permanent,
    Released,
    StaleTransition,
    Transient,
    TuneyardError,
    Unsettled,
)
from queue_app.job_type import AT_ONCE
from queue_app.lifecycle import FINAL, Cause, Request
from queue_app.store.doubt import is_in_doubt
from queue_app.store.money import START

if TYPE_CHECKING:
    from queue_app.artifacts import JobArtifacts
    from queue_app.job_type import Lag
    from queue_app.store import Job, Memo, Store
    from settings import Settings

T = TypeVar("T")
LOOK_AGAIN_SECONDS = 5.0  # while a listing may lag
HEED_SECONDS = 60.0  # how long a body may take to hear a cancel, or its deadline
SETTLE_SECONDS = 120.0  # how long one that came too late waits to see what became of its work
LOOK_SECONDS = 0.5  # how often a body that reports is told of requests


@dataclass
class LiveAttempt:
    """The `Attempt` behind the protocol, on the real store."""

    store: Store
    job: Job
    settings: Settings
    artifacts: JobArtifacts
    stopping: threading.Event  # the worker is shutting down
    log: logging.Logger
    call: Callable[[str], object] | None = None  # rings for those who were given a pool's slots
    holds: bool = field(default=False, init=False)  # something elsewhere that is paid for, and could be undone
    fingerprint: str | None = field(default=None, init=False)  # of the inputs, once they are known
    account: str | None = field(default=None, init=False)  # which it turned to, whatever came of that
    _looked_at: float = field(default=0.0, init=False)
    _lost: bool = field(default=False, init=False)
    _unheeded_since: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.fingerprint, self.account = self.job.fingerprint, self.job.account

    @property
    def job_id(self) -> str:
        return self.job.id

    @property
    def number(self) -> int:
        return self.job.attempt

    @property
    def cards(self) -> tuple[str, ...] | None:
        """UUIDs of the cards that it holds together, its worker's first; None: that of its worker, or the CPU."""
        held = tuple(card for card in (self.job.holds or {}).values() if card is not None)
        return held or None

    @property
    def workdir(self) -> Path:
        """The job's own folder; it outlives the attempt."""
        folder = self.settings.home.absolute() / "jobs" / self.job.id
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def at(self, account: str) -> AtAccount:
        """What the job may do at an account elsewhere."""
        self.account = account
        try:
            server = server_of(self.settings.provider(account))
        except KeyError:  # the body says what is wrong with the name, if anything is
            server = ""
        return AtAccount(self.store, self.job, account, self.settings.queue, server, self.call)

    def recall(self, step: str) -> Any:
        """The value of a step that was done; None: it was not."""
        memo = self.store.memos.get(self.job.id, step)
        return memo.value if memo is not None and memo.done else None

    def look_back(self) -> None:
        """See whether an earlier attempt has started something elsewhere, or may have."""
        memo = self.store.memos.get(self.job.id, START) if self.number > 1 else None
        self.holds = memo is not None and (memo.done or is_in_doubt(memo))

    def report(self, **progress: float | int | str | None) -> None:
        """Write progress (at once if its `step` or `phase` is new, else at most twice a second), then heed requests."""
        quiet = time.monotonic() - self._looked_at < LOOK_SECONDS
        known = self.job.progress or {}
        is_news = any(name in progress and progress[name] != known.get(name) for name in ("step", "phase"))
        if not quiet or is_news:
            try:
                self._look(progress)
            except Transient as error:  # a busy store ends no training; whether the lease holds is the heartbeat's word
                self.log.warning("progress could not be written: %s", error)
        self._heed()

    def _look(self, progress: dict[str, Any]) -> None:
        self._looked_at = time.monotonic()
        if progress and progress != self.job.progress:
            self.job = self.store.report(self.job.id, fence=self.number, progress=progress)
            return
        now = self.store.read.job(self.job.id)
        self._lost = self._lost or now.attempt != self.number or now.lease_until is None
        if not self._lost:
            self.job = now

    def _heed(self) -> None:
        if self._lost:
            raise StaleTransition(f"job {self.job.id}: attempt {self.number} has lost its lease")
        if self.job.request == Request.CANCEL:
            raise Cancelled("the user cancelled the job")
        if self.job.request == Request.PAUSE:
            raise Paused("the user paused the job")
        if self.job.deadline_at is not None and datetime.now(UTC) > self.job.deadline_at:
            raise overdue(self.job)
        if self.stopping.is_set():
            raise Released("the worker is shutting down")

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Renew the lease in the background for as long as the block runs."""
        done = threading.Event()
        beat = threading.Thread(target=self._beat, args=(done,), name=f"lease-{self.job.id}", daemon=True)
        beat.start()
        try:
            yield
        finally:
            done.set()
            beat.join()

    def _beat(self, done: threading.Event) -> None:
        seconds = self.settings.queue.lease_seconds
        while not done.wait(seconds / 3):
            try:
                renewed = self.store.renew(self.job.id, fence=self.number, lease_seconds=seconds)
            except StaleTransition:
                self._lost = True
                return
            except Exception as error:  # noqa: BLE001  a thread of its own: what it does not catch, nobody hears
                self.log.warning("the lease could not be renewed: %s", error)
            else:
                self.job.request, self.job.lease_until = renewed.request, renewed.lease_until
                if self._is_deaf(seconds):
                    return

    def _is_deaf(self, lease_seconds: float) -> bool:
        """Whether the body has not heeded a cancel or its deadline for long: then the lease is let go.

        Covered: another worker ends the job. Not covered: this worker stays with its body until that returns.
        """
        late = self.job.deadline_at is not None and datetime.now(UTC) > self.job.deadline_at
        if self.job.request != Request.CANCEL and not late:
            return False
        self._unheeded_since = self._unheeded_since or time.monotonic()
        if time.monotonic() - self._unheeded_since < max(HEED_SECONDS, lease_seconds):
            return False
        self.log.error("the job does not heed its %s; letting it go", "deadline" if late else "cancel")
        self._lost = True
        return True

    def once(
        self,
        step: str,
        action: Callable[[str], T],
        *,
        find: Callable[[str], T | None] | None = None,
        undo: Callable[[T], object] | None = None,
        lag: Lag = AT_ONCE,
    ) -> T:
        """Do `action(key)` once in the life of the job; see `Attempt.once`."""
        memo = self.store.memos.get(self.job.id, step)
        if memo is None or not memo.done:  # what is done needs no writer's turn
            memo = self.store.memos.intend(self.job.id, step, fence=self.number, act_seconds=lag.answer_seconds)
        self.holds = self.holds or (undo is not None and (memo.done or is_in_doubt(memo)))
        if memo.done:
            return cast("T", memo.value)
        if memo.acted_at is not None and find is not None:
            found = find(memo.key)
            if found is not None:
                self.log.info("%s: adopted what an earlier attempt had left under %s", step, memo.key)
                self._remember(memo, found, undo)
                return found
            shown_at = memo.acted_at + timedelta(seconds=lag.listing_seconds)
            if shown_at > datetime.now(UTC):
                seconds = min(LOOK_AGAIN_SECONDS, (shown_at - datetime.now(UTC)).total_seconds())
                text = f"{step}: an earlier attempt may have done it; looking again in {seconds:.1f} s"
                raise Unsettled(text, seconds)
        if memo.acted_at is not None:  # not the first try, of which that is committed already
            self.store.memos.act(memo, fence=self.number, seconds=lag.answer_seconds)
        try:
            value = action(memo.key)
        except TuneyardError as error:
            if error.undone:
                self.store.memos.refuse(memo, fence=self.number)
                self.holds = False
            else:  # it has ended by now, and what it may have made shows in lists from now on
                self.store.memos.act(memo, fence=self.number)
            raise
        self._remember(memo, value, undo)
        return value

    def _remember(self, memo: Memo, value: T, undo: Callable[[T], object] | None) -> None:
        self.holds = self.holds or undo is not None
        try:
            self.store.memos.remember(memo, value, fence=self.number)
        except StaleTransition:
            if undo is not None and self._is_too_much(memo, value):
                self.log.warning("%s: came too late with %s; taking it back", memo.step, value)
                undo(value)
            raise

    def _is_too_much(self, memo: Memo, value: object) -> bool:
        """Whether what we made too late is not the one that counts.

        The next attempt may be looking for it, or making another one, at this moment: wait until that is settled.
        """
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            now = self.store.memos.get(self.job.id, memo.step)
            if now is None or now.done or self.store.read.job(self.job.id).state in FINAL:
                return now is None or not now.done or now.value != value
            time.sleep(LOOK_SECONDS)
        self.log.error("%s: made %s under %s, and nobody took it up; look for it there", memo.step, value, memo.key)
        return False


def overdue(job: Job) -> Permanent:
    """The error of a job that has passed its deadline."""
    allowed = f"{job.timeout_seconds:g} s" if job.timeout_seconds else "its time"
    return Permanent(
        f"it passed its deadline of {allowed}; submit it again with a longer --timeout", cause=Cause.DEADLINE
    )
