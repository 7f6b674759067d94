"""What is looked at once more at the end of a stream, kept in an unnamed file meanwhile."""

from __future__ import annotations

import tempfile
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

IN_MEMORY_BYTES = 16 << 20  # what is smaller never touches the disk


class Spool:
    """Numbered pieces of bytes, appended and read back; gone with the process."""

    def __init__(self, folder: Path | None = None) -> None:
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, dir=None if folder is None else str(folder))  # noqa: SIM115  (closed by __exit__)
        self._ends = array("Q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def append(self, piece: bytes) -> None:
        """Add a piece; all of them are appended before the first is read."""
        self._file.write(piece)
        self._ends.append(self._ends[-1] + len(piece))

    def read(self, number: int) -> bytes:
        """A piece by its number, counted from 0."""
        self._file.seek(self._ends[number])
        return self._file.read(self._ends[number + 1] - self._ends[number])
