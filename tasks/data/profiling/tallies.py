"""Sizes and values as they are distributed: exact, and in memory that depends on how many different ones there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import accumulate, cycle

import msgspec

from tasks.data.quoting import quoted

PERCENTILES = (5, 25, 50, 75, 95, 99)
MOST_VALUES = 10_000  # different ones that are counted; more are no categories any more
SHOWN_VALUES = 30
SHOWN_LINES = 5
BARS = 20  # at most, in a distribution


class Bar(msgspec.Struct, frozen=True):
    """The examples from one size up to, and without, the next; the last bar has no end."""

    first: int
    below: int | None
    examples: int


class Distribution(msgspec.Struct, frozen=True):
    """A size over all examples: nearest-rank percentiles, and bars of one round width up to the 99th percentile."""

    count: int
    total: int
    mean: float
    minimum: int
    p5: int
    p25: int
    p50: int
    p75: int
    p95: int
    p99: int
    maximum: int
    bars: list[Bar]


class Breakdown(msgspec.Struct, frozen=True):
    """How often each value occurs, the most frequent first, masked where it could be personal; the rest is counted."""

    values: dict[str, int]
    distinct: int
    rest: int  # occurrences of values that are not shown
    missing: int  # examples without a value


class Sighting(msgspec.Struct, frozen=True):
    """In how many examples something was seen, and the lines of the first ones."""

    examples: int = 0
    lines: list[int] = []


class Sightings:
    """What is seen where, in the making."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.lines: dict[str, list[int]] = {}

    def see(self, what: str, line: int) -> None:
        self.counts[what] += 1
        lines = self.lines.setdefault(what, [])
        if len(lines) < SHOWN_LINES:
            lines.append(line)

    def of(self, what: str) -> Sighting:
        return Sighting(self.counts[what], self.lines.get(what, []))

    def all(self, most: int = SHOWN_VALUES) -> dict[str, Sighting]:
        """The most frequent first; alike ones by name."""
        return {what: self.of(what) for what, _ in ranked(self.counts)[:most]}


class Values:
    """The values of one field, in the making."""

    def __init__(self, most: int = MOST_VALUES) -> None:
        self.most = most
        self.counts: Counter[str] = Counter()
        self.missing = 0
        self.uncounted = 0

    def add(self, value: str | None) -> None:
        if value is None:
            self.missing += 1
        elif value in self.counts or len(self.counts) < self.most:
            self.counts[value] += 1
        else:
            self.uncounted += 1

    def breakdown(self) -> Breakdown:
        shown: Counter[str] = Counter()
        for value, count in ranked(self.counts)[:SHOWN_VALUES]:
            shown[quoted(value)] += count
        rest = self.counts.total() - sum(shown.values()) + self.uncounted
        return Breakdown(dict(shown), len(self.counts), rest, self.missing)


def ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """By count, falling; alike ones by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def distribution(sizes: Counter[int]) -> Distribution | None:
    """The distribution of sizes, given as how often each occurs; None where there is none."""
    if not sizes:
        return None
    ordered = sorted(sizes)
    count = sizes.total()
    total = sum(size * often for size, often in sizes.items())
    reached = list(accumulate(sizes[size] for size in ordered))
    ranks = iter(PERCENTILES)
    found: list[int] = []
    wanted = next(ranks, None)
    for size, passed in zip(ordered, reached, strict=True):
        while wanted is not None and passed * 100 >= wanted * count:
            found.append(size)
            wanted = next(ranks, None)
    bars = _bars(sizes, ordered[0], found[-1])
    ranked_sizes = dict(zip((f"p{percent}" for percent in PERCENTILES), found, strict=True))
    mean = round(total / count, 1)
    return Distribution(
        count=count, total=total, mean=mean, minimum=ordered[0], maximum=ordered[-1], bars=bars, **ranked_sizes
    )


def _bars(sizes: Counter[int], minimum: int, usual: int) -> list[Bar]:
    """The bars; what is larger than `usual` falls into the last, so that one giant does not flatten the rest."""
    width = _round_width(usual - minimum + 1)
    last = usual // width + 1
    counts: Counter[int] = Counter()
    for size, often in sizes.items():
        counts[min(size // width, last)] += often
    bars = [Bar(bar * width, (bar + 1) * width, counts[bar]) for bar in range(minimum // width, last)]
    return [*bars, Bar(last * width, None, counts[last])] if counts[last] else bars


def _round_width(spread: int) -> int:
    """The least of 1, 2, 5, 10, 20, 50 … that covers the spread with few enough bars."""
    wanted = spread / (BARS - 1)
    width, steps = 1, cycle((2, 2.5, 2))  # 1, 2, 5, 10, 20 …
    while width < wanted:
        width = int(width * next(steps))
    return width
