"""Datasets as they are written: complete or absent."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec

from tasks.data.reading import EXAMPLES

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import BinaryIO, Self

    from tasks.data.record import Record


class JsonlWriter:
    """A JSONL file that is complete or absent: it takes its name when the block ends without an error."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._encoder = msgspec.json.Encoder()
        self._part = path.with_name(f".{path.name}.part")
        self._file: BinaryIO

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part.open("wb", buffering=1 << 20)
        return self

    def write(self, row: Any) -> None:
        """Append a row: anything that msgspec can write as JSON.

        Raises:
            ValueError: it holds half a surrogate pair, which UTF-8 cannot say
        """
        self._file.write(self._encoder.encode(row) + b"\n")
        self.count += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
        if kind is None:
            self._part.replace(self.path)
        else:
            self._part.unlink()


class DatasetWriter(JsonlWriter):
    """A dataset folder in the making: one record a line in `examples.jsonl`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / EXAMPLES)

    def write(self, row: Record) -> None:
        super().write(row)
