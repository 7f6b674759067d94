"""What of a database only SQLAlchemy and Alembic do: its URL, its engine, its migrations."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from tenacity import retry, retry_if_exception_message, stop_after_delay, wait_random

from queue_app.errors import Invalid, Permanent
from queue_app.store.database import BUSY_SECONDS, SCHEMA_REVISION

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

    from queue_app.store.database import Database

URL_FORMS = "sqlite:////folder/tuneyard.db or postgresql+psycopg://user:password@host/database"
OTHER_TABLES = re.compile("no such (table|column)|duplicate column|already exists|does not exist")
MIGRATION_LOCK = 0x74756E65  # any number that nobody else locks; migrations of one database wait for one another


def read_url(url: str) -> URL:
    """The URL in its parts."""
    try:
        return make_url(url)
    except (ArgumentError, ValueError) as error:  # neither message is passed on: the URL may hold a password
        raise Invalid(f"TUNEYARD_STORE__URL is no database URL; write it as {URL_FORMS}") from error


def make_engine(url: URL) -> Engine:
    """The engine, which opens nothing yet; a SQLite file's folder is made."""
    if url.get_backend_name() != "sqlite":
        return _server_engine(url)
    if url.database:
        _make_folder(Path(url.database).parent)
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _server_engine(url: URL) -> Engine:
    try:
        return create_engine(url, pool_pre_ping=True)
    except NoSuchModuleError as error:
        raise Invalid(
            f'TUNEYARD_STORE__URL: there is no database called "{url.drivername}"; write it as {URL_FORMS}'
        ) from error
    except ModuleNotFoundError as error:
        raise Invalid(
            f"TUNEYARD_STORE__URL: {url.drivername} needs the package {error.name}, which is not installed; "
            "for PostgreSQL: pip install 'psycopg[binary]', and begin the URL with postgresql+psycopg://"
        ) from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Permanent(f"{folder}: the store's folder cannot be made ({error.strerror})") from error


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # this module sends BEGIN itself
    _keep_a_log(connection)
    for pragma in ("synchronous=FULL", f"busy_timeout={BUSY_SECONDS * 1000}", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


@retry(
    retry=retry_if_exception_message(match=".*locked"),
    wait=wait_random(0.01, 0.1),
    stop=stop_after_delay(BUSY_SECONDS),
    reraise=True,
)
def _keep_a_log(connection: Any) -> None:
    # Of several that open a new file at once, one changes its journal; the others are refused at once, whatever the
    # timeout: each has read the file and would write it, and SQLite lets nobody wait who holds what another waits for.
    connection.execute("PRAGMA journal_mode=WAL")


def _begin_sqlite(connection: Connection) -> None:
    # A deferred BEGIN that upgrades to a write fails at once when another writer was quicker, whatever the timeout.
    reads = connection.get_execution_options().get("tuneyard_reads")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def find_revision(connection: Connection) -> str | None:
    """The revision the tables are at; None: there are none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def upgrade(database: Database) -> None:
    """Bring the tables to the newest revision; several processes may come at once."""
    from alembic import command  # 0.2 s that only a first start pays
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent.parent / "migrations"))
    with database.writing() as connection:
        if connection.dialect.name == "postgresql":  # SQLite's writers wait for one another anyway
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        found = find_revision(connection)
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if found is not None and found not in known:
            raise Permanent(
                f"{database.name}: this store was written by a newer Tuneyard "
                f"(revision {found}; this one knows {SCHEMA_REVISION}); upgrade Tuneyard"
            )
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except DBAPIError as error:
            if not OTHER_TABLES.search(str(error.orig)):
                raise
            raise Permanent(
                f"{database.name}: the tables are not those of revision {found}, which it is said to have "
                f"({error.orig}): an unfinished Tuneyard wrote them. Nothing was changed; move this store away"
            ) from error
