"""Rows out of files, as records: what is read, where it stood, and what could not be read and why.

A file is read as a stream: memory depends on its longest row, not on its length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from queue_app.errors import Invalid, Permanent
from queue_app.lifecycle import Cause
from tasks.data.arrays import cut_objects
from tasks.data.columns import arrow_rows, column_names, from_cells, parquet_rows, present
from tasks.data.cutting import Fault, cut_lines
from tasks.data.finding import EXAMPLES, container, data_files
from tasks.data.formats import chatml, fields_read, find_format, names, recognise
from tasks.data.legacy import modernise
from tasks.data.opening import blocks
from tasks.data.quoting import quoted
from tasks.data.record import Record, keep_aside
from tasks.data.tables import cut_table
from tasks.data.wording import levels, shape, syntax

if TYPE_CHECKING:
    from tasks.data.formats import Format

__all__ = ["EXAMPLES", "BadRow", "Reading", "Row", "data_file", "follow_rows", "read_records", "read_rows", "unfit"]

MOST_ROW_BYTES = 16 << 20  # of one row; longer ones are bad, and are not read whole
MOST_LEVELS = 100  # of objects and arrays in one another: all that goes through a record goes down into each
LOOK_EXAMPLES = 1000  # between two reports
SHOWN_PROBLEM = 400  # characters
_UNFIT = (ValueError, RecursionError)  # what a row may lead to that is no record; msgspec's errors are of the first


class Row(msgspec.Struct, frozen=True):
    """A record, and the line of the file that it stood in."""

    file: Path
    line: int
    record: Record


@dataclass(frozen=True)
class BadRow:
    """A row that is no record: where, which rule it breaks, what to do, and its bytes as they were."""

    file: Path
    line: int
    rule: str
    problem: str
    repair: str
    raw: bytes
    field: str = ""
    unit: str = "line"  # or row, where a file has no lines

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        return f"{self.file} {self.unit} {self.line}: {where}{self.problem}; {self.repair}"


@dataclass
class Reading:
    """What a reading met on its way."""

    format: str | None = None  # found out from the first row of each file where it is None
    unknown: Counter[str] = field(default_factory=Counter)  # keys that the format does not know; kept as metadata
    most_row_bytes: int = MOST_ROW_BYTES


class OtherFormat(ValueError):
    """A row of another format than those before it."""


def read_rows(source: Path, reading: Reading | None = None) -> Iterator[Row | BadRow]:
    """Every row of a file, a dataset folder, a folder or glob of files or a saved `datasets` folder, in order.

    Raises:
        Permanent: there is no such file, or it has no columns of any format
        Invalid: several formats have such rows as the first one
    """
    reading = reading or Reading()
    named = reading.format
    for file in data_files(source):
        reading.format, kind = named, container(file)
        if kind in ("lines", "objects"):
            cut = cut_lines if kind == "lines" else cut_objects
            yield from _from_json(_Place(file, kind), cut(blocks(file), reading.most_row_bytes), reading)
        elif kind == "table":
            yield from _from_cells(_Place(file, kind), cut_table(blocks(file), reading.most_row_bytes), reading)
        else:
            _refuse_columns(file, column_names(file), reading)
            rows = parquet_rows(file) if kind == "parquet" else arrow_rows(file)
            yield from _from_cells(_Place(file, kind), rows, reading)


def read_records(source: Path, reading: Reading | None = None) -> Iterator[Record]:
    """Every record, in order.

    Raises:
        Permanent: as `read_rows`, or a row is bad; names file, line, field and repair
    """
    for row in read_rows(source, reading):
        if isinstance(row, BadRow):
            raise Permanent(str(row), cause=Cause.DATA)
        yield row.record


def follow_rows(source: Path, report: Callable[..., None]) -> Iterator[Row]:
    """Every row, in order; how many there were so far is told to `Attempt.report`, where a request to stop is heard.

    Raises:
        Permanent: as `read_rows`, or a row is bad; names file, line, field and repair
    """
    for number, row in enumerate(read_rows(source)):
        if number % LOOK_EXAMPLES == 0:
            report(examples=number)
        if isinstance(row, BadRow):
            raise Permanent(str(row), cause=Cause.DATA)
        yield row


def unfit(row: Row, problem: str) -> Permanent:
    """The error that a row is none for this job; `problem` begins with the field and says what to do."""
    return Permanent(f"{row.file} line {row.line}: {problem}", cause=Cause.DATA)


def data_file(source: Path) -> Path:
    """The file of examples behind a source, or the source itself where there are several.

    Raises:
        Permanent: there is none
    """
    files = data_files(source)
    return files[0] if len(files) == 1 else source


@dataclass(frozen=True)
class _Place:
    """Where rows come from, for what is said about the bad ones."""

    file: Path
    kind: str

    def fault(self, fault: Fault) -> BadRow:
        return BadRow(self.file, fault.number, fault.rule, fault.problem, fault.repair, fault.raw, unit=self.unit)

    def bad(self, number: int, raw: bytes, error: Exception) -> BadRow:
        if isinstance(error, OtherFormat):
            repair = "keep one format to a file"
            return BadRow(self.file, number, "format", str(error), repair, raw, unit=self.unit)
        if isinstance(error, (UnicodeError, RecursionError)) or type(error) is msgspec.DecodeError:
            rule, problem, repair = syntax(raw, error)
            return BadRow(self.file, number, rule, problem, repair, raw, unit=self.unit)
        name, problem, repair = shape(error)
        shown = quoted(problem, SHOWN_PROBLEM)
        return BadRow(self.file, number, "shape", shown, repair, raw, quoted(name), self.unit)

    @property
    def unit(self) -> str:
        return "line" if self.kind in ("lines", "table") else "row"


def _from_json(place: _Place, cut: Iterator[tuple[int, bytes] | Fault], reading: Reading) -> Iterator[Row | BadRow]:
    """The rows, by the short way where one has no key that its format does not know."""
    file, shortcut = place.file, _Shortcut(reading.format)
    for found in cut:
        if isinstance(found, Fault):
            yield place.fault(found)
            continue
        number, raw = found
        try:
            record = shortcut.to_record(shortcut.decode(raw))
        except _UNFIT:  # a key that is not known is kept, a row of old is brought up to date; the rest comes up again
            try:
                record = _convert(msgspec.json.decode(raw, type=dict[str, Any]), reading)
            except _UNFIT as error:
                yield place.bad(number, raw.strip(), error)
                continue
            finally:
                if shortcut.format != reading.format:
                    shortcut = _Shortcut(reading.format)
        if (record.metadata or record.tools) and _deep(record, raw):
            yield place.bad(number, raw.strip(), RecursionError())
            continue
        yield Row(file, number, record)


def _deep(record: Record, raw: bytes) -> bool:
    """Whether more stands in one another than may; only tools and metadata have no shape of their own."""
    for value in (record.tools, *record.metadata.values()):
        if value and isinstance(value, (dict, list)):
            return raw.count(b"[") + raw.count(b"{") > MOST_LEVELS and levels(raw) > MOST_LEVELS
    return False


class _Shortcut:
    """Decodes rows of a known format without a detour."""

    def __init__(self, name: str | None) -> None:
        known = find_format(name or "chat")
        self.format = name
        self.decode = msgspec.json.Decoder(known.Row).decode if name else _undecided
        self.to_record = known.to_record


def _undecided(raw: bytes) -> Any:
    raise ValueError(raw)


def _from_cells(
    place: _Place, rows: Iterator[tuple[int, dict[str, Any]] | Fault], reading: Reading
) -> Iterator[Row | BadRow]:
    for found in rows:
        if isinstance(found, Fault):
            yield place.fault(found)
            continue
        number, cells = found
        try:
            record = _convert(present(cells), reading, cells=True)
        except _UNFIT as error:
            yield place.bad(number, msgspec.json.encode(cells, enc_hook=str), error)
            continue
        yield Row(place.file, number, record)


def _refuse_columns(file: Path, columns: list[str], reading: Reading) -> None:
    if twice := [name for name, count in Counter(columns).items() if count > 1]:
        raise Permanent(f'{file}: the column "{quoted(twice[0])}" is there twice; rename one of them', cause=Cause.DATA)
    if columns and reading.format is None and recognise(dict.fromkeys(columns)) is None:
        found = ", ".join(map(quoted, columns))
        raise Permanent(
            f"{file}: no format has the columns {found}; rename them, or name one: from_format= ({', '.join(names())})",
            cause=Cause.DATA,
        )


def _convert(row: dict[str, Any], reading: Reading, *, cells: bool = False) -> Record:
    if reading.format is None:
        reading.format = tell_format(row)
        if reading.format is None:
            found = ", ".join(f'"{key}"' for key in row) or "nothing"
            raise ValueError(f"no format has rows with these keys: {found}")
    known: Format = find_format(reading.format)
    try:
        return _fit(modernise(from_cells(row, known.Row) if cells else row), known, reading, strict=not cells)
    except ValueError:
        if (other := _other_format(row, known)) not in (None, reading.format):
            raise OtherFormat(f"a row of {other} where the first was of {reading.format}") from None
        raise


def tell_format(row: dict[str, Any]) -> str | None:
    """The name of the one format that a row is of; None where none knows it.

    Raises:
        Invalid: several do; names them
    """
    found = recognise(row)
    text = row.get("text")
    return "chatml" if found == "text" and isinstance(text, str) and chatml.marks(text) else found


def _other_format(row: dict[str, Any], known: Format) -> str | None:
    """The format of a row that lacks what `known` must have."""
    needed = {info.encode_name for info in msgspec.structs.fields(known.Row) if info.required}
    if (needed and needed <= row.keys()) or (not needed and known.recognises(frozenset(row))):
        return None
    try:
        return tell_format(row)
    except Invalid:
        return None


def _fit(row: dict[str, Any], known: Format, reading: Reading, *, strict: bool) -> Record:
    fields = fields_read(known, row)
    unknown = {key: row.pop(key) for key in list(row) if key not in fields}
    record = known.to_record(msgspec.convert(row, known.Row, strict=strict))
    if unknown:
        reading.unknown.update([keep_aside(record.metadata, key, value) for key, value in unknown.items()])
    return record
