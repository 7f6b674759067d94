"""Rated rows of a database as examples: which columns make one, and which rows are none."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

from queue_app.errors import Invalid, NotFound
from queue_app.job_type import nearest
from tasks.data.columns import present
from tasks.data.legacy import modernise
from tasks.data.reading import BadRow, Row
from tasks.data.record import Message, Record
from tasks.data.wording import shape

if TYPE_CHECKING:
    from uuid import UUID

Part = Literal[
    "messages", "instruction", "input", "output", "system", "rating", "owner", "domain", "type", "created", "id"
]
BESIDE = ("id", "type", "owner", "rating", "created")  # what is kept in an example's metadata; domain is its category
SHOWN_COLUMNS = 20
REPAIR = "repair the row in the database, or leave it out"


PARTS: tuple[Part, ...] = get_args(Part)


def choose_columns(
    place: str, there: Sequence[str], named: Mapping[Part, str], filtered: Iterable[str]
) -> dict[str, str]:
    """Part → column: as the user named them, else the column of the part's own name where there is one.

    Raises:
        NotFound: a column is not there, or there are none that make an example; names the nearest
        Invalid: a filter has no column, or a column is there twice
    """
    lower = {name.lower(): name for name in reversed(there)}
    columns: dict[str, str] = {part: lower[part] for part in PARTS if part in lower}
    columns |= {str(part): name for part, name in named.items()}
    for part, name in named.items():
        if name not in there:
            raise NotFound(f'{place} has no column "{name}" for {part}{nearest(name, list(there)) or _listed(there)}')
    if "messages" in named or ("messages" in columns and not {"instruction", "output"} & named.keys()):
        columns = {part: name for part, name in columns.items() if part not in ("instruction", "input", "output")}
    else:
        columns.pop("messages", None)
        for needed in ("instruction", "output"):
            if needed not in columns:
                raise NotFound(f"{place} has no column {needed}{_listed(there)}; name it: columns={{{needed}: …}}")
    for wanted in filtered:
        if wanted not in columns:
            raise Invalid(f"{place} has no column {wanted} to choose rows by{_listed(there)}; columns={{{wanted}: …}}")
    twice = [name for name in columns.values() if there.count(name) > 1 or f"{name}:1" in there]  # so in SQLite
    if twice:
        raise Invalid(f'{place} has two columns "{twice[0]}"; tell them apart with AS')
    return columns


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(columns[:SHOWN_COLUMNS])
    return f" (columns: {shown}{' …' if len(columns) > SHOWN_COLUMNS else ''})"


class NoExample(ValueError):
    """What a row lacks to be an example: the part of it, and what is wrong there."""

    def __init__(self, part: str, problem: str) -> None:
        super().__init__(f"{part}: {problem}")
        self.part, self.problem = part, problem


def to_rows(place: str, cells: Iterable[Mapping[str, Any]], sound: Collection[str]) -> Iterator[Row | BadRow]:
    """The rows of a database, given as part → value, as rows of a dataset; numbered from 1 as they come.

    `sound` are the parts that rows were chosen by: a rating must be a number then, and `created` a date.
    """
    file = Path(place)
    for number, row in enumerate(cells, 1):
        try:
            yield Row(file, number, to_record(row, sound))
        except NoExample as error:
            yield BadRow(file, number, "example", error.problem, REPAIR, _raw(row), error.part, "row")
        except (ValueError, RecursionError) as error:
            part, problem, repair = shape(error)
            yield BadRow(file, number, "shape", problem, repair, _raw(row), part or "messages", "row")


def to_record(cells: Mapping[str, Any], sound: Collection[str] = ()) -> Record:
    """One row as an example.

    Raises:
        NoExample: it is none
        ValueError: its messages are of another shape
    """
    record = _whole(cells["messages"]) if "messages" in cells else Record(_exchange(cells))
    if system := _text(cells, "system", required=False):
        record.messages.insert(0, Message("system", system))
    _refuse_unanswered(record, {} if "messages" in cells else {"user": "instruction", "assistant": "output"})
    if cells.get("domain") is not None:
        record.category = _label(cells, "domain")
    beside = {part: value for part in BESIDE if (value := _beside(part, cells)) is not None}
    if "rating" in sound and not isinstance(beside.get("rating"), int | float):
        raise NoExample("rating", "is no number, so it cannot be compared with min_rating")
    if "created" in sound and not _is_date(beside.get("created")):
        raise NoExample("created", "is no date in ISO 8601, so it cannot be compared with since")
    if beside:
        record.metadata = record.metadata | beside
    return record


def _whole(cell: Any) -> Record:
    """An example out of a cell with JSON: the list of its messages, or a row with them."""
    if isinstance(cell, bytes | str):
        try:
            cell = msgspec.json.decode(cell)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise NoExample("messages", "the cell must hold JSON: a list of messages") from error
    if cell is None:
        raise NoExample("messages", "is missing")
    row = cell if isinstance(cell, dict) else {"messages": cell}
    return msgspec.convert(modernise(present(row)), Record)


def _exchange(cells: Mapping[str, Any]) -> list[Message]:
    asked = (_text(cells, "instruction"), _text(cells, "input", required=False))
    return [Message("user", "\n\n".join(filter(None, asked))), Message("assistant", _text(cells, "output"))]


def _text(cells: Mapping[str, Any], part: str, *, required: bool = True) -> str:
    cell = cells.get(part)
    if cell is None:
        if required:
            raise NoExample(part, "is missing")
        return ""
    if isinstance(cell, bytes | memoryview):
        try:
            return bytes(cell).decode()
        except UnicodeDecodeError as error:
            raise NoExample(part, f"is not UTF-8 (byte {error.start + 1})") from error
    if not isinstance(cell, str):
        raise NoExample(part, f"expected a text, found {type(cell).__name__}")
    _refuse_broken(part, cell)
    return cell


def _refuse_broken(part: str, text: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise NoExample(part, f"is not UTF-8 (character {error.start + 1})") from error


def _refuse_unanswered(record: Record, parts: Mapping[str, str]) -> None:
    """Whatever it is trained for, an example has somebody asking and an answer at its end."""
    roles = [message.role for message in record.messages]
    if "user" not in roles:
        raise NoExample("messages", 'none is from "user"; there is nothing to answer')
    if roles[-1] != "assistant":
        raise NoExample("messages", f'the last one is from "{roles[-1]}"; an example must end with "assistant"')
    for index in (roles.index("user"), len(roles) - 1):
        message = record.messages[index]
        if not message.tool_calls and not (message.content or "").strip():
            raise NoExample(parts.get(message.role, f"messages[{index}].content"), "is blank")


def _beside(part: str, cells: Mapping[str, Any]) -> int | float | str | bool | None:
    """A value as JSON can hold it: numbers stay numbers, dates are ISO 8601, all else is a text."""
    cell = cells.get(part)
    if isinstance(cell, Decimal):
        cell = int(cell) if cell == cell.to_integral_value() else float(cell)
    if isinstance(cell, float) and not math.isfinite(cell):
        raise NoExample(part, f"{cell} is no number")
    if part == "rating" and isinstance(cell, str):
        cell = _number(cell)
    if cell is None or isinstance(cell, bool | int | float):
        return cell
    return _label(cells, part)


def _is_date(value: object) -> bool:
    try:
        datetime.fromisoformat(str(value))
    except ValueError:
        return False
    return isinstance(value, str)


def _number(text: str) -> int | float | str:
    """The number that a text is, if it is one."""
    try:
        value = float(text)
    except ValueError:
        return text
    return text if not math.isfinite(value) else int(value) if value.is_integer() else value


def _label(cells: Mapping[str, Any], part: str) -> str:
    cell: str | date | datetime | UUID | Any = cells[part]
    if isinstance(cell, date):
        return cell.isoformat()
    if isinstance(cell, bytes | memoryview):
        return _text(cells, part)
    text = str(cell)
    _refuse_broken(part, text)
    return text


def _raw(row: Mapping[str, Any]) -> bytes:
    """The row as it is set aside."""
    given = {part: cell for part, cell in row.items() if cell is not None}
    try:
        return msgspec.json.encode(given, enc_hook=str)
    except (ValueError, TypeError, RecursionError):  # half a character, or what no JSON has: escaped, or as Python's
        return json.dumps({part: repr(cell) for part, cell in given.items()}).encode()
