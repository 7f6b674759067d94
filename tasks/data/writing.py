"""Datasets as they are written: complete or absent."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import zstandard

from tasks.data.columns import arrow_schema, to_cells
from tasks.data.finding import EXAMPLES

if TYPE_CHECKING:
    from types import TracebackType
    from typing import BinaryIO, Self

    import pyarrow
    import pyarrow.parquet

    from tasks.data.record import Record


LINES = 256  # written at a time
GROUP_ROWS = 10_000  # of a Parquet file
_STATE: dict[str, Any] = {  # of a folder that `datasets` saved: all columns, as they are
    "_format_columns": None,
    "_format_kwargs": {},
    "_format_type": None,
    "_output_all_columns": False,
    "_split": None,
}


class JsonlWriter:
    """A JSONL file that is complete or absent: it takes its name when the block ends without an error.

    It is packed where the name ends in .gz or .zst.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._encode = msgspec.json.Encoder().encode
        self._lines: list[bytes] = []
        self._part = path.with_name(f".{path.name}.part")
        self._file: BinaryIO
        self._out: BinaryIO  # the file, or what packs into it

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part.open("wb")
        self._out = _packing(self.path, self._file)
        return self

    def write(self, row: Any) -> None:
        """Append a row: anything that msgspec can write as JSON.

        Raises:
            ValueError: it holds half a surrogate pair, which UTF-8 cannot say
        """
        self._lines.append(self._encode(row))
        self.count += 1
        if len(self._lines) == LINES:
            self.flush()

    def flush(self) -> None:
        """Write what is held back; also called when all rows have come."""
        if self._lines:
            self._out.write(b"\n".join([*self._lines, b""]))
            self._lines.clear()

    def finish(self) -> None:
        """Write what stands behind all rows; also called when the work failed."""
        if self._out is not self._file:
            self._out.close()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        complete = False
        try:
            with self._file:
                try:
                    if kind is None:
                        self.flush()
                finally:
                    self.finish()
                self._file.flush()
                os.fsync(self._file.fileno())
            complete = kind is None
        finally:
            if complete:
                self._part.replace(self.path)
            else:
                self._part.unlink()


class DatasetWriter(JsonlWriter):
    """A dataset folder in the making: one record a line in `examples.jsonl`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / EXAMPLES)

    def write(self, row: Record) -> None:
        super().write(row)


class CsvWriter(JsonlWriter):
    """A CSV file of one format's rows, complete or absent; lists and objects stand in their cells as JSON."""

    def __init__(self, path: Path, kind: type[msgspec.Struct]) -> None:
        super().__init__(path)
        self._names = kind.__struct_encode_fields__

    def __enter__(self) -> Self:
        super().__enter__()
        self._text = io.StringIO(newline="")
        # every cell in quotes: a carriage return without them would end the row
        self._table = csv.writer(self._text, lineterminator="\n", quoting=csv.QUOTE_ALL)
        self._table.writerow(self._names)
        return self

    def write(self, row: msgspec.Struct) -> None:
        cells = to_cells(row)
        self._table.writerow([_cell(cells.get(name)) for name in self._names])
        self.count += 1
        if self.count % LINES == 0:
            self.flush()

    def flush(self) -> None:
        self._out.write(self._text.getvalue().encode())
        self._text.seek(0)
        self._text.truncate()


class ParquetWriter(JsonlWriter):
    """A Parquet file of one format's rows, complete or absent; objects with any keys are JSON in a text."""

    def __init__(self, path: Path, kind: type[msgspec.Struct]) -> None:
        super().__init__(path)
        self._schema = arrow_schema(kind)
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        super().__enter__()
        self._table = self._begin(self._schema)
        return self

    def _begin(self, schema: pyarrow.Schema) -> pyarrow.parquet.ParquetWriter | pyarrow.RecordBatchStreamWriter:
        import pyarrow.parquet

        return pyarrow.parquet.ParquetWriter(self._file, schema, compression="zstd")

    def write(self, row: msgspec.Struct) -> None:
        self._rows.append(to_cells(row, nested=True))
        self.count += 1
        if len(self._rows) == GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        import pyarrow

        self._table.write_table(pyarrow.Table.from_pylist(self._rows, schema=self._schema))
        self._rows.clear()

    def finish(self) -> None:
        self._table.close()


class SavedWriter(ParquetWriter):
    """A folder as Hugging Face's `datasets` saves one, complete or absent, with the columns of a Parquet file."""

    def __init__(self, folder: Path, kind: type[msgspec.Struct]) -> None:
        super().__init__(folder / "data-00000-of-00001.arrow", kind)

    def _begin(self, schema: pyarrow.Schema) -> pyarrow.RecordBatchStreamWriter:
        import pyarrow

        return pyarrow.ipc.new_stream(self._file, schema)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        super().__exit__(kind, error, at)
        if kind is None:
            with self.path.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()[:16]
            state = {"_data_files": [{"filename": self.path.name}], "_fingerprint": digest, **_STATE}
            self.path.with_name("dataset_info.json").write_bytes(b"{}")
            self.path.with_name("state.json").write_bytes(msgspec.json.encode(state))


def _packing(path: Path, file: BinaryIO) -> BinaryIO:
    if path.suffix == ".gz":
        return cast("BinaryIO", gzip.GzipFile("", "wb", fileobj=file, mtime=0))  # the same rows, the same bytes
    if path.suffix == ".zst":
        return cast("BinaryIO", zstandard.ZstdCompressor().stream_writer(file, closefd=False))
    return file


def _cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value
