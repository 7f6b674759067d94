"""A job at an account elsewhere: its slot, its bill, the files sent there, and whether the account answers at all."""

from __future__ import annotations

import hashlib
import random
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from queue_app.errors import AccountPaused, Permanent, SlotRefused, StandsStill, Throttled, Transient, Unsettled
from queue_app.lifecycle import Cause, Reason, backoff_seconds
from queue_app.store.doubt import going_key, is_in_doubt
from queue_app.store.money import START

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from queue_app.store import Account, Bill, Job, RemoteLook, Store
    from queue_app.store.money import Billed, Caps, Quoted
    from settings import ProviderSettings, QueueSettings

TRIES = 3  # answers that an account may owe in a row before it is left alone
RAISE_IT = "raise it in the recipe and run that again, or in the settings and then `tuneyard jobs retry"
WAIT_FOR_SENDER_SECONDS = 2.0
DAY = timedelta(hours=24)


def server_of(account: ProviderSettings) -> str:
    """What stands for the server and the organization of an account; empty where it has the vendor's own and none."""
    place = "|".join((account.base_url or "", account.organization or ""))
    return hashlib.sha256(place.encode()).hexdigest()[:12] if place != "|" else ""


def files_of(name: str, server: str) -> str:
    """By what the files of an account are kept: another server does not have them."""
    return f"{name}@{server}" if server else name


@dataclass(frozen=True)
class AtAccount:
    """What the holder of a job may do at one account."""

    store: Store
    job: Job
    name: str
    limits: QueueSettings
    server: str = ""  # stands for where the account is, if that is not the vendor's own server
    call: Callable[[str], object] | None = None  # rings for those who were given a pool's slots

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Around every talk with the account: none takes place while it is left alone, and what it answers counts.

        Raises:
            AccountPaused: it is left alone, from before or from now on; the job's failures are not counted then
        """
        self._refuse_while_paused(self.store.accounts.get(self.name))
        try:
            yield
        except AccountPaused as error:
            if error.reason != Reason.SLOT:  # what a pool takes in a day holds back nothing but its own new jobs
                self._pause(error)
            raise
        except (SlotRefused, Throttled, Unsettled):  # it has answered, or was not asked
            raise
        except Transient as error:
            if error.undone:  # it answers, and says no
                raise
            self._count(error)
            raise
        else:
            if self.store.accounts.get(self.name).failures:
                self.store.accounts.answered(self.name)

    def _refuse_while_paused(self, account: Account) -> None:
        if not account.is_paused:
            return
        if account.paused_for == Reason.BUDGET and self.may_have_begun():  # what runs there costs nothing to look at
            return
        error = AccountPaused(account.paused_why or "")
        error.reason, error.until_resumed = account.paused_for or Reason.BACKOFF, account.waits_for_a_person
        if account.paused_until is not None:
            seconds = (account.paused_until - datetime.now(UTC)).total_seconds()
            error.retry_after = max(0.0, seconds) * random.uniform(1.0, 1.2)
        raise error

    def may_have_begun(self) -> bool:
        """Whether something was started there, or may have been."""
        memo = self.store.memos.get(self.job.id, START)
        return memo is not None and (memo.done or is_in_doubt(memo))

    def _pause(self, error: AccountPaused) -> None:
        if error.until_resumed:
            self.store.accounts.pause(self.name, str(error), None, error.reason)
            return
        seconds = error.retry_after or self.limits.paused_seconds
        until = datetime.now(UTC) + timedelta(seconds=seconds)
        error.retry_after = seconds
        self.store.accounts.pause(self.name, str(error), until, error.reason)

    def _count(self, error: Transient) -> None:
        """Count an answer that did not come; from some number on, the account is left alone instead of the job."""
        before = self.store.accounts.get(self.name)
        if before.failures + 1 < TRIES:
            self.store.accounts.failed(self.name, str(error), pause_seconds=None)
            return
        first, longest = self.limits.backoff_seconds, self.limits.backoff_max_seconds
        pause = error.retry_after or backoff_seconds(before.failures + 2 - TRIES, first=first, longest=longest)
        account = self.store.accounts.failed(self.name, str(error), pause_seconds=pause)
        away = datetime.now(UTC) - (account.failing_since or datetime.now(UTC))
        if away > timedelta(hours=self.limits.outage_hours):
            return
        paused = AccountPaused(str(error), retry_after=pause)
        paused.reason = Reason.BACKOFF
        raise paused from error

    # -- slots ------------------------------------------------------------------------------------------------------

    def take_slot(self, pool: str, *, size: int | None, source: str = "", a_day: int | None = None) -> None:
        """Take a slot of a pool, or wait until one is given; `source` says who limits it to `size`.

        Whether a start may begin today, `begin_start` says for sure; here only who cannot takes no slot.

        Raises:
            StandsStill: none is free
            AccountPaused: as many as a day allows were started in the last 24 hours
        """
        self.store.slots.resize(pool, size, source)
        if a_day is not None:  # one that was given a slot while it waited is asked as well
            self._refuse_over_day(pool, a_day, self.store.slots.starts(pool, but=self._key))
        if self.job.has_slot:
            return
        if not self.store.slots.take(self.job.id, pool, fence=self.job.attempt):
            raise StandsStill(f"no slot is free at {pool}", Reason.SLOT)

    def begin_start(self, pool: str, a_day: int | None) -> None:
        """Count the start that is sent now among those of a day.

        Raises:
            AccountPaused: as many as a day allows were sent in the last 24 hours
        """
        others = self.store.slots.begin_start(self.job, pool, self._key, a_day)
        if a_day is not None:
            self._refuse_over_day(pool, a_day, others)

    def refuse_start(self) -> None:
        """The start that was sent was refused: it is none of a day's."""
        self.store.slots.refuse_start(self._key)

    @property
    def _key(self) -> str:
        return going_key(self.job.id, self.store.memos.get(self.job.id, START))

    def hold_slot(self, pool: str, *, size: int | None, source: str = "") -> None:
        """See to it that the job holds its slot: what runs there has its place, however full the pool is."""
        self.store.slots.resize(pool, size, source)
        if not self.job.has_slot:
            self.store.slots.take(self.job.id, pool, fence=self.job.attempt, is_held=True)

    def leave_slot(self) -> None:
        """What ran there has ended: the slot goes to the next at once, whatever is still to be collected."""
        given = self.store.slots.leave(self.job.id, fence=self.job.attempt)
        if given is not None and self.call is not None:
            self.call(given)

    def _refuse_over_day(self, pool: str, a_day: int, starts: Sequence[datetime]) -> None:
        if a_day == 0:
            said = (
                f"{pool} takes no jobs: 0 a day are allowed there; allow more, then `tuneyard jobs retry {self.job.id}`"
            )
            raise Permanent(said, cause=Cause.GATE)
        if len(starts) < a_day:
            return
        free_at = starts[len(starts) - a_day] + DAY
        error = AccountPaused(
            f"{pool} takes {a_day} jobs a day; the next may start at {free_at.astimezone():%Y-%m-%d %H:%M}",
            retry_after=max(1.0, (free_at - datetime.now(UTC)).total_seconds()),
        )
        error.reason = Reason.SLOT
        raise error

    def held(self) -> int:
        """How many jobs hold a slot at the account."""
        return self.store.slots.held_at(self.name)

    # -- money ------------------------------------------------------------------------------------------------------

    def commit(self, quoted: Quoted, caps: Caps) -> None:
        """Commit to what the job is quoted, or wait until somebody approves of it.

        One that waits asks again by itself: soon where room is made here, else now and then.

        Raises:
            StandsStill: a cap would be broken
            Permanent: a cap is 0, so nothing may be spent at all
        """
        broken = self.store.bills.commit(self.job, self.name, quoted, caps)
        if broken is None:
            return
        if 0 in (caps.job, caps.recipe, caps.account, caps.day) and quoted.high != 0:
            raise Permanent(f"{broken}; {RAISE_IT} {self.job.id}`", cause=Cause.GATE)
        pause = self.limits.paused_seconds * random.uniform(1.0, 1.2)
        raise StandsStill(f"{broken}; `tuneyard approve {self.job.id}` lets it go on", Reason.APPROVAL, pause)

    def bill(self) -> Bill | None:
        """The bill of what was started, or is started next."""
        return self.store.bills.going(self.job.id)

    def release(self) -> None:
        """Nothing is billed for what was started."""
        self.store.bills.release(self.job)

    def settle(self, billed: Billed) -> None:
        """Write what was billed."""
        self.store.bills.settle(self.job, self.name, billed)

    # -- files and looks --------------------------------------------------------------------------------------------

    def send_once(self, digest: str, send: Callable[[], str]) -> str:
        """Send a file that the account does not have yet, and return the account's id for it.

        Raises:
            Unsettled: another job is at it
        """
        found = self.store.uploads.begin(self._files, digest, self.job.id)
        if found.file is not None:
            return found.file
        if found.job_id != self.job.id:
            raise Unsettled(f"{self.name}: job {found.job_id} is sending the same file", WAIT_FOR_SENDER_SECONDS)
        file = send()
        self.store.uploads.finish(self._files, digest, file)
        return file

    @property
    def _files(self) -> str:
        return files_of(self.name, self.server)

    def may_send_again(self, step: str) -> bool:
        """Whether a file that a step sent, and that is gone, was not sent anew before."""
        memo = self.store.memos.get(self.job.id, step)
        return memo is not None and memo.round == 0

    def forget_sent(self, digest: str) -> None:
        """The account does not have the file any more."""
        self.store.uploads.forget(self._files, digest)

    def forget_sent_by(self, steps: Sequence[str]) -> None:
        """The account's trouble is with the files that these steps of the job sent: the next one sends them anew."""
        for memo in (self.store.memos.get(self.job.id, step) for step in steps):
            if memo is not None and memo.done:
                self.forget_sent(memo.value["digest"])

    def begin_look(self, *, every_seconds: float) -> bool:
        """Whether this job is the one to look at all of the account's jobs now."""
        return self.store.accounts.begin_look(self.name, every_seconds=every_seconds)

    def remember(self, looks: Sequence[RemoteLook]) -> None:
        """Keep what such a look showed; jobs of ours that have ended there are called at once."""
        self.store.accounts.remember(self.name, looks)

    def seen(self, remote_id: str) -> RemoteLook | None:
        """What the last such look showed of a remote job."""
        return self.store.accounts.look(self.name, remote_id)
