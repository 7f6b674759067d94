"""Text out of a dataset as a report may show it: short, on one line, and with everything personal masked."""

from __future__ import annotations

from collections import Counter

from tasks.data.likeness.shown import start_of
from tasks.data.personal import Confidence, Search, find_personal

SHOWN_CHARACTERS = 160
_ANYTHING = Search(least=Confidence.LOW)


def quoted(text: str, characters: int = SHOWN_CHARACTERS) -> str:
    """The beginning of a text."""
    start = start_of(text)
    parts, end = [], 0
    for finding in find_personal(start, _ANYTHING):
        parts += [start[end : finding.start], finding.masked(start)]
        end = finding.end
    line = " ".join("".join([*parts, start[end:]]).split())
    shortened = line if len(line) <= characters else line[: characters - 1] + "…"
    return "".join(character if character.isprintable() else "\ufffd" for character in shortened)


def quoted_counts(counts: Counter[str], most: int) -> dict[str, int]:
    """The most frequent, under names that may be shown; those that look alike then are counted together."""
    shown: Counter[str] = Counter()
    for name, count in counts.most_common(most):
        shown[quoted(name)] += count
    return dict(shown)
