"""Rows out of columns (CSV, Parquet, Arrow) and into them: what a cell cannot hold stands there as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tasks.data.cutting import Fault

if TYPE_CHECKING:
    import pyarrow

BATCH_ROWS = 500
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
    except (pyarrow.ArrowException, OSError):
        return []


def _rows(batches: Any) -> Iterator[tuple[int, dict[str, Any]] | Fault]:
    import pyarrow

    number = 0
    try:
        for batch in batches:
            for part in range(0, batch.num_rows, BATCH_ROWS):
                for row in _listed(batch.slice(part, BATCH_ROWS)):
                    number += 1
                    if row is None:
                        yield Fault(number, "encoding", "a text in it is not UTF-8", UNREADABLE, b"")
                    else:
                        yield number, row
    except (pyarrow.ArrowException, OSError) as error:
        yield Fault(number + 1, "cut", f"what follows cannot be read: {_told(error)}", UNREADABLE, b"")


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
    """The value without what is null in it: columns have a place for every key in every row."""
    if isinstance(value, dict):
        return {key: present(inside) for key, inside in value.items() if inside is not None}
    if isinstance(value, list):
        return [present(inside) for inside in value]
    return value


def from_cells(row: dict[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The row with JSON read where `kind` wants no text, and without empty cells where it wants none.

    Raises:
        ValueError: a cell is no JSON; names the column
    """
    made = dict(row)
    for name, (nested, required) in _wanted(kind).items():
        cell = made.get(name)
        if not isinstance(cell, str):
            continue
        if not cell and not required:
            del made[name]
        elif nested:
            try:
                made[name] = msgspec.json.decode(cell)
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                raise ValueError(f"{name}: the cell must hold JSON, as it does in a row of JSON Lines") from None
    return made


def to_cells(row: msgspec.Struct) -> dict[str, Any]:
    """The row as texts, numbers and truths; what is none of these is JSON in a text."""
    made: dict[str, Any] = msgspec.to_builtins(row)
    for name, (nested, _) in _wanted(type(row)).items():
        if nested and name in made:
            made[name] = msgspec.json.encode(made[name]).decode()
    return made


@cache
def arrow_schema(kind: type[msgspec.Struct]) -> pyarrow.Schema:
    """The columns of a format's rows as `to_cells` makes them."""
    import pyarrow

    types = {msgspec.inspect.FloatType: pyarrow.float64(), msgspec.inspect.BoolType: pyarrow.bool_()}
    return pyarrow.schema(
        (
            field.encode_name,
            next((types[type(one)] for one in _choices(field.type) if type(one) in types), pyarrow.string()),
        )
        for field in _fields(kind)
    )


@cache
def _wanted(kind: type[msgspec.Struct]) -> dict[str, tuple[bool, bool]]:
    """By column, whether it holds more than a text or a number, and whether it must be there."""
    plain = (msgspec.inspect.StrType, msgspec.inspect.FloatType, msgspec.inspect.BoolType, msgspec.inspect.IntType)
    return {
        field.encode_name: (not any(isinstance(one, plain) for one in _choices(field.type)), field.required)
        for field in _fields(kind)
    }


def _fields(kind: type[msgspec.Struct]) -> tuple[msgspec.inspect.Field, ...]:
    described = msgspec.inspect.type_info(kind)
    return described.fields if isinstance(described, msgspec.inspect.StructType) else ()


def _choices(kind: msgspec.inspect.Type) -> tuple[msgspec.inspect.Type, ...]:
    return kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)
