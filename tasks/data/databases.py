"""Databases of the user's that examples come out of: opened to read, and nothing else.

A SQLite file is opened with mode=ro; PostgreSQL, MySQL and MariaDB are told that the session only reads. Any other
database is asked for tables alone, and not for queries. Rows stream: memory does not depend on how many there are.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from sqlalchemy import (
    URL,
    Boolean,
    Enum,
    Integer,
    Numeric,
    String,
    and_,
    cast,
    column,
    create_engine,
    event,
    func,
    or_,
    select,
    table,
    text,
)
from sqlalchemy import inspect as look_into
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SAWarning
from sqlalchemy.pool import NullPool
from sqlalchemy.types import NullType

from queue_app.errors import Invalid, NotFound
from queue_app.job_type import nearest
from tasks.data.refusing import refused_entry, refused_rows
from tasks.data.selecting import only_select

if TYPE_CHECKING:
    from pydantic import SecretStr
    from sqlalchemy import ColumnElement, Connection, Engine, Executable, FromClause
    from sqlalchemy.types import TypeEngine

URL_FORMS = "sqlite:////folder/gold.db or postgresql+psycopg://user:password@host/database"
STREAM = {"stream_results": True, "yield_per": 500}
CONNECT_SECONDS = 15
TIMED = ("psycopg", "psycopg2", "pymysql", "mysqldb")  # the drivers that know connect_timeout
SHOWN_NAMES = 12
READ_ONLY = {  # for the session; the clock too, so that dates with and without an offset are compared alike
    "postgresql": ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET TIME ZONE 'UTC'"),
    "mysql": ("SET SESSION TRANSACTION READ ONLY", "SET time_zone = '+00:00'"),
    "mariadb": ("SET SESSION TRANSACTION READ ONLY", "SET time_zone = '+00:00'"),
    "sqlite": ("PRAGMA query_only = ON",),
}


class Conditions(NamedTuple):
    """Which rows are wanted, by parts of an example."""

    among: Mapping[str, Sequence[str]] = {}  # noqa: RUF012  (read only) part → values it may have
    min_rating: float | None = None
    since: datetime | None = None  # without an offset: UTC

    @property
    def parts(self) -> list[str]:
        """What rows are chosen by."""
        rating, created = self.min_rating is not None, self.since is not None
        return [*(part for part, values in self.among.items() if values), *["rating"] * rating, *["created"] * created]


class Source(NamedTuple):
    """A table or a query, with its columns in order; their types are unknown for a query."""

    place: str
    columns: list[str]
    types: dict[str, TypeEngine[Any]]
    rows: FromClause
    key: list[str]  # what a table is ordered by
    query: Executable | None = None


@contextmanager
def open_database(name: str, databases: Mapping[str, SecretStr]) -> Iterator[Database]:
    """The database called so in the settings, a SQLite file, or what a URL without a password leads to.

    Raises:
        Invalid: the URL is none; its driver is not installed; the password is refused
        NotFound: there is no such name, file or database
        Transient: the server does not answer
    """
    url, label, setting = _locate(name, databases)
    engine = _make_engine(url, label, setting)
    try:
        try:
            connection = engine.connect()
        except DBAPIError as error:
            raise refused_entry(str(error.orig), label) from error
        with connection:
            opened = Database(connection, label)
            opened.only_read()
            yield opened
    finally:
        engine.dispose()


class Database:
    """An open database."""

    def __init__(self, connection: Connection, label: str) -> None:
        self._connection, self.label = connection, label
        self._dialect = connection.dialect.name

    def only_read(self) -> None:
        """Have the database itself refuse whatever writes, from now on."""
        try:
            for statement in READ_ONLY.get(self._dialect, ()):
                self._connection.exec_driver_sql(statement)
            self._connection.commit()
        except DBAPIError as error:
            raise refused_entry(str(error.orig), self.label) from error

    def table(self, name: str) -> Source:
        """A table or view, perhaps of a schema: `schema.table`.

        Raises:
            NotFound: there is none; names the nearest
        """
        with self._explained():
            tables = self._tables(None)
            schema, _, bare = name.rpartition(".") if name not in tables else ("", "", name)
            tables = self._tables(schema) if schema else tables
            if bare not in tables:
                raise NotFound(
                    f'{self.label} has no table "{name}"{nearest(bare, tables) or _listed(tables, "tables")}'
                )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SAWarning)  # a column of a type that is not known here
                looking = look_into(self._connection)
                types = {found["name"]: found["type"] for found in looking.get_columns(bare, schema or None)}
                key = looking.get_pk_constraint(bare, schema or None)["constrained_columns"]
        rows = table(bare, *map(column, types), schema=schema or None)
        return Source(f"{self.label} table {name}", list(types), types, rows, key)

    def query(self, query: str) -> Source:
        """One SELECT.

        Raises:
            Invalid: it is something else, or the database refuses it
        """
        if self._dialect not in READ_ONLY:
            raise Invalid(
                f"query: {self._dialect} cannot be held to reading from here; make a view of it, and name that as table"
            )
        asked = text(only_select(query, self._dialect).replace(":", r"\:"))
        with self._explained(query):
            inside = asked.columns().subquery("picked")
            names = list(self._connection.execute(select(text("*")).select_from(inside).limit(0)).keys())
        rows = asked.columns(*map(column, dict.fromkeys(names))).subquery("picked")
        return Source(f"{self.label} query", names, dict.fromkeys(names, NullType()), rows, [], asked)

    def rows(self, source: Source, columns: Mapping[str, str], wanted: Conditions) -> Iterator[dict[str, Any]]:
        """The rows as part → value, by `columns` (part → column): a table's by its key, a query's as they come.

        Raises:
            Invalid: a filter does not fit the type of its column
        """
        conditions = list(_conditions(self._dialect, source, columns, wanted))
        names = list(dict.fromkeys(columns.values()))
        asked: Executable
        if source.query is not None and not conditions:
            asked, names = source.query, source.columns  # as it is: its order stays
        else:
            asked = select(*(source.rows.c[name] for name in names)).where(*conditions)
            asked = asked.order_by(*(source.rows.c[name] for name in source.key))
        places = {part: names.index(name) for part, name in columns.items()}
        with self._explained(), self._connection.execute(asked, execution_options=STREAM) as result:
            for row in result:
                yield {part: row[place] for part, place in places.items()}

    def _tables(self, schema: str | None) -> list[str]:
        looking = look_into(self._connection)
        return [*looking.get_table_names(schema), *looking.get_view_names(schema)]

    @contextmanager
    def _explained(self, query: str = "") -> Iterator[None]:
        def known(what: str) -> list[str]:
            self._connection.rollback()
            tables = self._tables(None)
            if what == "table":
                return tables
            looking = look_into(self._connection)
            return [found["name"] for each in tables if each in query for found in looking.get_columns(each)]

        try:
            yield
        except DBAPIError as error:
            if error.connection_invalidated:
                raise refused_entry(str(error.orig), self.label) from error
            raise refused_rows(str(error.orig), self.label, known) from error


def _locate(name: str, databases: Mapping[str, SecretStr]) -> tuple[URL, str, str]:
    """The URL, what it is called in messages, and the setting it is from."""
    setting = f"TUNEYARD_DATABASES__{name.upper()}" if name in databases else "database"
    if name not in databases and "://" not in name:
        if not Path(name).is_file():
            raise NotFound(_unknown(name, databases))
        return URL.create("sqlite", database=name), name, setting
    written = databases[name].get_secret_value() if name in databases else name
    try:
        url = make_url(written)
    except (ArgumentError, ValueError):  # neither message is passed on: it may quote the URL
        raise Invalid(f"{setting} is no database URL; write it as {URL_FORMS}") from None
    return url, f"database {name}" if name in databases else url.render_as_string(hide_password=True), setting


def _unknown(name: str, databases: Mapping[str, SecretStr]) -> str:
    if "/" in name or name.endswith((".db", ".sqlite", ".sqlite3")):
        return f"{name} is no file; database is a SQLite file, or a name from the settings{_listed(databases, 'names')}"
    close = nearest(name, list(databases)) or _listed(databases, "names")
    return f'no database is called "{name}"{close}; set TUNEYARD_DATABASES__{name.upper()} to its URL'


def _listed(names: Sequence[str] | Mapping[str, Any], what: str) -> str:
    shown = ", ".join(sorted(names)[:SHOWN_NAMES])
    return f" ({what}: {shown}{' …' if len(names) > SHOWN_NAMES else ''})" if names else f" (there are no {what})"


def _make_engine(url: URL, label: str, setting: str) -> Engine:
    try:
        if url.get_backend_name() == "sqlite":
            return _sqlite_engine(url, label, setting)
        timed = url.get_driver_name() in TIMED and "connect_timeout" not in url.query
        limits = {"connect_timeout": CONNECT_SECONDS} if timed else {}
        return create_engine(url, poolclass=NullPool, connect_args=limits)
    except NoSuchModuleError:
        raise Invalid(f'{setting}: there is no database called "{url.drivername}"; write it as {URL_FORMS}') from None
    except ModuleNotFoundError as error:
        raise Invalid(
            f"{setting}: {url.drivername} needs the package {error.name}, which is not installed; for PostgreSQL: "
            "pip install 'psycopg[binary]', and begin the URL with postgresql+psycopg://"
        ) from None


def _sqlite_engine(url: URL, label: str, setting: str) -> Engine:
    path = Path(url.database or "")
    if not path.is_absolute():
        raise Invalid(f"{setting}: give the SQLite file with its full path, as in sqlite:////folder/gold.db")
    if not path.is_file():
        raise NotFound(f"{label}: there is no file {path}")
    opened = URL.create("sqlite", database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"})
    engine = create_engine(opened, poolclass=NullPool)
    event.listen(engine, "connect", _read_as_it_is)
    return engine


def _read_as_it_is(connection: Any, _: object) -> None:
    """A text that is not UTF-8 is one bad row, and not the end of the stream."""
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")


def _conditions(
    dialect: str, source: Source, columns: Mapping[str, str], wanted: Conditions
) -> Iterator[ColumnElement[bool]]:
    """What a row must fulfil. What the database cannot compare passes, and is found when the row is read."""
    for part, values in wanted.among.items():
        if values:
            kind, value = source.types[columns[part]], source.rows.c[columns[part]]
            plain = isinstance(kind, String) and not isinstance(kind, Enum)
            yield (value if plain else cast(value, String)).in_(values)
    if wanted.min_rating is not None:
        kind, value = source.types[columns["rating"]], source.rows.c[columns["rating"]]
        if isinstance(kind, String):
            raise Invalid(f"min_rating: {columns['rating']} holds texts; make it a number in a query, with CAST")
        yield (cast(value, Integer) if isinstance(kind, Boolean) else value) >= wanted.min_rating
    if wanted.since is not None:
        kind, value = source.types[columns["created"]], source.rows.c[columns["created"]]
        if isinstance(kind, Integer | Numeric):
            raise Invalid(f"since: {columns['created']} holds numbers; make it a date in a query")
        yield _since(dialect, kind, value, wanted.since)


def _since(dialect: str, kind: TypeEngine[Any], value: ColumnElement[Any], since: datetime) -> ColumnElement[bool]:
    moment = since.astimezone(UTC) if since.tzinfo else since.replace(tzinfo=UTC)
    if dialect == "sqlite":  # a date is a text there, in one of several forms
        told = func.datetime(value)
        return or_(told >= f"{moment:%Y-%m-%d %H:%M:%S}", and_(value.is_not(None), told.is_(None)))
    aware = getattr(kind, "timezone", isinstance(kind, NullType) and dialect == "postgresql")
    return value >= (moment if aware else moment.replace(tzinfo=None))
