"""Slots: a pool has a size, and a job's own row says that it holds a slot there.

So no slot can leak, and none can be taken twice. Whoever frees one gives it, in the same transaction, to the job that
waits first: by priority, which grows with the wait, then by submission.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from queue_app.errors import StaleTransition
from queue_app.lifecycle import Event, Reason, State
from queue_app.store.rows import Pool
from queue_app.store.tables import bills, jobs, pools
from queue_app.store.transitions import lock, move, write_as_holder

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from queue_app.store.database import Database
    from queue_app.store.rows import Job

Rank = tuple[int, datetime, str]  # the smallest goes first; the last part is the job's id
UNKNOWN_SIZE = 10  # of a pool that tells no size: so many more at once are tried before a refusal tells
LINE = 1000  # jobs of a line that are told
WAITS = (jobs.c.state == State.WAITING, jobs.c.reason == Reason.SLOT, jobs.c.pool.is_not(None), ~jobs.c.has_slot)


@dataclass(frozen=True)
class SlotRules:
    """How slots are given."""

    ageing_seconds: float = 3600.0  # a waiting job gains one level of priority in so long
    probe_seconds: float = 60.0  # so long after a refusal one job more is tried than was believed to fit


@dataclass(frozen=True)
class Refused:
    """A slot was taken that the other side did not have."""

    pause_seconds: float | None = None  # its advice; None: `SlotRules.probe_seconds`


@dataclass(frozen=True)
class PoolUse:
    """A pool as it is now."""

    pool: Pool
    held: int
    waiting: int

    @property
    def is_lowered(self) -> bool:
        """Whether a refusal holds it below its size."""
        return self.pool.believed is not None and (self.pool.size is None or self.pool.believed < self.pool.size)

    @property
    def free(self) -> int | None:
        """How many jobs more would be let in; None: refusals will tell."""
        sizes = [size for size in (self.pool.size, self.pool.believed) if size is not None]
        return max(0, min(sizes) - self.held) if sizes else None


class Slots:
    """The slots of all pools."""

    def __init__(self, database: Database, rules: SlotRules) -> None:
        self.database, self.rules = database, rules

    def take(self, job_id: str, pool: str, *, fence: int, is_held: bool = False) -> bool:
        """Take a slot for the holder of a job; False: none is free, or others wait before it.

        `is_held`: the job has one there already, whatever the pool says.

        Raises:
            StaleTransition: the lease was lost
        """
        with self.database.writing() as connection:
            job = write_as_holder(connection, job_id, fence, pool=pool)
            if job.has_slot:
                return True
            found = _locked(connection, pool)
            if is_held:
                write_as_holder(connection, job_id, fence, has_slot=True)
                return True
            room = _room(connection, found, self.rules)
            if room < 1:
                return False
            own = _rank(job, self.rules, datetime.now(UTC))
            before = [rank for rank in _first(connection, pool, self.rules, room) if rank < own]
            if len(before) >= room:
                return False
            write_as_holder(connection, job_id, fence, has_slot=True)
            return True

    def leave(self, job_id: str, *, fence: int) -> str | None:
        """Give the slot of a job whose remote one has ended to the first that waits, and return the pool.

        None: it held none.

        Raises:
            StaleTransition: the lease was lost
        """
        with self.database.writing() as connection:
            job = lock(connection, job_id)
            if not job.has_slot or job.pool is None:
                return None
            write_as_holder(connection, job_id, fence, has_slot=False)
            give_free(connection, job.pool, self.rules, actor=job_id)
            return job.pool

    def called(self, pool: str) -> dict[str, list[str]]:
        """Those who were given a slot of a pool and are not taken up yet: queue → ids."""
        given = (jobs.c.pool == pool, jobs.c.has_slot, jobs.c.state == State.QUEUED)
        found: dict[str, list[str]] = {}
        with self.database.reading() as connection:
            for queue, job_id in connection.execute(select(jobs.c.queue, jobs.c.id).where(*given)):
                found.setdefault(queue, []).append(job_id)
        return found

    def get(self, name: str) -> Pool:
        """A pool, as far as anything is known of it."""
        with self.database.reading() as connection:
            row = connection.execute(select(pools).where(pools.c.name == name)).mappings().first()
        return Pool.model_validate(dict(row)) if row else Pool(name=name)

    def resize(self, name: str, size: int | None, source: str) -> None:
        """Take a pool to hold so many from now on, because of `source`; None: nobody knows, so refusals tell.

        Another size ends what a refusal lowered.
        """
        found = self.get(name)
        if (found.size, found.source) == (size, source):
            return
        values: dict[str, Any] = {"source": source}
        if found.size != size:
            values |= {"size": size, "believed": None, "probe_at": None}
        with self.database.writing() as connection:
            _locked(connection, name)
            connection.execute(update(pools).where(pools.c.name == name).values(values))

    def tell(self, name: str, *, at_once: int | None, a_day: int | None) -> None:
        """Keep what a provider itself says of a pool's limits."""
        values = {"told": at_once, "told_a_day": a_day, "told_at": datetime.now(UTC)}
        with self.database.writing() as connection:
            _locked(connection, name)
            connection.execute(update(pools).where(pools.c.name == name).values(values))

    def ask_again(self) -> int:
        """Make the first of every line due, to hear which limit holds now, and return how many those are."""
        with self.database.reading() as connection:
            wanted = connection.execute(select(jobs.c.pool).where(*WAITS).distinct()).scalars().all()
        asked = 0
        for pool in wanted:
            with self.database.writing() as connection:
                for *_, job_id in _first(connection, pool, self.rules, 1):
                    due = update(jobs).where(jobs.c.id == job_id, *WAITS).values(due_at=datetime.now(UTC))
                    asked += connection.execute(due).rowcount
        return asked

    def give(self, *, actor: str) -> int:
        """Give what is free in any pool to those who wait, and return to how many."""
        given = 0
        for pool in self._with_room():  # a full pool holds up no writer
            with self.database.writing() as connection:
                given += give_free(connection, pool, self.rules, actor=actor)
        return given

    def _with_room(self) -> list[str]:
        """The pools that have a line, and room for one more or the time to try."""
        now, line = datetime.now(UTC), select(jobs.c.pool).where(*WAITS).distinct()
        wanted = select(pools).where(pools.c.name.in_(line))
        counted = select(jobs.c.pool, func.count()).where(jobs.c.pool.in_(line), jobs.c.has_slot).group_by(jobs.c.pool)
        with self.database.reading() as connection:
            found = [Pool.model_validate(dict(row)) for row in connection.execute(wanted).mappings()]
            held_by: dict[str, int] = {name: number for name, number in connection.execute(counted)} if found else {}
        taken = [(pool, held_by.get(pool.name, 0)) for pool in found]
        return [pool.name for pool, number in taken if _fits(pool, number) > 0 or _is_probed(pool, number, now)]

    def ls(self) -> list[PoolUse]:
        """Every pool that a job has ever wanted a slot of."""
        waiting = select(jobs.c.pool, func.count()).where(*WAITS).group_by(jobs.c.pool)
        with self.database.reading() as connection:
            wanted = or_(pools.c.told_at.is_(None), pools.c.source.is_not(None))  # others are only told of
            rows = connection.execute(select(pools).where(wanted).order_by(pools.c.name)).mappings().all()
            lines: dict[str, int] = {name: number for name, number in connection.execute(waiting)}
            found = [Pool.model_validate(dict(row)) for row in rows]
            return [PoolUse(pool, held(connection, pool.name), lines.get(pool.name, 0)) for pool in found]

    def line(self, pool: str) -> list[str]:
        """The jobs that wait for a pool's slots, the next one first."""
        with self.database.reading() as connection:
            return [job_id for *_, job_id in _first(connection, pool, self.rules, LINE)]

    def held_at(self, account: str) -> int:
        """How many jobs hold a slot at an account, in whichever of its pools."""
        query = select(func.count()).select_from(jobs).where(jobs.c.account == account, jobs.c.has_slot)
        with self.database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def starts(self, pool: str, *, but: str) -> list[datetime]:
        """When starts of a pool were sent in the last 24 hours, oldest first, without that of the key `but`."""
        with self.database.reading() as connection:
            return _starts(connection, pool, but)

    def begin_start(self, job: Job, pool: str, key: str, a_day: int | None) -> list[datetime]:
        """Count the start of a key, unless a day allows no more; return the others of the last 24 hours.

        Raises:
            StaleTransition: the lease was lost
        """
        with self.database.writing() as connection:
            write_as_holder(connection, job.id, job.attempt, pool=pool)
            _locked(connection, pool)  # whoever counts the same starts waits here
            others = _starts(connection, pool, key)
            if a_day is None or len(others) < a_day:
                values = {"started_at": datetime.now(UTC)}
                connection.execute(update(bills).where(bills.c.key == key).values(values))
            return others

    def refuse_start(self, key: str) -> None:
        """Count the start of a key no more."""
        with self.database.writing() as connection:
            connection.execute(update(bills).where(bills.c.key == key).values(started_at=None))


def give_free(connection: Connection, pool: str, rules: SlotRules, *, actor: str) -> int:
    """Give a pool's free slots to those who wait for them first, and return how many."""
    given = 0
    room = _room(connection, _locked(connection, pool), rules)
    for *_, job_id in _first(connection, pool, rules, room):
        with suppress(StaleTransition):  # it was cancelled in this very moment
            move(connection, job_id, Event.WOKEN, actor=actor, detail={"slot": pool}, has_slot=True)
            given += 1
    return given


def lower(connection: Connection, pool: str, rules: SlotRules, refused: Refused) -> None:
    """Believe that a pool holds no more than it holds now: one more was refused."""
    _locked(connection, pool)
    seconds = rules.probe_seconds if refused.pause_seconds is None else refused.pause_seconds
    pause = timedelta(seconds=seconds)
    values = {"believed": held(connection, pool), "probe_at": datetime.now(UTC) + pause}
    connection.execute(update(pools).where(pools.c.name == pool).values(values))


def _starts(connection: Connection, pool: str, but: str) -> list[datetime]:
    query = (
        select(bills.c.started_at)
        .join(jobs, jobs.c.id == bills.c.job_id)
        .where(jobs.c.pool == pool, bills.c.key != but)
        .where(bills.c.started_at > datetime.now(UTC) - timedelta(hours=24))
        .order_by(bills.c.started_at)
    )
    return list(connection.execute(query).scalars())


def held(connection: Connection, pool: str) -> int:
    """How many slots of a pool are held."""
    query = select(func.count()).select_from(jobs).where(jobs.c.pool == pool, jobs.c.has_slot)
    return int(connection.execute(query).scalar_one())


def _locked(connection: Connection, name: str) -> Pool:
    """The pool's row, which nobody else writes before this transaction ends."""
    query = select(pools).where(pools.c.name == name).with_for_update()
    if connection.execute(query).first() is None:
        with suppress(IntegrityError), connection.begin_nested():  # another one began it in this very moment
            connection.execute(insert(pools).values(name=name))
    return Pool.model_validate(dict(connection.execute(query).mappings().one()))


def _room(connection: Connection, pool: Pool, rules: SlotRules) -> int:
    """How many more jobs fit; one more than is believed, when it is time to try."""
    taken, now = held(connection, pool.name), datetime.now(UTC)
    room = _fits(pool, taken)
    if room > 0 or not _is_probed(pool, taken, now):
        return room
    values = {"believed": taken + 1, "probe_at": now + timedelta(seconds=rules.probe_seconds)}
    connection.execute(update(pools).where(pools.c.name == pool.name).values(values))
    return 1


def _fits(pool: Pool, taken: int) -> int:
    sizes = [size for size in (pool.size, pool.believed) if size is not None]
    return min(sizes, default=taken + UNKNOWN_SIZE) - taken


def _is_probed(pool: Pool, taken: int, now: datetime) -> bool:
    """Whether it is time to try for one more than is believed."""
    full = pool.size is not None and taken >= pool.size
    return not full and pool.probe_at is not None and pool.probe_at <= now


def _first(connection: Connection, pool: str, rules: SlotRules, number: int) -> list[Rank]:
    """The ranks of the first few that wait for a pool's slots.

    Among those of one priority the first submitted is always first, so nothing else is read, however many wait.
    """
    now = datetime.now(UTC)
    here = select(jobs).where(jobs.c.pool == pool, *WAITS)
    levels = connection.execute(select(jobs.c.priority).where(jobs.c.pool == pool, *WAITS).distinct()).scalars().all()
    ranks = []
    for level in levels if number > 0 else ():
        rows = here.where(jobs.c.priority == level).order_by(jobs.c.submitted_at, jobs.c.id).limit(number)
        ranks += [_rank(row, rules, now) for row in connection.execute(rows).all()]
    return sorted(ranks)[: max(0, number)]


def _rank(job: Any, rules: SlotRules, now: datetime) -> Rank:
    aged = int((now - job.submitted_at).total_seconds() / rules.ageing_seconds)
    return -(job.priority + aged), job.submitted_at, job.id
