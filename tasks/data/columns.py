"""Rows out of columns (CSV, Parquet, Arrow) and into them: what a cell cannot hold stands there as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tasks.data.cutting import Fault

if TYPE_CHECKING:
    import pyarrow

BATCH_ROWS = 500
NO_NUMBERS = frozenset({"nan", "inf", "infinity"})  # as Python and others write what JSON has no number for
UNREADABLE = "write the file again, or save it as JSON Lines"


def parquet_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]] | Fault]:
    """Every row of a Parquet file, numbered from 1."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20) as table:
            yield from _rows(table.iter_batches(BATCH_ROWS))
    except (pyarrow.ArrowException, OSError) as error:
        yield Fault(1, "parquet", f"cannot be read as Parquet: {_told(error)}", UNREADABLE, b"")


def arrow_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]] | Fault]:
    """Every row of an Arrow stream, which is what Hugging Face's `datasets` saves, numbered from 1."""
    import pyarrow

    try:
        with pyarrow.memory_map(str(file)) as stream, pyarrow.ipc.open_stream(stream) as batches:
            yield from _rows(batches)
    except (pyarrow.ArrowException, OSError) as error:
        yield Fault(1, "arrow", f"cannot be read as an Arrow stream: {_told(error)}", UNREADABLE, b"")


def column_names(file: Path) -> list[str]:
    """The columns of a Parquet file or an Arrow stream; none if it is broken."""
    import pyarrow
    import pyarrow.parquet

    try:
        if file.suffix == ".arrow":
            with pyarrow.memory_map(str(file)) as stream, pyarrow.ipc.open_stream(stream) as batches:
                return list(batches.schema.names)
        return list(pyarrow.parquet.read_schema(file).names)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError):
        return []


def _rows(batches: Any) -> Iterator[tuple[int, dict[str, Any]] | Fault]:
    import pyarrow

    number = 0
    try:
        for batch in batches:
            _validate(batch)
            for part in range(0, batch.num_rows, BATCH_ROWS):
                for row in _listed(batch.slice(part, BATCH_ROWS)):
                    number += 1
                    if row is None:
                        yield Fault(number, "encoding", "a text in it is not UTF-8", UNREADABLE, b"")
                    else:
                        yield number, row
    except (pyarrow.ArrowException, OSError) as error:
        yield Fault(number + 1, "cut", f"what follows cannot be read: {_told(error)}", UNREADABLE, b"")


def _validate(batch: pyarrow.RecordBatch) -> None:
    """Refuse a batch with offsets that lead nowhere, which would be read past its end; texts are looked at one by one.

    Raises:
        pyarrow.ArrowInvalid: it is damaged
    """
    import pyarrow

    try:
        batch.validate(full=True)
    except pyarrow.ArrowInvalid as error:
        if "UTF8" not in str(error):
            raise
        batch.validate()


def _listed(batch: pyarrow.RecordBatch) -> list[dict[str, Any] | None]:
    """The rows as they are; None for one with a text that is none."""
    try:
        return list(batch.to_pylist())
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            return [None]
        return [row for number in range(batch.num_rows) for row in _listed(batch.slice(number, 1))]


def _told(error: Exception) -> str:
    return str(error).partition("\n")[0]


def present(value: Any) -> Any:
    """The value without what is null in it: columns have a place for every key in every row.

    Raises:
        ValueError: a number is none, which JSON cannot say
    """
    if isinstance(value, dict):
        return {key: present(inside) for key, inside in value.items() if inside is not None}
    if isinstance(value, list):
        return [present(inside) for inside in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} in it is no number; leave the cell empty")
    return value


def from_cells(row: dict[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The row with JSON read where `kind` wants no text, and without empty cells where they stand for nothing.

    Raises:
        ValueError: a cell is no JSON, or a number is none; names the column
    """
    made = dict(row)
    for name, (nested, number, blank) in _wanted(kind).items():
        cell = made.get(name)
        if not isinstance(cell, str):
            continue
        if not cell and not blank:
            del made[name]
        elif number and cell.strip().lower().lstrip("+-") in NO_NUMBERS:
            raise ValueError(f"{name}: {cell.strip()} is no number; leave the cell empty")
        elif nested:
            try:
                made[name] = msgspec.json.decode(cell)
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                raise ValueError(f"{name}: the cell must hold JSON, as it does in a row of JSON Lines") from None
    return made


def to_cells(row: msgspec.Struct, *, nested: bool = False) -> dict[str, Any]:
    """The row as texts, numbers and truths, with `nested` also lists as `arrow_schema` has them; the rest is JSON."""
    made: dict[str, Any] = msgspec.to_builtins(row)
    for name, value in made.items():
        if isinstance(value, (list, dict)) and not (nested and name in _typed(type(row))):
            made[name] = msgspec.json.encode(made[name]).decode()
    return made


def arrow_schema(kind: type[msgspec.Struct]) -> pyarrow.Schema:
    """The columns of a format's rows as `to_cells(…, nested=True)` makes them: JSON in a text where no type fits."""
    import pyarrow

    names = [field.encode_name for field in _fields(kind)]
    return pyarrow.schema((name, _typed(kind).get(name, pyarrow.string())) for name in names)


@cache
def _typed(kind: type[msgspec.Struct]) -> dict[str, pyarrow.DataType]:
    """The columns that have a type."""
    found = ((field.encode_name, _arrow_type(field.type)) for field in _fields(kind))
    return {name: arrow for name, arrow in found if arrow is not None}


def _arrow_type(kind: msgspec.inspect.Type) -> pyarrow.DataType | None:
    """The type of a column; None where a value may have any keys."""
    import pyarrow

    plain = {
        msgspec.inspect.StrType: pyarrow.string(),
        msgspec.inspect.LiteralType: pyarrow.string(),
        msgspec.inspect.FloatType: pyarrow.float64(),
        msgspec.inspect.IntType: pyarrow.int64(),
        msgspec.inspect.BoolType: pyarrow.bool_(),
    }
    choices = [one for one in _choices(kind) if not isinstance(one, msgspec.inspect.NoneType)]
    if len(choices) > 1:
        return None
    [only] = choices
    if isinstance(only, msgspec.inspect.ListType):
        inner = _arrow_type(only.item_type)
        return pyarrow.list_(inner) if inner is not None else None
    if isinstance(only, msgspec.inspect.StructType):
        inside = [(field.encode_name, _arrow_type(field.type)) for field in only.fields]
        return None if any(inner is None for _, inner in inside) else pyarrow.struct(inside)
    return plain.get(type(only))


@cache
def _wanted(kind: type[msgspec.Struct]) -> dict[str, tuple[bool, bool, bool]]:
    """By column, whether it holds more than a text or a number, whether a number, and whether an empty text is one.

    It is one where nothing else stands for it: neither null nor a default.
    """
    plain = (msgspec.inspect.StrType, msgspec.inspect.FloatType, msgspec.inspect.BoolType, msgspec.inspect.IntType)
    wanted = {}
    for field in _fields(kind):
        types = {type(one) for one in _choices(field.type)}
        blank = field.required or (msgspec.inspect.NoneType not in types and not _has_default(field))
        wanted[field.encode_name] = (types.isdisjoint(plain), msgspec.inspect.FloatType in types, blank)
    return wanted


def _has_default(field: msgspec.inspect.Field) -> bool:
    return field.default is not msgspec.NODEFAULT or field.default_factory is not msgspec.NODEFAULT


def _fields(kind: type[msgspec.Struct]) -> tuple[msgspec.inspect.Field, ...]:
    described = msgspec.inspect.type_info(kind)
    return described.fields if isinstance(described, msgspec.inspect.StructType) else ()


def _choices(kind: msgspec.inspect.Type) -> tuple[msgspec.inspect.Type, ...]:
    return kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)
