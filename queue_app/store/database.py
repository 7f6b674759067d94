"""The connection to the store: questions in SQL text, transactions, migrations.

A question to a SQLite file goes through the standard library: to load SQLAlchemy takes as long as all else that a
short command does.
"""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from queue_app.errors import Permanent, Transient

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import URL, Connection, Engine

SCHEMA_REVISION = "0003"  # the newest migration
FILE_URL = re.compile(r"sqlite(?:\+pysqlite)?:///((?!:memory:|file:)[^?]+)")  # options are SQLAlchemy's to read
SQLITE_TROUBLES = ("unable to open", "disk I/O", "readonly")
BUSY_SECONDS = 10  # how long a writer waits for another one's transaction


class Database:
    """One store, by its SQLAlchemy URL. Cheap to make: nothing is opened before the first question or transaction."""

    def __init__(self, url: str) -> None:
        self._given = url
        found = FILE_URL.fullmatch(url)
        self.file = Path(unquote(found[1])) if found else None  # of SQLite, where the URL says nothing more
        self.is_sqlite = url.startswith("sqlite")
        self.name = url if found else self.url.render_as_string(hide_password=True)

    @cached_property
    def url(self) -> URL:
        """The URL as SQLAlchemy reads it."""
        from queue_app.store.engine import read_url

        return read_url(self._given)

    @cached_property
    def engine(self) -> Engine:
        """The engine, made on first use, so that it never crosses a fork."""
        from queue_app.store.engine import make_engine

        return make_engine(self.url)

    def ask(self, question: str, **values: Any) -> list[dict[str, Any]]:
        """The rows that answer a question, which names its values `:so`."""
        if self.file is None:
            from sqlalchemy import text

            with self.reading() as connection:
                return [dict(row) for row in connection.execute(text(question).bindparams(**values)).mappings()]
        given = {name: _as_stored(value) for name, value in values.items()}
        with explained(self.name, sqlite3.Error), closing(_open(self.file)) as opened:
            return [dict(row) for row in opened.execute(question, given)]

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that may write; it holds SQLite's write lock from its start."""
        from sqlalchemy.exc import DBAPIError

        with explained(self.name, DBAPIError), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads, and holds up no writer."""
        from sqlalchemy.exc import DBAPIError

        with explained(self.name, DBAPIError), self.engine.connect() as connection:
            yield connection.execution_options(tuneyard_reads=True)

    def migrate(self) -> None:
        """Bring the tables to the newest revision; does nothing, quickly, when they are.

        Raises:
            Permanent: a newer Tuneyard has written them
        """
        if self.revision() != SCHEMA_REVISION:
            from queue_app.store.engine import upgrade

            upgrade(self)

    def revision(self) -> str | None:
        """The revision the tables are at; None: there are none."""
        if self.file is None:
            from queue_app.store.engine import find_revision

            with self.reading() as connection:
                return find_revision(connection)
        if not os.path.exists(self.file):  # noqa: PTH110  (Path's own raises where a folder may not be entered)
            return None
        if not self.ask("SELECT name FROM sqlite_master WHERE name = 'alembic_version'"):
            return None
        return next((row["version_num"] for row in self.ask("SELECT version_num FROM alembic_version")), None)


def any_of(values: Sequence[str]) -> tuple[str, dict[str, str]]:
    """What stands between the brackets of an `IN`, and its values."""
    named = {f"value_{number}": str(value) for number, value in enumerate(values)}
    return ", ".join(f":{name}" for name in named) or "NULL", named


def beginning(prefix: str) -> str:
    """The pattern of a `LIKE … ESCAPE '/'` that means: begins with this."""
    return re.sub("([/%_])", r"/\1", prefix) + "%"


def _open(file: Path) -> sqlite3.Connection:
    opened = sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS)
    opened.row_factory = sqlite3.Row
    opened.execute("PRAGMA query_only=ON")  # opened for writing all the same: the last one out tidies up
    return opened


def _as_stored(value: Any) -> Any:
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f") if isinstance(value, datetime) else value


@contextmanager
def explained(name: str, errors: type[Exception]) -> Iterator[None]:
    """Turn what a database says of its own troubles into our errors."""
    try:
        yield
    except errors as error:
        word = str(getattr(error, "orig", error))  # SQLAlchemy adds the statement to what the driver said
        if "malformed" in word or "not a database" in word:
            raise Permanent(f"{name}: this is no usable store ({word}); restore it from a backup") from error
        if "OperationalError" not in (kind.__name__ for kind in type(error).__mro__):  # so called by every driver
            raise
        if "locked" in word or "busy" in word:
            raise Transient(f"{name}: the store stayed locked for {BUSY_SECONDS} s; is a process stopped?") from error
        if "full" in word:
            raise Permanent(f"{name}: the disk is full; free some space, then go on") from error
        if name.startswith("sqlite") and not any(trouble in word for trouble in SQLITE_TROUBLES):
            raise
        raise Transient(f"{name}: the store does not answer ({word})") from error
