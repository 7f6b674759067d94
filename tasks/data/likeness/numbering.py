"""Digests numbered in the order of their first appearance, in a quarter of the memory of a dict."""

from __future__ import annotations

from array import array

from tasks.data.likeness.saying import DIGEST_BYTES

SMALLEST = 1 << 10  # slots; always a power of two
FREE = 0  # what a slot holds where nothing is; a taken one holds the number plus 1


class Numbering:
    """A hash table with open addressing over digests of 16 bytes: 24 to 40 bytes for each."""

    def __init__(self) -> None:
        self._digests = bytearray()
        self._slots = array("I", bytes(4 * SMALLEST))

    def __len__(self) -> int:
        return len(self._digests) // DIGEST_BYTES

    def number(self, digest: bytes) -> int:
        """The number of a digest, counted from 0; a new one takes the next."""
        slot = self._slot_of(digest)
        if self._slots[slot] != FREE:
            return self._slots[slot] - 1
        self._digests += digest
        self._slots[slot] = len(self)
        if 2 * len(self) > len(self._slots):
            self._grow()
        return len(self) - 1

    def find(self, digest: bytes) -> int | None:
        """The number of a digest that was numbered before."""
        taken = self._slots[self._slot_of(digest)]
        return None if taken == FREE else taken - 1

    def _slot_of(self, digest: bytes) -> int:
        """Where a digest stands, or the free slot where it would."""
        slots, mask = self._slots, len(self._slots) - 1
        slot = int.from_bytes(digest[:8], "little") & mask
        while (taken := slots[slot]) != FREE:
            at = (taken - 1) * DIGEST_BYTES
            if self._digests[at : at + DIGEST_BYTES] == digest:
                return slot
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        slots = array("I", bytes(8 * len(self._slots)))
        mask = len(slots) - 1
        for number in range(len(self)):
            at = number * DIGEST_BYTES
            slot = int.from_bytes(self._digests[at : at + 8], "little") & mask
            while slots[slot] != FREE:
                slot = (slot + 1) & mask
            slots[slot] = number + 1
        self._slots = slots
