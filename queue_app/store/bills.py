"""Money: what a start was quoted, who approved it, what it was committed to, and what was billed in the end.

One bill a submission key: a start that was cancelled and billed, and the one that a retry makes, are two. A sum is
committed in the transaction that reads the caps, and taken back only where it is certain that nothing was created.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, exists, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from queue_app.errors import StaleTransition
from queue_app.lifecycle import Event, Reason, State
from queue_app.store.accounts import lock_account
from queue_app.store.doubt import LONG_AGO, going_key, is_in_doubt
from queue_app.store.memos import adopt, read_memo
from queue_app.store.money import START, dollars, fits, sum_of
from queue_app.store.rows import Bill, Job
from queue_app.store.tables import bills, jobs, memos, runs
from queue_app.store.transitions import lock, move, write_as_holder

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection

    from queue_app.store.database import Database
    from queue_app.store.money import Billed, Caps, Quoted

DAY = timedelta(hours=24)  # any, not the calendar's, so there is no border to cross
LINE = 100  # waiting jobs that are looked through when there is room
SPENT = func.coalesce(bills.c.billed_usd, bills.c.quoted_high_usd, 0.0)  # what is not billed yet counts as quoted
BEGUN = exists(
    select(memos.c.job_id).where(
        memos.c.job_id == bills.c.job_id,
        memos.c.step == START,
        memos.c.key == bills.c.key,
        or_(memos.c.done, memos.c.acted_at > LONG_AGO),
    )
)


class Bills:
    """The bills of all jobs."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def of(self, job_id: str) -> list[Bill]:
        """The bills of a job, the oldest first."""
        with self.database.reading() as connection:
            return _of(connection, job_id)

    def get(self, job_id: str) -> Bill | None:
        """The newest bill of a job."""
        return next(reversed(self.of(job_id)), None)

    def going(self, job_id: str) -> Bill | None:
        """The bill of what a job has started, or starts next."""
        with self.database.reading() as connection:
            key = going_key(job_id, read_memo(connection, job_id, START))
            return _read(connection, key)

    def commit(self, job: Job, account: str, quoted: Quoted, caps: Caps) -> str | None:
        """Commit to what a job is quoted, if the caps allow it or somebody approved it; else say which one it breaks.

        What may have been started already is committed to whatever the caps say; what has not is asked about anew each
        time, for a price or a cap may have changed while it waited.

        Raises:
            StaleTransition: the lease was lost
        """
        now = datetime.now(UTC)
        values = {"quoted_low_usd": sum_of(quoted.low), "quoted_high_usd": sum_of(quoted.high)}
        with self.database.writing() as connection:
            write_as_holder(connection, job.id, job.attempt, account=account)
            lock_account(connection, account)  # whoever reads the same sums waits here, and so below
            connection.execute(select(runs.c.id).where(runs.c.id == job.run_id).with_for_update())
            before, begun = _going(connection, job, account)
            if begun:
                fresh = {"committed_at": before.committed_at or now}
                told: dict[str, Any] = dict(values) if before.quoted_at is None else {}
                told |= {"quoted_tokens": quoted.tokens, "quoted_at": now} if told else {}
                _change(connection, before, **told, **fresh)
                return None
            bill = before.model_copy(update=values)
            broken = None if _is_approved(bill) else _broken(connection, bill, caps)
            committed = None if broken else now
            _change(connection, before, **values, quoted_tokens=quoted.tokens, quoted_at=now, committed_at=committed)
            return broken

    def release(self, job: Job) -> None:
        """Nothing is billed for what the job started.

        Raises:
            StaleTransition: the lease was lost
        """
        with self.database.writing() as connection:
            write_as_holder(connection, job.id, job.attempt, worker=job.worker)
            bill = _read(connection, going_key(job.id, read_memo(connection, job.id, START)))
            if bill is not None:
                _change(connection, bill, committed_at=None)

    def settle(self, job: Job, account: str, billed: Billed) -> None:
        """Write what was billed for what the job started.

        Raises:
            StaleTransition: the lease was lost
        """
        now = datetime.now(UTC)
        values = {"billed_tokens": billed.tokens, "billed_usd": sum_of(billed.usd), "is_estimate": billed.is_estimate}
        with self.database.writing() as connection:
            bill, _ = _going(connection, write_as_holder(connection, job.id, job.attempt, account=account), account)
            _change(connection, bill, **values, billed_at=now, committed_at=bill.committed_at or now)

    def approve(self, job_id: str, *, actor: str) -> Job:
        """Let a job go on over its caps, up to the sum that it is quoted now.

        Raises:
            StaleTransition: it does not wait for approval
        """
        with self.database.writing() as connection:
            job = lock(connection, job_id)
            if job.reason != Reason.APPROVAL:
                raise StaleTransition(f"job {job_id} does not wait for approval; see `tuneyard jobs explain {job_id}`")
            bill, _ = _going(connection, job, job.account or "")
            values = {"approved_at": datetime.now(UTC), "approved_by": actor, "approved_usd": bill.quoted_high_usd}
            _change(connection, bill, **values)
            return move(connection, job_id, Event.APPROVED, actor=actor)

    def adopt(self, job: Job, account: str, key: str, remote_id: str) -> bool:
        """Let a job that nobody holds take over what was started for it, and commit to it whatever the caps say.

        False: it is held, or may have another one already.
        """
        now = datetime.now(UTC)
        with self.database.writing() as connection:
            meant = _read(connection, going_key(job.id, read_memo(connection, job.id, START)))
            if not adopt(connection, job.id, START, key, remote_id):
                return False
            lock_account(connection, account)
            quoted = next((bill for bill in reversed(_of(connection, job.id)) if bill.quoted_at is not None), None)
            if meant is not None and meant.key != key:  # what it meant to start is not started
                _change(connection, meant, committed_at=None)
            bill, _ = _going(connection, job, account)
            fields = ("quoted_at", "quoted_low_usd", "quoted_high_usd", "quoted_tokens")
            told = {name: getattr(quoted, name) for name in fields} if quoted and bill.quoted_at is None else {}
            _change(connection, bill, **told, committed_at=bill.committed_at or now, started_at=bill.started_at or now)
            return True

    def ls(self) -> list[tuple[Bill, Job]]:
        """Every bill that was committed to, with its job, newest first."""
        query = select(bills).where(bills.c.committed_at.is_not(None)).order_by(bills.c.committed_at.desc())
        of_bills = select(jobs).join(bills, bills.c.job_id == jobs.c.id).where(bills.c.committed_at.is_not(None))
        with self.database.reading() as connection:
            found = [Bill.model_validate(dict(row)) for row in connection.execute(query).mappings()]
            named = {row["id"]: Job.model_validate(dict(row)) for row in connection.execute(of_bills).mappings()}
        return [(bill, named[bill.job_id]) for bill in found if bill.job_id in named]


def end_start(connection: Connection, job: Job, *, is_forgotten: bool) -> None:
    """See to the commitment of a job that goes no further under this key.

    It is taken back where it is certain that nothing was created. What is forgotten without a word of its price is
    billed as it was quoted: nobody will look at it again.
    """
    memo = read_memo(connection, job.id, START)
    bill = _read(connection, going_key(job.id, memo))
    if bill is None or bill.committed_at is None or bill.billed_at is not None:
        return
    if memo is None or not (memo.done or is_in_doubt(memo)):
        _change(connection, bill, committed_at=None)
    elif is_forgotten:
        _change(connection, bill, billed_at=datetime.now(UTC), is_estimate=True)


def _is_approved(bill: Bill) -> bool:
    """Whether somebody approved of as much as the bill is quoted now."""
    if bill.approved_at is None or bill.approved_usd is None or bill.quoted_high_usd is None:
        return bill.approved_at is not None and bill.approved_usd == bill.quoted_high_usd
    return fits(bill.quoted_high_usd, bill.approved_usd)


def _broken(connection: Connection, bill: Bill, caps: Caps) -> str | None:
    """The words for a cap that a bill would break, one of 0 before all others."""
    here = bills.c.account == bill.account
    # what waits for its slot may begin on any day
    day = or_(bills.c.committed_at > datetime.now(UTC) - DAY, and_(bills.c.billed_at.is_(None), ~BEGUN))
    bounds: list[tuple[str, float | None, tuple[ColumnElement[bool], ...]]] = [
        ("the job's", caps.job, (bills.c.job_id == bill.job_id,)),
        ("the recipe's", caps.recipe if bill.run_id else None, (bills.c.run_id == bill.run_id,)),
        (f"the account {bill.account}'s", caps.account, (here,)),
        (f"the account {bill.account}'s daily", caps.day, (here, day)),
    ]
    high = bill.quoted_high_usd
    for name, cap, among in sorted(bounds, key=lambda bound: bound[1] != 0):
        if cap is None:
            continue
        others = (bills.c.committed_at.is_not(None), bills.c.key != bill.key, *among)
        spent = float(connection.execute(select(func.coalesce(func.sum(SPENT), 0.0)).where(*others)).scalar_one())
        if high is None:
            return f"what it costs is not known, and {name} cap is {dollars(cap)[0]}"
        if not fits(spent + high, cap):
            cost, before, most, _ = dollars(high, spent, cap, spent + high)
            return f"it may cost {cost}, {before} are spent or committed, {name} cap is {most}"
    return None


def _going(connection: Connection, job: Job, account: str) -> tuple[Bill, bool]:
    """The bill of what a job has started, or starts next, begun if need be; and whether something may be there."""
    memo = read_memo(connection, job.id, START)
    key = going_key(job.id, memo)
    bill = _read(connection, key)
    if bill is None:
        bill = Bill(key=key, job_id=job.id, account=account, run_id=job.run_id)
        with suppress(IntegrityError), connection.begin_nested():  # another one began it in this very moment
            connection.execute(insert(bills).values(bill.model_dump()))
        bill = _read(connection, key) or bill
    return bill, memo is not None and (memo.done or is_in_doubt(memo))


def _of(connection: Connection, job_id: str) -> list[Bill]:
    rows = connection.execute(select(bills).where(bills.c.job_id == job_id)).mappings()
    # the keys of later rounds are longer, or end with a greater number
    return sorted((Bill.model_validate(dict(row)) for row in rows), key=lambda bill: (len(bill.key), bill.key))


def _read(connection: Connection, key: str) -> Bill | None:
    row = connection.execute(select(bills).where(bills.c.key == key)).mappings().first()
    return Bill.model_validate(dict(row)) if row else None


def _change(connection: Connection, bill: Bill, **values: Any) -> None:
    """Write to a bill; where it counts for less than before, who waits for room under a cap is called."""
    connection.execute(update(bills).where(bills.c.key == bill.key).values(values))
    freed = _counted(bill) - _counted(bill.model_copy(update=values))
    if freed > 0:
        _call_waiting(connection, bill, freed)


def _counted(bill: Bill) -> float:
    known = (bill.billed_usd, bill.quoted_high_usd)
    return next((sum_ for sum_ in known if sum_ is not None), 0.0) if bill.committed_at is not None else 0.0


def _call_waiting(connection: Connection, bill: Bill, freed: float) -> None:
    """Let jobs that wait for approval ask again: the first in line, and those after it that the freed sum may hold."""
    now = datetime.now(UTC)
    same = or_(jobs.c.account == bill.account, and_(jobs.c.run_id.is_not(None), jobs.c.run_id == bill.run_id))
    waits = (jobs.c.state == State.WAITING, jobs.c.reason == Reason.APPROVAL, jobs.c.id != bill.job_id)
    line = (
        select(jobs.c.id, bills.c.quoted_high_usd)
        .join(bills, bills.c.job_id == jobs.c.id)
        .where(*waits, same, bills.c.committed_at.is_(None))
        .order_by(jobs.c.priority.desc(), jobs.c.submitted_at, jobs.c.id)
        .limit(LINE)
    )
    called: list[str] = []
    for job_id, high in connection.execute(line):
        if called and (high is None or not fits(high, freed)):
            break
        called.append(job_id)
        freed -= high or 0.0
    connection.execute(update(jobs).where(jobs.c.id.in_(called), *waits).values(due_at=now))
