"""What a dataset consists of, in figures."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tasks.data.sources import Document

STATISTICS = "statistics.json"
BARS = 20  # at most, in a histogram


@dataclass
class Tally:
    """What happened while documents became examples. Nothing is left out without being counted here."""

    sizes: array[int] = field(default_factory=lambda: array("L"))  # tokens of each example
    short: int = 0  # examples below the wanted size: the whole or the end of a short document
    files: int = 0
    dropped: Counter[str] = field(default_factory=Counter)  # documents and pieces, by reason
    dropped_characters: int = 0
    repaired: dict[str, str] = field(default_factory=dict)  # document → the encoding it was in
    suspicious: list[str] = field(default_factory=list)  # documents that look doubly encoded here and there
    licences: dict[str, int] = field(default_factory=dict)  # document → characters of licence text taken off
    extracted: Counter[str] = field(default_factory=Counter)  # documents out of files that are more than text, by type
    removed: Counter[str] = field(default_factory=Counter)  # parts of these that are no text, by what they are
    bad: list[str] = field(default_factory=list)  # files that are no usable text, and why

    def read(self, document: Document) -> None:
        if document.repair is not None:
            self.repaired[document.name] = document.repair
        if document.suspicious:
            self.suspicious.append(document.name)
        if document.licence_characters:
            self.licences[document.name] = document.licence_characters
        if document.extracted_from is not None:
            self.extracted[document.extracted_from] += 1
            self.removed.update(document.removed)

    def keep(self, tokens: int, *, short: bool) -> None:
        self.sizes.append(tokens)
        self.short += short

    def drop(self, reason: str, text: str) -> None:
        self.dropped[reason] += 1
        self.dropped_characters += len(text)


def distribution(sizes: Sequence[int]) -> dict[str, Any]:
    """Sum, mean, extremes and nearest-rank percentiles of at least one size."""
    ordered = sorted(sizes)
    total = sum(ordered)
    return {
        "tokens": total,
        "min_tokens": ordered[0],
        "mean_tokens": round(total / len(ordered), 1),
        "p50_tokens": percentile(ordered, 50),
        "p95_tokens": percentile(ordered, 95),
        "max_tokens": ordered[-1],
    }


def percentile(ordered: Sequence[int], percent: int) -> int:
    """The smallest value that at least `percent` of them do not pass."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def histogram(sizes: Sequence[int]) -> list[dict[str, int]]:
    """Examples by size, in bars of one round width; `below` is not in the bar."""
    width = _round_width(max(sizes) - min(sizes) + 1)
    counts = Counter(size // width for size in sizes)
    bars = range(min(counts), max(counts) + 1)
    return [{"from": bar * width, "below": (bar + 1) * width, "examples": counts[bar]} for bar in bars]


def write_statistics(folder: Path, figures: dict[str, Any], sizes: Sequence[int]) -> None:
    """Write a dataset's statistics.json: `figures`, and the histogram of `sizes` where they are known."""
    whole = figures | ({"histogram": histogram(sizes)} if sizes else {})
    (folder / STATISTICS).write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _round_width(spread: int) -> int:
    """The least of 1, 2, 5, 10, 20, 50 … that covers the spread with few enough bars."""
    width, steps = 1, (2, 5, 10)
    while True:
        for step in (1, *steps[:2]):
            if spread <= (BARS - 1) * width * step:
                return width * step
        width *= steps[2]
