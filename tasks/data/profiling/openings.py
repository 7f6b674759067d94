"""How answers begin: the same first words in a noticeable share of them are boilerplate that a model will learn."""

from __future__ import annotations

from collections import Counter

import msgspec

from tasks.data.profiling.tallies import SHOWN_LINES, Sighting
from tasks.data.quoting import quoted

WORDS = 5
MOST_OPENINGS = 50_000  # counted at once; past that those met once are forgotten
LEAST_SHARE = 0.01
LEAST_EXAMPLES = 10
SHOWN = 10


class Opening(msgspec.Struct, frozen=True):
    """The first words that many answers share, in lower case, masked where they could be personal."""

    words: str
    seen: Sighting


class OpeningCount:
    """Openings in the making. What is frequent is counted to within the number of times that the rare was forgotten."""

    def __init__(self, most: int = MOST_OPENINGS) -> None:
        self.most = most
        self.counts: Counter[str] = Counter()
        self.lines: dict[str, list[int]] = {}
        self.forgotten = 0  # times

    def add(self, answer: str, line: int) -> None:
        words = answer[:200].split(None, WORDS)[:WORDS]
        if len(words) < WORDS:
            return  # a short answer is no opening
        opening = " ".join(words).lower()
        self.counts[opening] += 1
        lines = self.lines.setdefault(opening, [])
        if len(lines) < SHOWN_LINES:
            lines.append(line)
        if len(self.counts) > self.most:
            self._forget_the_rare()

    def repeated(self, examples: int) -> list[Opening]:
        """Those that begin at least 1 % of the answers, and ten of them; the most frequent first."""
        least = max(LEAST_EXAMPLES, LEAST_SHARE * examples)
        found = sorted((-count, opening) for opening, count in self.counts.items() if count >= least)
        return [Opening(quoted(opening), Sighting(-count, self.lines[opening])) for count, opening in found[:SHOWN]]

    def _forget_the_rare(self) -> None:
        self.forgotten += 1
        self.counts = Counter({opening: count for opening, count in self.counts.items() if count > self.forgotten})
        self.lines = {opening: self.lines[opening] for opening in self.counts}
