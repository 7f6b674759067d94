"""Steps that are done once in the life of a job: the intent is committed before the action, the value after it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select, update

from queue_app.errors import StaleTransition
from queue_app.lifecycle import State
from queue_app.store.doubt import LONG_AGO, is_in_doubt, submission_key
from queue_app.store.rows import Memo
from queue_app.store.tables import jobs, memos

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from queue_app.store.database import Database


class Memos:
    """The memos of all jobs, written only by whoever holds the job."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def get(self, job_id: str, step: str) -> Memo | None:
        """The memo of a step, whoever wrote it."""
        with self.database.reading() as connection:
            return read_memo(connection, job_id, step)

    def intend(self, job_id: str, step: str, *, fence: int, act_seconds: float | None = None) -> Memo:
        """Commit the intent to do a step and return what was known of it before: a memo with `acted_at` unset is new.

        `act_seconds`: where it is new, the action begins at once and lasts no longer, and that is committed with it.

        Raises:
            StaleTransition: the lease was lost
        """
        with self.database.writing() as connection:
            _hold(connection, job_id, fence)
            memo = read_memo(connection, job_id, step)
            now = datetime.now(UTC)
            begun = {} if act_seconds is None else {"acted_at": now + timedelta(seconds=act_seconds)}
            if memo is None:
                memo = Memo(job_id=job_id, step=step, key=submission_key(job_id, 0), intended_at=now)
                connection.execute(insert(memos).values(memo.model_dump() | begun))
            elif memo.intended_at is None:  # it was forgotten: a new round goes by a new key
                memo.key, memo.intended_at = submission_key(job_id, memo.round), now
                _update(connection, memo, key=memo.key, intended_at=now, **begun)
            elif memo.acted_at is None and begun:
                _update(connection, memo, **begun)
            return memo

    def act(self, memo: Memo, *, fence: int, seconds: float = 0.0) -> None:
        """Commit that the action has ended in so many seconds: it begins now, or ends now.

        Raises:
            StaleTransition: the lease was lost
        """
        with self.database.writing() as connection:
            _hold(connection, memo.job_id, fence)
            _update(connection, memo, acted_at=datetime.now(UTC) + timedelta(seconds=seconds))

    def refuse(self, memo: Memo, *, fence: int) -> None:
        """Commit that the action was refused: a next try looks for it all the same, but waits for no listing.

        Raises:
            StaleTransition: the lease was lost
        """
        with self.database.writing() as connection:
            _hold(connection, memo.job_id, fence)
            _update(connection, memo, acted_at=LONG_AGO)

    def remember(self, memo: Memo, value: Any, *, fence: int) -> None:
        """Commit the value of a step.

        Raises:
            StaleTransition: the lease was lost
        """
        with self.database.writing() as connection:
            _hold(connection, memo.job_id, fence)
            _update(connection, memo, done=True, value=value)


def adopt(connection: Connection, job_id: str, step: str, key: str, value: Any) -> bool:
    """Let a job that nobody holds take over what was made for it; False: it is held, or may have its own already."""
    now = datetime.now(UTC)
    idle = (jobs.c.id == job_id, jobs.c.state != State.RUNNING)
    if connection.execute(select(jobs.c.id).where(*idle).with_for_update()).first() is None:
        return False
    memo = read_memo(connection, job_id, step)
    if memo is None:
        memo = Memo(job_id=job_id, step=step, key=key)
        connection.execute(insert(memos).values(memo.model_dump()))
    if memo.done or (is_in_doubt(memo) and memo.key != key):
        return False
    _update(connection, memo, key=key, intended_at=now, acted_at=now, done=True, value=value)
    return True


def read_memo(connection: Connection, job_id: str, step: str) -> Memo | None:
    """The memo of a step, inside a transaction."""
    query = select(memos).where(memos.c.job_id == job_id, memos.c.step == step)
    row = connection.execute(query).mappings().first()
    return Memo.model_validate(dict(row)) if row else None


def _hold(connection: Connection, job_id: str, fence: int) -> None:
    guard = (jobs.c.id == job_id, jobs.c.state == State.RUNNING, jobs.c.attempt == fence)
    if connection.execute(select(jobs.c.id).where(*guard).with_for_update()).first() is None:
        raise StaleTransition(f"job {job_id}: attempt {fence} has lost its lease")


def _update(connection: Connection, memo: Memo, **values: Any) -> None:
    here = (memos.c.job_id == memo.job_id, memos.c.step == memo.step)
    connection.execute(update(memos).where(*here).values(values))
