"""Pieces of bytes in an unnamed file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.data.scratch.holder import Holder
from tasks.data.scratch.rows import Rows, Unnamed

if TYPE_CHECKING:
    from pathlib import Path


class Spool(Holder):
    """Numbered pieces of bytes, appended and read back; gone with the process."""

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__()
        self._file = self.opened(Unnamed(folder))
        self._places = self.opened(Rows(folder, begin="Q", size="I"))
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._places)

    def append(self, piece: bytes) -> None:
        """Add a piece; all of them are appended before the first is read."""
        self._file.write(piece)
        self._places.append(self._bytes, len(piece))
        self._bytes += len(piece)

    def read(self, number: int) -> bytes:
        """A piece by its number, counted from 0."""
        begin, size = self._places.read(number)
        self._file.seek(begin)
        return self._file.read(size)
