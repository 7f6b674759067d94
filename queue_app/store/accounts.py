"""Accounts elsewhere that jobs talk to: whether one answers, is left alone for a while, and what its jobs look like."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from queue_app.lifecycle import Reason, State
from queue_app.store.rows import Account, RemoteLook
from queue_app.store.tables import accounts, jobs, pools, remote_looks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection

    from queue_app.store.database import Database


class Accounts:
    """The accounts' rows."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def get(self, name: str) -> Account:
        """The account, as far as anything happened to it."""
        with self.database.reading() as connection:
            row = connection.execute(select(accounts).where(accounts.c.name == name)).mappings().first()
        return Account.model_validate(dict(row)) if row else Account(name=name)

    def ls(self) -> list[Account]:
        """Every account that something happened to."""
        with self.database.reading() as connection:
            rows = connection.execute(select(accounts).order_by(accounts.c.name)).mappings().all()
        return [Account.model_validate(dict(row)) for row in rows]

    def answered(self, name: str) -> None:
        """It answers: its silence is over. What it answers to looks says nothing of its balance."""
        self._write(name, failures=0, failing_since=None)
        self._end_pause(name, accounts.c.paused_for == Reason.BACKOFF)

    def failed(self, name: str, why: str, *, pause_seconds: float | None) -> Account:
        """Count a failure to get an answer; with a pause, nobody asks before it is over."""
        now, found = datetime.now(UTC), self.get(name)
        values: dict[str, Any] = {"failures": found.failures + 1, "failing_since": found.failing_since or now}
        self._write(name, **values)
        if pause_seconds is not None:
            self.pause(name, why, now + timedelta(seconds=pause_seconds), Reason.BACKOFF)
        return self.get(name)

    def pause(self, name: str, why: str, until: datetime | None, reason: Reason) -> None:
        """Leave an account alone until then; None: until it is resumed, which no shorter pause takes the place of."""
        self._write(name)
        here = [accounts.c.name == name]
        if until is not None:
            here.append(or_(accounts.c.paused_for.is_(None), accounts.c.paused_until.is_not(None)))
        with self.database.writing() as connection:
            values = {"paused_until": until, "paused_why": why, "paused_for": reason}
            connection.execute(update(accounts).where(*here).values(values))

    def resume(self, name: str) -> int:
        """Ask an account again at once, with the jobs that wait for it, and return how many those are.

        Those that wait for a slot or for room under a cap ask again, by the limits that the settings give now. What
        refusals have lowered is forgotten.
        """
        self._write(name, failures=0, failing_since=None)
        self._end_pause(name)
        waits = (
            jobs.c.account == name,
            jobs.c.state == State.WAITING,
            jobs.c.reason.in_([Reason.BUDGET, Reason.BACKOFF, Reason.SLOT, Reason.APPROVAL]),
        )
        here = or_(pools.c.name == name, pools.c.name.startswith(f"{name}/", autoescape=True))
        with self.database.writing() as connection:
            connection.execute(update(pools).where(here).values(believed=None, probe_at=None))
            return connection.execute(update(jobs).where(*waits).values(due_at=datetime.now(UTC))).rowcount

    # -- looks ------------------------------------------------------------------------------------------------------

    def begin_look(self, name: str, *, every_seconds: float) -> bool:
        """Whether it is time to look at all of an account's jobs; then whoever asked does it."""
        now = datetime.now(UTC)
        self._write(name)
        due = or_(accounts.c.looked_at.is_(None), accounts.c.looked_at <= now - timedelta(seconds=every_seconds))
        with self.database.writing() as connection:
            moved = connection.execute(update(accounts).where(accounts.c.name == name, due).values(looked_at=now))
            return moved.rowcount == 1

    def look(self, name: str, remote_id: str) -> RemoteLook | None:
        """How a remote job was seen last."""
        here = (remote_looks.c.account == name, remote_looks.c.remote_id == remote_id)
        with self.database.reading() as connection:
            row = connection.execute(select(remote_looks).where(*here)).mappings().first()
        return RemoteLook.model_validate(dict(row)) if row else None

    def looks(self, name: str) -> list[RemoteLook]:
        """Every job of an account as it was seen last, newest first."""
        query = select(remote_looks).where(remote_looks.c.account == name).order_by(remote_looks.c.created_at.desc())
        with self.database.reading() as connection:
            return [RemoteLook.model_validate(dict(row)) for row in connection.execute(query).mappings()]

    def remember(self, name: str, looks: Sequence[RemoteLook]) -> None:
        """Keep how remote jobs were seen, and make due the jobs of ours whose remote one has ended meanwhile."""
        known = {look.remote_id: look for look in self.looks(name)}
        news = [look for look in looks if look != known.get(look.remote_id)]
        if not news:
            return
        now = datetime.now(UTC)
        ids = [look.remote_id for look in news]
        ended = [look.job_id for look in news if look.ended and look.job_id]
        waits = (jobs.c.id.in_(ended), jobs.c.state == State.WAITING, jobs.c.reason == Reason.REMOTE)
        with self.database.writing() as connection:
            here = (remote_looks.c.account == name, remote_looks.c.remote_id.in_(ids))
            connection.execute(delete(remote_looks).where(*here))
            connection.execute(insert(remote_looks), [look.model_dump() for look in news])
            connection.execute(update(jobs).where(*waits, jobs.c.due_at > now).values(due_at=now))

    def _end_pause(self, name: str, *which: ColumnElement[bool]) -> None:
        nothing = {"paused_until": None, "paused_why": None, "paused_for": None}
        with self.database.writing() as connection:
            connection.execute(update(accounts).where(accounts.c.name == name, *which).values(nothing))

    def _write(self, name: str, **values: Any) -> None:
        with self.database.writing() as connection:
            _begin(connection, name)
            if values:
                connection.execute(update(accounts).where(accounts.c.name == name).values(values))


def lock_account(connection: Connection, name: str) -> None:
    """Wait until nobody else in a transaction has locked the account."""
    _begin(connection, name)  # a row that is not there holds nobody up
    connection.execute(select(accounts.c.name).where(accounts.c.name == name).with_for_update())


def _begin(connection: Connection, name: str) -> None:
    if connection.execute(select(accounts.c.name).where(accounts.c.name == name)).first() is None:
        with suppress(IntegrityError), connection.begin_nested():  # another one began it in this very moment
            connection.execute(insert(accounts).values(name=name, failures=0))
