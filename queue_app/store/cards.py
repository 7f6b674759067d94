"""Cards: a job may need several of one host, and its own row says which it holds, for as long as it runs.

All or nothing, and derived: what ends its attempt, whatever that is, frees them in the same transaction. A worker whose
card is held by a job claims nothing, nor does one whose card is lost while another one's answers. The most urgent job
that the host could ever serve goes first: until its cards are free, the host's other workers take nothing that is less
urgent. So no job starves, and no two hold parts of each other.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, or_, select

from queue_app.lifecycle import Request, State
from queue_app.store.tables import jobs, workers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Row

    from queue_app.store.database import Database
    from queue_app.store.rows import Job

CARD_QUEUE = "gpu"  # whose workers have a card each, or a share of the CPU
SLICE = "MIG-"  # how the UUID of a slice begins; slices cannot talk to one another, so each stands alone

Holds = dict[str, str | None]  # worker → card


@dataclass(frozen=True)
class Seat:
    """A worker that lives, and its card; None: it trains on the CPU."""

    worker: str
    card: str | None
    is_free: bool


@dataclass(frozen=True)
class Bench:
    """The seats of a host that one job can have together, no two of them at one card."""

    host: str
    seats: tuple[Seat, ...]

    @property
    def free(self) -> list[Seat]:
        return [seat for seat in self.seats if seat.is_free]


@dataclass(frozen=True)
class Next:
    """What a worker is to do now; `holds`: where the job needs several cards."""

    job_id: str
    holds: Holds | None = None


class Cards:
    """What cards the workers that live have together; `Store.claim` reserves them."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def benches(self, lease_seconds: float) -> list[Bench]:
        """The seats of all hosts, the longest bench first."""
        with self.database.reading() as connection:
            found = _benches(_able(connection.execute(_living(lease_seconds)).all()), _running(connection))
        return sorted(found, key=lambda bench: (-len(bench.seats), -len(bench.free), bench.host))

    def drains_for(self, lease_seconds: float) -> str | None:
        """The job of several cards before which no host begins one of a single card; None: some would."""
        benches = self.benches(lease_seconds)
        with self.database.reading() as connection:
            found = [_first(connection, most=len(bench.seats)) for bench in benches]
        large = [first.id for first in found if first is not None and first.cards > 1]
        return str(large[0]) if large and len(large) == len(found) else None

    def has_taker(self, queue: str, lease_seconds: float) -> bool:
        """Whether somebody would take up something that is due in a queue, if the bell were rung.

        Asked exactly where cards are lost, reserved, or are to be; anywhere else whoever is free takes what is due.
        """
        if queue != CARD_QUEUE:
            return True
        with self.database.reading() as connection:
            first, running = _first(connection), _running(connection)
            living = connection.execute(_living(lease_seconds)).all()
            is_plain = not any(row.holds for row in running) and not any(row.card_lost for row in living)
            if first is None or (first.cards == 1 and is_plain):
                return first is not None
            found = _benches(_able(living), running)
            return any(bench.free and _next(connection, bench) is not None for bench in found)

    def called(self, ended: Job) -> dict[str, list[str]]:
        """Whom to ring for after an attempt that has ended: those who waited for what it held. Queue → ids."""
        if ended.queue != CARD_QUEUE:
            return {}
        query = select(jobs.c.id, _needed().label("cards")).where(*_due()).order_by(*ORDER)
        query = query.limit(max(1, len(ended.holds or {})))
        with self.database.reading() as connection:
            found = connection.execute(query).all()
        if not found or (not ended.holds and found[0].cards == 1):  # rings for it stand in the queue as it is
            return {}
        return {ended.queue: [row.id for row in found]}


def choose(connection: Connection, worker: str, lease_seconds: float) -> Next | None:
    """What a worker of the queue of cards is to take up now; None: there is nothing, or it has to wait.

    Locks the rows of its host's workers, so that no two of them decide at once.
    """
    host = select(workers.c.host).where(workers.c.name == worker).scalar_subquery()
    here = select(workers).where(workers.c.host == host, workers.c.queue == CARD_QUEUE)
    near = connection.execute(here.order_by(workers.c.name).with_for_update()).all()
    own = next((row for row in near if row.name == worker), None)
    first, running = _first(connection), _running(connection)
    if first is None or (own is not None and (_is_lent(own, running) or _yields(connection, own, lease_seconds))):
        return None
    if first.cards == 1:
        return Next(first.id)
    oldest = datetime.now(UTC) - timedelta(seconds=lease_seconds)
    living = _able([row for row in near if row.seen_at >= oldest or row is own])
    benches = _benches([each for each in living if each is not own], running)
    return _next(connection, _with(own, benches))


def _with(own: Row[Any] | None, benches: list[Bench]) -> Bench:
    """The bench that a worker can have a job on: its own seat first, which is free, for it asks."""
    if own is None:
        return Bench("", (Seat("", None, is_free=True),))
    first = Seat(own.name, own.card, is_free=True)
    beside = next((bench.seats for bench in benches if _kind(bench.seats[0].card) == _kind(own.card)), ())
    return Bench(own.host, (first, *(seat for seat in beside if own.card is None or seat.card != own.card)))


def _next(connection: Connection, bench: Bench) -> Next | None:
    """The most urgent due job that a bench could ever serve, if it can now."""
    found = _first(connection, most=len(bench.seats))
    if found is None or found.cards > len(bench.free):
        return None
    if found.cards == 1:
        return Next(found.id)
    return Next(found.id, {seat.worker: seat.card for seat in bench.free[: found.cards]})


ORDER = (jobs.c.priority.desc(), jobs.c.has_slot.desc(), jobs.c.due_at, jobs.c.id)


def _due() -> tuple[Any, ...]:
    return (jobs.c.queue == CARD_QUEUE, jobs.c.due_at <= datetime.now(UTC), jobs.c.due_at.is_not(None))


def _first(connection: Connection, most: int | None = None) -> Row[Any] | None:
    query = select(jobs.c.id, _needed().label("cards")).where(*_due()).order_by(*ORDER).limit(1)
    return connection.execute(query if most is None else query.where(_needed() <= most)).first()


def _needed() -> Any:
    """How many cards a claim takes: whoever only ends a job needs no more than its own."""
    only_ends = or_(jobs.c.request == Request.CANCEL, jobs.c.deadline_at < datetime.now(UTC))
    return case((only_ends, 1), else_=jobs.c.cards)


def _running(connection: Connection) -> Sequence[Any]:
    """(worker, holds) of every attempt that has a card."""
    here = (jobs.c.state == State.RUNNING, jobs.c.queue == CARD_QUEUE)
    return connection.execute(select(jobs.c.worker, jobs.c.holds).where(*here)).all()


def _living(lease_seconds: float) -> Any:
    seen = workers.c.seen_at >= datetime.now(UTC) - timedelta(seconds=lease_seconds)
    return select(workers).where(workers.c.queue == CARD_QUEUE, seen).order_by(workers.c.name)


def _able(living: Sequence[Any]) -> list[Any]:
    """Those whose card answers; all, if there are none: then a job is taken up, to say what it waits for."""
    return [row for row in living if not row.card_lost] or list(living)


def _yields(connection: Connection, own: Row[Any], lease_seconds: float) -> bool:
    """Whether a worker has lost its card, and another one, on whatever host, has not."""
    return own.card_lost and any(not row.card_lost for row in connection.execute(_living(lease_seconds)))


def _is_lent(worker: Row[Any], running: Sequence[Any]) -> bool:
    """Whether a job holds it, or its card: a worker that died may have been followed by another one at that card."""
    return any(worker.name in row.holds or _held(worker.card, row.holds) for row in running if row.holds)


def _held(card: str | None, holds: Holds) -> bool:
    return card is not None and card in holds.values()


def _benches(living: Sequence[Any], running: Sequence[Any]) -> list[Bench]:
    """Workers that live, as the seats that go together."""
    at_work = {row.worker for row in running}
    busy = {row.card for row in living if row.card is not None and row.name in at_work}
    seats: dict[tuple[str, str], dict[str, Seat]] = defaultdict(dict)
    for row in living:
        taken = row.name in at_work or row.card in busy or _is_lent(row, running)
        place = row.card or row.name
        seats[row.host, _kind(row.card)].setdefault(place, Seat(row.name, row.card, not taken))
    return [Bench(host, tuple(places.values())) for (host, _), places in seats.items()]


def _kind(card: str | None) -> str:
    """What goes together: whole cards, shares of a CPU; a slice stands for itself."""
    if card is None:
        return "cpu"
    return card if card.startswith(SLICE) else "card"
