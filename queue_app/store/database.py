"""The connection to the store: engine, transactions, migrations."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from queue_app.errors import Invalid, Permanent, Transient
from queue_app.store.tables import SCHEMA_REVISION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

SQLITE_TROUBLES = ("unable to open", "disk I/O", "readonly")
URL_FORMS = "sqlite:////folder/tuneyard.db or postgresql+psycopg://user:password@host/database"
MIGRATION_LOCK = 0x74756E65  # any number that nobody else locks; migrations of one database wait for one another
BUSY_SECONDS = 10  # how long a writer waits for another one's transaction


class Database:
    """One store, by its SQLAlchemy URL. Cheap to make: nothing is opened before the first transaction."""

    def __init__(self, url: str) -> None:
        try:
            self.url = make_url(url)
        except (ArgumentError, ValueError) as error:  # neither message is passed on: the URL may hold a password
            raise Invalid(f"TUNEYARD_STORE__URL is no database URL; write it as {URL_FORMS}") from error

    @cached_property
    def engine(self) -> Engine:
        """The engine, made on first use, so that it never crosses a fork."""
        if self.url.get_backend_name() != "sqlite":
            return self._server_engine()
        if self.url.database:
            _make_folder(Path(self.url.database).parent)
        engine = create_engine(self.url, connect_args={"timeout": BUSY_SECONDS})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    def _server_engine(self) -> Engine:
        try:
            return create_engine(self.url, pool_pre_ping=True)
        except NoSuchModuleError as error:
            raise Invalid(
                f'TUNEYARD_STORE__URL: there is no database called "{self.url.drivername}"; write it as {URL_FORMS}'
            ) from error
        except ModuleNotFoundError as error:
            raise Invalid(
                f"TUNEYARD_STORE__URL: {self.url.drivername} needs the package {error.name}, which is not installed; "
                "for PostgreSQL: pip install 'psycopg[binary]', and begin the URL with postgresql+psycopg://"
            ) from error

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that may write; it holds SQLite's write lock from its start."""
        with _explained(self.url.render_as_string(hide_password=True)), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads, and holds up no writer."""
        name = self.url.render_as_string(hide_password=True)
        with _explained(name), self.engine.connect().execution_options(tuneyard_reads=True) as connection:
            yield connection

    def migrate(self) -> None:
        """Bring the tables to the newest revision; does nothing, quickly, when they are.

        Raises:
            Permanent: a newer Tuneyard has written them
        """
        if self.revision() == SCHEMA_REVISION:
            return
        from alembic import command  # 0.2 s that only a first start pays
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent.parent / "migrations"))
        with self.writing() as connection:
            if self.engine.dialect.name == "postgresql":  # SQLite's writers wait for one another anyway
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            found = self._revision(connection)
            known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
            if found is not None and found not in known:
                raise Permanent(
                    f"{self.url.render_as_string(hide_password=True)}: this store was written by a newer Tuneyard "
                    f"(revision {found}; this one knows {SCHEMA_REVISION}); upgrade Tuneyard"
                )
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def revision(self) -> str | None:
        """The revision the tables are at; None: there are none."""
        with self.reading() as connection:
            return self._revision(connection)

    def _revision(self, connection: Connection) -> str | None:
        if not self.engine.dialect.has_table(connection, "alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Permanent(f"{folder}: the store's folder cannot be made ({error.strerror})") from error


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # this module sends BEGIN itself
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_SECONDS * 1000}", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A deferred BEGIN that upgrades to a write fails at once when another writer was quicker, whatever the timeout.
    reads = connection.get_execution_options().get("tuneyard_reads")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn what a database says of its own troubles into our errors."""
    try:
        yield
    except OperationalError as error:
        word = str(error.orig)
        if "locked" in word or "busy" in word:
            raise Transient(f"{url}: the store stayed locked for {BUSY_SECONDS} s; is a process stopped?") from error
        if "full" in word:
            raise Permanent(f"{url}: the disk is full; free some space, then go on") from error
        if url.startswith("sqlite") and not any(trouble in word for trouble in SQLITE_TROUBLES):
            raise
        raise Transient(f"{url}: the store does not answer ({word})") from error
    except DBAPIError as error:
        if "malformed" in str(error.orig) or "not a database" in str(error.orig):
            raise Permanent(f"{url}: this is no usable store ({error.orig}); restore it from a backup") from error
        raise
