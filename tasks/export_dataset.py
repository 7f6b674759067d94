"""`dataset.export`: rated rows out of a SQL database become a dataset."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Generator, Iterable
from contextlib import closing
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from queue_app.errors import Permanent
from queue_app.job_type import ArtifactRef, Attempt, Result, Spec, job
from queue_app.lifecycle import Cause
from tasks.data.exporting import Part, choose_columns, to_rows
from tasks.data.finding import REJECTED
from tasks.data.profiling.tallies import Values
from tasks.data.rejecting import Rejects
from tasks.data.statistics import write_statistics
from tasks.data.writing import DatasetWriter

if TYPE_CHECKING:
    from tasks.data.reading import BadRow, Row

LOOK_ROWS = 1000  # between two looks at whether to go on
# a password, or parameters that may hold one: in a URL, or as drivers of PostgreSQL, ODBC and others write them
SECRETIVE = re.compile(r"://(?:[^@]*:[^@]*@|[^?]*\?)|(?:^|[\s;])[a-z][a-z _]*\s*=", re.IGNORECASE)
NAMING = re.compile(r"[A-Za-z_][\w\-]*|.*[/\\].*|.*\.(?:db|sqlite3?)", re.DOTALL)  # a name; or a path, or a URL


def _some_snapshot(given: str | None) -> str:
    return given or secrets.token_hex(8)


class ExportDataset(Spec):
    """Which rows of which database, and the columns that make examples of them."""

    database: ArtifactRef = Field(
        description="a name, set by TUNEYARD_DATABASES__NAME=URL; a SQLite file; or a URL without password"
    )
    table: str | None = Field(None, description="table or view whose rows are exported, such as schema.table")
    query: str | None = Field(None, description="one SELECT instead; it is sent in a session that cannot write")
    columns: dict[Part, str] = Field(
        {},
        description="which column is what: messages (JSON), or instruction, input and output; beside them system, "
        "rating, owner, domain, type, created, id; default: the columns that are called so",
    )
    owner: tuple[str, ...] = Field((), description="only rows of these owners")
    domain: tuple[str, ...] = Field((), description="only rows of these domains")
    type: tuple[str, ...] = Field((), description="only rows of these types")
    min_rating: float | None = Field(None, allow_inf_nan=False, description="least rating; true is 1")
    since: datetime | None = Field(None, description="only rows created from then on; UTC where no offset is given")
    limit: int | None = Field(
        None, ge=1, description="examples at the most: the first by the table's key, or as the query orders them"
    )
    skip_bad: bool = Field(False, description="set rows that are no example aside instead of failing at the first")
    snapshot: Annotated[str | None, BeforeValidator(_some_snapshot)] = Field(
        None,
        validate_default=True,
        description="a name for the state of the database: equal exports with the same one are done once; default: "
        "nothing is reused, for a database changes",
    )

    @model_validator(mode="after")
    def _one_source_and_no_secret(self) -> Self:
        if SECRETIVE.search(self.database):  # over the whole spec, so that no message quotes the field
            raise ValueError(
                "database: a URL with a password or parameters would be stored and shown with the job; set "
                "TUNEYARD_DATABASES__GOLD to it, and give database=gold"
            )
        if not NAMING.fullmatch(self.database):
            raise ValueError(
                "database: this is neither a name from the settings (letters, digits, _ and -), nor the path of a "
                "SQLite file (./gold.db), nor a URL; it is not shown, for it may hold a password"
            )
        if (self.table is None) == (self.query is None):
            raise ValueError("give either table or query")
        return self


class ExportedDataset(Result):
    """The examples, and the rows that are none."""

    dataset: str = Field(description="artifact id")
    examples: int
    read: int = Field(description="rows that the database gave")
    columns: dict[str, str] = Field(description="the column that was taken for each part")
    ratings: dict[str, int] = Field(description="examples by rating; the most frequent")
    domains: dict[str, int] = Field(description="examples by domain; the most frequent")
    rejected: dict[str, int] = Field(description="rows set aside, by the rule that they break")
    rejects: str | None = Field(None, description="artifact id of the rows set aside, if there are any")


@job("dataset.export", queues=("cpu",))
def export_dataset(spec: ExportDataset, attempt: Attempt) -> ExportedDataset:
    """Read rated rows out of a SQL database, as examples."""
    from tasks.data.databases import Conditions, open_database  # SQLAlchemy comes with it

    folder, aside = attempt.workdir / "dataset", attempt.workdir / f"export{REJECTED}"
    shutil.rmtree(folder, ignore_errors=True)
    among = {"owner": spec.owner, "domain": spec.domain, "type": spec.type}
    wanted = Conditions(among, spec.min_rating, spec.since)
    ratings, domains = Values(), Values()
    with open_database(spec.database, attempt.settings.databases) as database:
        source = database.table(spec.table) if spec.table else database.query(spec.query or "")
        columns = choose_columns(source.place, source.columns, spec.columns, wanted.parts)
        rows = _follow(to_rows(source.place, database.rows(source, columns, wanted), wanted.parts), attempt)
        # closed before the database is: with a limit there are rows left to read
        with closing(rows), Rejects(aside if spec.skip_bad else None) as rejects, DatasetWriter(folder) as writer:
            for row in islice(rejects.good(rows), spec.limit):
                writer.write(row.record)
                ratings.add(_shown(row.record.metadata.get("rating")))
                domains.add(row.record.category)
            if not writer.count:
                refused = rejects.by_rule.total()
                raise Permanent(f"{source.place}: no row is an example ({refused} are bad)", cause=Cause.DATA)
    read = writer.count + rejects.by_rule.total()
    figures: dict[str, Any] = {"examples": writer.count, "read": read, "rejected": dict(rejects.by_rule)}
    figures |= {"ratings": _counts(ratings), "domains": _counts(domains), "columns": columns}
    write_statistics(folder, figures | {"export": spec.model_dump(mode="json", exclude={"query", "snapshot"})}, [])
    return ExportedDataset(
        dataset=attempt.artifacts.publish(folder, kind="dataset"),
        rejects=attempt.artifacts.publish(rejects.file, kind="rejects") if rejects.file else None,
        **figures,
    )


def _follow(rows: Iterable[Row | BadRow], attempt: Attempt) -> Generator[Row | BadRow]:
    for number, row in enumerate(rows):
        if number % LOOK_ROWS == 0:
            attempt.report(examples=number)
        yield row


def _shown(rating: object) -> str | None:
    if rating is None or isinstance(rating, str):
        return rating
    return str(rating).lower() if isinstance(rating, bool) else f"{rating:g}"


def _counts(values: Values) -> dict[str, int]:
    """By value, the most frequent first, with what has none and what is not shown."""
    found = values.breakdown()
    beside = {"(none)": found.missing, "(others)": found.rest}
    return found.values | {name: count for name, count in beside.items() if count}
