"""Examples taken out of a dataset, each with its reason."""

from __future__ import annotations

import heapq
from operator import itemgetter
from typing import TYPE_CHECKING

import msgspec

from tasks.data.likeness.choosing import ACCIDENTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tasks.data.duplicates import Copy
    from tasks.data.leakage import Leak
    from tasks.data.reading import Row

REMOVED = "removed.jsonl"
NOTHING: tuple[int, None] = -1, None


class Removal(msgspec.Struct, frozen=True, omit_defaults=True):
    """One example that was taken out, and the one that it repeats."""

    line: int  # in the source
    reason: str  # exact, normalised, near; or leaked-same, leaked-near, leaked-overlap
    twin: int  # the line of the other: in the source, or in `dataset`
    similarity: float
    dataset: str | None = None


def removals(leaks: Iterable[Leak], copies: Iterable[Copy]) -> Iterator[tuple[int, Removal]]:
    """What is taken out, each at its position, in order: all leaks, and of the copies the accidents."""
    leaked = (
        (leak.position, Removal(leak.line, f"leaked-{leak.kind}", leak.twin, round(leak.similarity, 4), leak.dataset))
        for leak in leaks
    )
    copied = (
        (copy.position, Removal(copy.line, copy.kind, copy.twin, round(copy.similarity, 4)))
        for copy in copies
        if copy.kind in ACCIDENTS
    )
    return heapq.merge(leaked, copied, key=itemgetter(0))


def take_out(rows: Iterable[Row], taken: Iterable[tuple[int, Removal]]) -> Iterator[tuple[Row, Removal | None]]:
    """Every row with the reason to take it out, where there is one; lines are not asked: each file has its own."""
    coming = iter(taken)
    place, removal = next(coming, NOTHING)
    for position, row in enumerate(rows):
        if position == place:
            yield row, removal
            place, removal = next(coming, NOTHING)
        else:
            yield row, None
