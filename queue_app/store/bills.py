"""Money: what a job was quoted, who approved it, what it was committed to, and what was billed in the end."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError

from queue_app.errors import StaleTransition
from queue_app.lifecycle import Event, Reason
from queue_app.store.rows import Bill, Job
from queue_app.store.tables import accounts, bills, jobs, runs
from queue_app.store.transitions import lock, move, write_as_holder

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection

    from queue_app.store.database import Database
    from queue_app.store.money import Caps, Quoted

DAY = timedelta(hours=24)  # any, not the calendar's
SPENT = func.coalesce(bills.c.billed_usd, bills.c.quoted_high_usd, 0.0)  # what is not billed yet counts as quoted


class Bills:
    """The bills of all jobs."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def get(self, job_id: str) -> Bill | None:
        """The bill of a job."""
        with self.database.reading() as connection:
            row = connection.execute(select(bills).where(bills.c.job_id == job_id)).mappings().first()
        return Bill.model_validate(dict(row)) if row else None

    def commit(self, job: Job, account: str, quoted: Quoted, caps: Caps) -> str | None:
        """Commit to what a job is quoted, if the caps allow it or somebody approved it; else say which one it breaks.

        The caps are read and the sum is written in one transaction, so two jobs cannot both take the rest of a cap.

        Raises:
            StaleTransition: the lease was lost
        """
        now = datetime.now(UTC)
        row: dict[str, Any] = {
            "quoted_low_usd": quoted.low,
            "quoted_high_usd": quoted.high,
            "quoted_tokens": quoted.tokens,
        }
        row |= {"account": account, "run_id": job.run_id, "quoted_at": now}
        with self.database.writing() as connection:
            write_as_holder(connection, job.id, job.attempt, account=account)
            # whoever reads the same sums waits here
            connection.execute(select(accounts.c.name).where(accounts.c.name == account).with_for_update())
            connection.execute(select(runs.c.id).where(runs.c.id == job.run_id).with_for_update())
            bill = _put(connection, job.id, row)
            if bill.committed_at is not None:
                return None
            broken = None if bill.approved_at is not None else _broken(connection, job, account, quoted, caps)
            if broken is None:
                _put(connection, job.id, {"committed_at": now})
            return broken

    def release(self, job_id: str) -> None:
        """Nothing came of the commitment: nothing was started, so nothing is owed."""
        with self.database.writing() as connection:
            _put(connection, job_id, {"committed_at": None})

    def approve(self, job_id: str, *, actor: str) -> Job:
        """Let a job go on over its caps, as it is quoted now.

        Raises:
            StaleTransition: it does not wait for approval
        """
        with self.database.writing() as connection:
            if lock(connection, job_id).reason != Reason.APPROVAL:
                raise StaleTransition(f"job {job_id} does not wait for approval; see `tuneyard jobs explain {job_id}`")
            _put(connection, job_id, {"approved_at": datetime.now(UTC), "approved_by": actor})
            return move(connection, job_id, Event.APPROVED, actor=actor)

    def settle(self, job_id: str, *, tokens: int | None, usd: float | None) -> None:
        """Write what was billed."""
        with self.database.writing() as connection:
            _put(connection, job_id, {"billed_tokens": tokens, "billed_usd": usd, "billed_at": datetime.now(UTC)})

    def ls(self) -> list[tuple[Bill, Job]]:
        """Every bill that was committed to, with its job, newest first."""
        query = select(bills).where(bills.c.committed_at.is_not(None)).order_by(bills.c.committed_at.desc())
        of_bills = select(jobs).join(bills, bills.c.job_id == jobs.c.id).where(bills.c.committed_at.is_not(None))
        with self.database.reading() as connection:
            found = [Bill.model_validate(dict(row)) for row in connection.execute(query).mappings()]
            named = {row["id"]: Job.model_validate(dict(row)) for row in connection.execute(of_bills).mappings()}
        return [(bill, named[bill.job_id]) for bill in found if bill.job_id in named]


def _broken(connection: Connection, job: Job, account: str, quoted: Quoted, caps: Caps) -> str | None:
    """The words for the first cap that a job would break."""
    here = bills.c.account == account
    day = bills.c.committed_at > datetime.now(UTC) - DAY
    bounds: list[tuple[str, float | None, tuple[ColumnElement[bool], ...]]] = [
        ("the job's", caps.job, (bills.c.job_id == job.id,)),
        ("the recipe's", caps.recipe if job.run_id else None, (bills.c.run_id == job.run_id,)),
        (f"the account {account}'s", caps.account, (here,)),
        (f"the account {account}'s daily", caps.day, (here, day)),
    ]
    for name, cap, among in bounds:
        if cap is None:
            continue
        spent = connection.execute(
            select(func.coalesce(func.sum(SPENT), 0.0)).where(bills.c.committed_at.is_not(None), *among)
        ).scalar_one()
        if quoted.high is None:
            return f"what it costs is not known, and {name} cap is ${cap:,.2f}"
        if spent + quoted.high > cap:
            return f"it may cost ${quoted.high:,.2f}, ${spent:,.2f} are spent or committed, {name} cap is ${cap:,.2f}"
    return None


def _put(connection: Connection, job_id: str, values: dict[str, Any]) -> Bill:
    here = bills.c.job_id == job_id
    if connection.execute(select(bills.c.job_id).where(here)).first() is None:
        with suppress(IntegrityError), connection.begin_nested():  # another one began it in this very moment
            connection.execute(insert(bills).values(job_id=job_id))
    connection.execute(update(bills).where(here).values(values))
    return Bill.model_validate(dict(connection.execute(select(bills).where(here)).mappings().one()))
