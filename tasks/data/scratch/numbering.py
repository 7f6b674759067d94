"""Digests numbered in the order of their first appearance, on disk: some bytes in memory for each hundred.

A hash table whose pages divide when they are full (extendible hashing: Fagin et al. 1979, doi:10.1145/320083.320092).
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from tasks.data.scratch.holder import Holder
from tasks.data.scratch.rows import Unnamed

if TYPE_CHECKING:
    from pathlib import Path

KEY_BYTES = 12  # of a digest: of ten billion texts, two have the same ones once in a billion times
ENTRY_BYTES = 16  # the key, and its number
PAGE_BYTES = 1024


class Numbering(Holder):
    """Numbers for digests of 12 bytes or more, in an unnamed file."""

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__()
        self._file = self.opened(Unnamed(folder))
        self._count = 0
        self._directory = array("I", [0])  # the page of a digest, by as many of its lowest bits as are told apart
        self._bits = array("B", [0])  # of each page, how many lowest bits all digests in it share
        self._filled = array("I", [0])  # bytes of each page

    def __len__(self) -> int:
        return self._count

    def number(self, digest: bytes) -> int:
        """The number of a digest, counted from 0; a new one takes the next."""
        found = self.find(digest)
        if found is not None:
            return found
        key = digest[:KEY_BYTES]
        while self._filled[page := self._page_of(key)] == PAGE_BYTES:
            self._divide(page)
        self._write(page, self._filled[page], key + self._count.to_bytes(ENTRY_BYTES - KEY_BYTES, "little"))
        self._count += 1
        return self._count - 1

    def find(self, digest: bytes) -> int | None:
        """The number of a digest that was numbered before."""
        key = digest[:KEY_BYTES]
        held = self._read(self._page_of(key))
        at = held.find(key)
        while at % ENTRY_BYTES and at > 0:  # it may begin within an entry
            at = held.find(key, at + 1)
        return None if at < 0 else int.from_bytes(held[at + KEY_BYTES : at + ENTRY_BYTES], "little")

    def _page_of(self, key: bytes) -> int:
        return self._directory[int.from_bytes(key[:8], "little") & (len(self._directory) - 1)]

    def _divide(self, page: int) -> None:
        """Take the digests that have one bit more set to a new page."""
        bit = 1 << self._bits[page]
        if bit == len(self._directory):
            self._directory *= 2
        held, halves = self._read(page), [b"", b""]
        for at in range(0, len(held), ENTRY_BYTES):
            low = int.from_bytes(held[at : at + 8], "little")
            halves[low & bit > 0] += held[at : at + ENTRY_BYTES]
        other = len(self._bits)
        for place in range(low & (bit - 1) | bit, len(self._directory), 2 * bit):
            self._directory[place] = other
        self._bits[page] += 1
        self._bits.append(self._bits[page])
        self._filled[page] = 0
        self._filled.append(0)
        self._write(page, 0, halves[False])
        self._write(other, 0, halves[True])

    def _read(self, page: int) -> bytes:
        self._file.seek(page * PAGE_BYTES)
        return self._file.read(self._filled[page])

    def _write(self, page: int, at: int, entries: bytes) -> None:
        self._file.seek(page * PAGE_BYTES + at)
        self._file.write(entries)
        self._filled[page] += len(entries)
