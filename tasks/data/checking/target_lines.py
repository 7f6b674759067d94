"""The lines that would reach a target: those of a file as they stand, or a dataset's in the target's format."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from tasks.data import opening
from tasks.data.checking.finding import Problem
from tasks.data.cutting import Fault, cut_lines
from tasks.data.finding import data_files
from tasks.data.formats import find_format, names
from tasks.data.reading import MOST_ROW_BYTES, BadRow, Reading, read_rows
from tasks.data.record import Record
from tasks.data.wording import not_utf8

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.data.checking.finding import Severity
    from tasks.data.checking.target import Target

Said = tuple[str, "Severity", Problem]  # rule, how grave, what
_encode = msgspec.json.Encoder().encode

_READ = {opening.GZIP: "gzip", opening.ZSTD: "zstd", opening.PARQUET: "Parquet", opening.ARROW: "Arrow"}
_TABLES = {".csv": "CSV", ".tsv": "TSV"}
_START_BYTES = 1024
_UTF8 = "save the file as UTF-8"


class Line(msgspec.Struct, gc=False):
    """One row to look at; `record` is what it was made from, `refusal` why it could not be made."""

    number: int
    raw: bytes
    record: Record | None = None
    refusal: Said | None = None


def is_own_file(source: Path) -> bool:
    """Whether a source is a provider's own file: any file, or an export, whose folder has one with a format's name.

    Raises:
        Permanent: there is no such source, or it has no rows
    """
    if source.is_file():
        return True
    files = data_files(source)
    return len(files) == 1 and files[0].parent == source and files[0].name.partition(".")[0] in names()


def foreign(file: Path) -> Said | None:
    """What a file is, where it is not lines of JSON in UTF-8, and how it becomes that."""
    with file.open("rb") as stream:
        start = stream.read(_START_BYTES)
    if (found := opening.foreign(start)) is not None:
        rule, text, repair = found
        return rule, "blocking", Problem("", text, repair)
    read = next((name for mark, name in _READ.items() if start.startswith(mark)), _TABLES.get(file.suffix.lower()))
    if read is None:
        return None
    repair = "save it as JSONL in UTF-8, or give it to `tuneyard data convert`"
    return "encoding", "blocking", Problem("", f"it is {read}, and no JSONL in UTF-8", repair)


def has_mark(file: Path) -> bool:
    """Whether a file begins with UTF-8's byte order mark."""
    with file.open("rb") as stream:
        return stream.read(len(BOM_UTF8)) == BOM_UTF8


def file_lines(file: Path) -> Iterator[Line]:
    """The lines of a file as they stand, without byte order mark and white space at their ends; no blank ones."""
    for cut in cut_lines(opening.blocks(file), MOST_ROW_BYTES):
        if isinstance(cut, Fault):
            yield Line(cut.number, cut.raw, refusal=(cut.rule, "blocking", Problem("", cut.problem, cut.repair)))
        else:
            yield Line(cut[0], cut[1].strip())


def dataset_lines(source: Path, target: Target, dropped: Counter[str], reading: Reading) -> Iterator[Line]:
    """A dataset's rows in the target's format; what it cannot hold is counted by field in `dropped`."""
    convert = find_format(target.format).from_record
    for row in read_rows(source, reading):
        if isinstance(row, BadRow):
            refusal: Said = (row.rule, "blocking", Problem(row.field, row.problem, row.repair))
            yield Line(row.line, row.raw, refusal=refusal)
            continue
        try:
            yield Line(row.line, _encode(convert(row.record, dropped)), row.record)
        except ValueError as error:
            problem = Problem("", str(error), f"change it, or leave it out: {target.name} has no such examples")
            yield Line(row.line, _encode(row.record), row.record, ("conversion", "blocking", problem))


def target_row(record: Record, target: Target) -> dict[str, Any]:
    """The row that a target would get of a record.

    Raises:
        ValueError: its format has no place for such a record
    """
    made = find_format(target.format).from_record(record, Counter())
    row: dict[str, Any] = msgspec.json.decode(_encode(made))
    return row


def parse(line: Line) -> tuple[dict[str, Any] | None, list[Said]]:
    """The row of a line, or what is in the way of there being one; and the keys that stand twice in it."""
    if line.refusal is not None:
        return None, [line.refusal]
    try:
        row = msgspec.json.decode(line.raw)
    except UnicodeDecodeError:
        return None, [("encoding", "blocking", Problem("", not_utf8(line.raw), _UTF8))]
    except msgspec.DecodeError as error:
        return None, [("json", "blocking", Problem("", *_not_json(line.raw, error)))]
    except RecursionError:
        return None, [("json", "blocking", Problem("", "nested too deeply to be an example", "leave it out"))]
    if not isinstance(row, dict):
        text = f"found {type(row).__name__}"
        return None, [("json", "blocking", Problem("", text, "one line is one JSON object: { … }"))]
    return row, [] if line.record is not None else _doubled(line.raw, row)


def keys_in(raw: bytes) -> int:
    """The number of keys, as the colons after a closing quote tell; -1 where white space may stand before a colon."""
    if b"\t" in raw or (b'" ' in raw and raw.count(b'" ') != raw.count(b'\\" ')):
        return -1
    return raw.count(b'":') - raw.count(b'\\":')


def _not_json(raw: bytes, error: msgspec.DecodeError) -> tuple[str, str]:
    try:
        text = json.dumps(json.loads(raw), ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError:
        return "half of a surrogate pair, which no text can hold", "remove it; a cut-off emoji leaves one behind"
    except (ValueError, RecursionError):
        return f"not JSON: {error}", "repair the line, or leave it out"
    return f"not strict JSON: {error}", "repair the line (NaN and Infinity are no JSON), or leave it out"


def _doubled(raw: bytes, row: dict[str, Any]) -> list[Said]:
    """Keys that stand twice in one object: readers take the last, so what is learned may not be what was meant."""
    if count_keys(row) == keys_in(raw):
        return []
    found: list[Said] = []

    def pairs(given: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(given)
        if len(made) < len(given):
            for key, times in Counter(key for key, _ in given).items():
                if times > 1:
                    same = all(value == made[key] for name, value in given if name == key)
                    repair = "leave one out" if same else "keep the one that is meant: readers take the last"
                    text = f'"{key}" stands {times} times in one object'
                    found.append(("doubled-key", "warning" if same else "blocking", Problem(key, text, repair, same)))
        return made

    try:
        json.loads(raw, object_pairs_hook=pairs)
    except RecursionError:
        return [("json", "blocking", Problem("", "nested too deeply to be an example", "leave it out"))]
    return found


def count_keys(value: Any) -> int:
    """The keys in a value of decoded JSON, those within its values with them."""
    count = 0
    waiting: list[Any] = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            count += len(value)
            value = value.values()
        waiting += [inner for inner in value if isinstance(inner, (dict, list))]
    return count
