"""Rows out of files, as records: what is read, where it stood, and what could not be read and why.

A file is read as a stream: memory depends on its longest row, not on its length.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from queue_app.errors import Permanent
from queue_app.lifecycle import Cause
from tasks.data.formats import find_format, recognise

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.data.formats import Format
    from tasks.data.record import Record

EXAMPLES = "examples.jsonl"
MARK = b"\xef\xbb\xbf"
_AT = re.compile(r" - at `\$\.?(?P<field>[^`]*)`$")


@dataclass(frozen=True)
class Row:
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

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        return f"{self.file} line {self.line}: {where}{self.problem}; {self.repair}"


@dataclass
class Reading:
    """What a reading met on its way."""

    format: str | None = None  # found out from the first row where it is None
    unknown: Counter[str] = field(default_factory=Counter)  # keys that the format does not know; kept as metadata


def read_rows(source: Path, reading: Reading | None = None) -> Iterator[Row | BadRow]:
    """Every row of a dataset folder or a file, in order; blank lines are passed over.

    Raises:
        Permanent: there is no such file
        Invalid: the format cannot be told from the first row
    """
    file = data_file(source)
    reading = reading or Reading()
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            raw = (line.removeprefix(MARK) if number == 1 else line).rstrip()
            if raw:
                yield _row(file, number, raw, reading)


def read_records(source: Path, reading: Reading | None = None) -> Iterator[Record]:
    """Every record, in order.

    Raises:
        Permanent: as `read_rows`, or a row is bad; names file, line, field and repair
    """
    for row in read_rows(source, reading):
        if isinstance(row, BadRow):
            raise Permanent(str(row), cause=Cause.DATA)
        yield row.record


def data_file(source: Path) -> Path:
    """The file of examples behind a dataset folder, or the file itself.

    Raises:
        Permanent: there is none
    """
    file = source / EXAMPLES if source.is_dir() else source
    if not file.is_file():
        raise Permanent(f"{file} does not exist; a dataset is a .jsonl file, or a folder with {EXAMPLES}")
    return file


def _row(file: Path, number: int, raw: bytes, reading: Reading) -> Row | BadRow:
    try:
        return Row(file, number, _record(raw, reading))
    except UnicodeDecodeError as error:
        problem = f"byte {error.start + 1} is not UTF-8"
        return BadRow(file, number, "encoding", problem, "save the file as UTF-8", raw)
    except msgspec.ValidationError as error:
        problem, name = _placed(str(error))
        return BadRow(
            file, number, "shape", problem, f"see `tuneyard kinds dataset.convert` for {reading.format}", raw, name
        )
    except msgspec.DecodeError as error:
        return BadRow(file, number, "json", f"not JSON: {error}", "repair the line, or leave it out", raw)
    except RecursionError:
        return BadRow(file, number, "json", "nested too deeply to be an example", "leave it out", raw)
    except ValueError as error:
        return BadRow(file, number, "shape", str(error), "repair the line, or leave it out", raw)


def _record(raw: bytes, reading: Reading) -> Record:
    """The record, by the short way where the row has no key that its format does not know."""
    if reading.format is not None:
        known = find_format(reading.format)
        try:
            return known.to_record(msgspec.json.decode(raw, type=known.Row))
        except msgspec.ValidationError:
            pass  # a key that is not known is kept; anything else comes up again there
    return _convert(msgspec.json.decode(raw, type=dict[str, Any]), reading)


def _convert(row: dict[str, Any], reading: Reading) -> Record:
    if reading.format is None:
        reading.format = recognise(row)
        if reading.format is None:
            found = ", ".join(f'"{key}"' for key in row) or "nothing"
            raise ValueError(f"no format has rows with these keys: {found}")
    known: Format = find_format(reading.format)
    names = set(known.Row.__struct_encode_fields__)
    unknown = {key: row.pop(key) for key in list(row) if key not in names}
    record = known.to_record(msgspec.convert(row, known.Row))
    if unknown:
        reading.unknown.update(unknown.keys())
        record.metadata = record.metadata | unknown
    return record


def _placed(message: str) -> tuple[str, str]:
    """msgspec's message without its place, and the place as a path of keys."""
    found = _AT.search(message)
    return (message[: found.start()], found["field"]) if found else (message, "")
