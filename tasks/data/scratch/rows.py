"""Rows of numbers in an unnamed file: appended one by one, and read back by number, as they came, or in order."""

from __future__ import annotations

import os
import tempfile
from struct import Struct
from typing import TYPE_CHECKING, Any

from tasks.data.scratch.holder import Holder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

    Table = NDArray[Any]  # structured, with the fields of the rows
    Key = Callable[[Table], NDArray[Any]]  # an unsigned number for each row

IN_MEMORY_BYTES = 4 << 20  # of a file; what is smaller never touches the disk
TAIL_BYTES = 1 << 16  # written at a time
READ_ROWS = 1 << 16
AT_ONCE = 4096  # rows as tuples
SORTED_ROWS = 1 << 17  # at once, and somewhat more where many have like keys
_BINS = 1 << 12  # of keys, by which rows are divided into pieces


class Unnamed:
    """A file that is gone with the process, in a folder or in the system's for such; errors name the folder."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = tempfile.gettempdir() if folder is None else os.fspath(folder)
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, dir=self._folder)  # noqa: SIM115 - until __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._file.close()
        except OSError as refused:
            self._place(refused)
            raise

    def seek(self, at: int) -> None:
        """Go to a byte; what waits to be written goes to the disk."""
        try:
            self._file.seek(at)
        except OSError as refused:
            self._place(refused)
            raise

    def read(self, size: int) -> bytes:
        """As many bytes as are there, at most `size`."""
        try:
            return self._file.read(size)
        except OSError as refused:
            self._place(refused)
            raise

    def write(self, piece: bytes | bytearray) -> int:
        """Write it whole; how many bytes it has."""
        try:
            return self._file.write(piece)
        except OSError as refused:
            self._place(refused)
            raise

    def _place(self, refused: OSError) -> None:
        if refused.filename is None:
            refused.filename = self._folder


class Rows(Holder):
    """Rows of the fields that are named, each with its code in `struct`: `Rows(folder, line="Q", rank="d")`."""

    def __init__(self, folder: Path | None = None, **fields: str) -> None:
        super().__init__()
        self._folder = folder
        self._fields = fields
        self._struct = Struct("<" + "".join(fields.values()))
        self._file = self.opened(Unnamed(folder))
        self._written = 0  # bytes
        self._tail = bytearray()

    def __len__(self) -> int:
        return (self._written + len(self._tail)) // self._struct.size

    def append(self, *values: float) -> None:
        """Add a row: a value for each field."""
        self._tail += self._struct.pack(*values)
        if len(self._tail) >= TAIL_BYTES:
            self._flush()

    def extend(self, **columns: NDArray[Any]) -> None:
        """Add as many rows as the columns have values."""
        import numpy as np

        table = np.empty(len(next(iter(columns.values()))), self._dtype())
        for name, values in columns.items():
            table[name] = values
        self._tail += table.tobytes()
        self._flush()

    def read(self, number: int) -> tuple[Any, ...]:
        """A row by its number, counted from 0."""
        at = number * self._struct.size
        if at >= self._written:
            return self._struct.unpack_from(self._tail, at - self._written)
        self._file.seek(at)
        return self._struct.unpack(self._file.read(self._struct.size))

    def tables(self) -> Iterator[Table]:
        """All rows as they came, some at a time."""
        for begin in range(0, len(self), READ_ROWS):
            yield self._table(begin, min(READ_ROWS, len(self) - begin))

    def ordered(self, key: Key) -> Iterator[Table]:
        """All rows in the order of a key, some at a time: equal keys stand in one table, as they came."""
        import numpy as np

        pieces = self._pieces(key) if len(self) > SORTED_ROWS else iter([self._table(0, len(self))])
        for piece in pieces:
            if len(piece):
                yield piece[np.argsort(key(piece), kind="stable")]

    def groups(self, key: Key) -> Iterator[Table]:
        """The rows that have a key in common, as they came, where that is two or more; in the order of the key."""
        import numpy as np

        for table in self.ordered(key):
            keys = key(table)
            begins = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
            ends = np.append(begins[1:], len(keys))
            several = np.flatnonzero(ends - begins > 1)
            for begin, end in zip(begins[several].tolist(), ends[several].tolist(), strict=True):
                yield table[begin:end]

    def _pieces(self, key: Key) -> Iterator[Table]:
        """All rows in pieces: no key in one is above any in the next, but within a piece they stand as they came."""
        import numpy as np

        low, shift = self._range(key)
        counts = np.zeros(_BINS, np.int64)
        for table in self.tables():
            counts += np.bincount(_bins(key(table), low, shift), minlength=_BINS)
        piece_of = (np.cumsum(counts) - counts) // SORTED_ROWS  # of each bin
        sizes = np.bincount(piece_of, weights=counts).astype(np.int64)
        begins = np.cumsum(sizes) - sizes
        with Rows(self._folder, **self._fields) as divided:
            divided._scatter(self.tables(), lambda table: piece_of[_bins(key(table), low, shift)], begins.copy())
            for begin, size in zip(begins.tolist(), sizes.tolist(), strict=True):
                yield divided._table(begin, size)

    def _range(self, key: Key) -> tuple[int, int]:
        """The least key, and how far the distance from it is shifted to be the number of a bin."""
        keys = [(int(found.min()), int(found.max())) for found in map(key, self.tables())]
        low, high = min(least for least, _ in keys), max(most for _, most in keys)
        return low, max(0, (high - low).bit_length() - _BINS.bit_length() + 1)

    def _scatter(self, tables: Iterator[Table], piece_of: Key, places: NDArray[Any]) -> None:
        """Write each row behind those of its piece; `places` says where the next of each piece stands."""
        import numpy as np

        for table in tables:
            pieces = piece_of(table)
            table = table[np.argsort(pieces, kind="stable")]
            begin = 0
            for piece, count in enumerate(np.bincount(pieces).tolist()):
                self._file.seek(int(places[piece]) * self._struct.size)
                self._file.write(table[begin : begin + count].tobytes())
                places[piece] += count
                begin += count

    def _table(self, begin: int, count: int) -> Table:
        import numpy as np

        self._flush()
        self._file.seek(begin * self._struct.size)
        return np.frombuffer(self._file.read(count * self._struct.size), self._dtype())

    def _dtype(self) -> Any:
        import numpy as np

        return np.dtype([(name, f"<{code}") for name, code in self._fields.items()])

    def _flush(self) -> None:
        self._file.seek(self._written)
        self._written += self._file.write(self._tail)
        self._tail.clear()


def each_of(table: Table) -> Iterator[tuple[Any, ...]]:
    """The rows of a table one by one, few of them in memory as Python has them."""
    for begin in range(0, len(table), AT_ONCE):
        yield from table[begin : begin + AT_ONCE].tolist()


def _bins(keys: NDArray[Any], low: int, shift: int) -> NDArray[Any]:
    import numpy as np

    return ((keys.astype(np.uint64) - np.uint64(low)) >> np.uint64(shift)).astype(np.intp)
