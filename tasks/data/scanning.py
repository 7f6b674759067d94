"""Personal data and secrets in data sets: where, of which type and how masked; the values stay where they are."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tasks.data.personal import DEFAULT, Confidence, Finding, Search, find_personal
from tasks.data.personal.telling import lead_of
from tasks.data.rewriting import rewrite

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tasks.data.reading import Row
    from tasks.data.record import Record


class Spot(NamedTuple):
    """One finding in a file, as it may be shown: `field` is a path as in `messages[1].content`."""

    line: int
    field: str
    type: str
    confidence: Confidence
    masked: str


@dataclass
class Census:
    """What a scan has counted so far."""

    examples: int = 0
    examples_touched: int = 0
    found: Counter[str] = field(default_factory=Counter)  # findings by type


def scan(rows: Iterable[Row], search: Search = DEFAULT, census: Census | None = None) -> Iterator[Spot]:
    """Every finding of every row, in their order; `census` counts them on the way.

    Raises:
        Invalid: as `find_personal`
    """
    census = Census() if census is None else census
    for row in rows:
        census.examples += 1
        spots = find_spots(row.record, row.line, search)
        if spots:
            census.examples_touched += 1
            census.found.update(spot.type for spot in spots)
            yield from spots


def find_spots(record: Record, line: int, search: Search = DEFAULT) -> list[Spot]:
    """Every finding in the texts of a record, which stays as it is."""
    spots: list[Spot] = []

    def look(place: str, key: str | None, text: str) -> str:
        for finding in find_in_value(key, text, search):
            spots.append(Spot(line, _showable(place), finding.type, finding.confidence, finding.masked(text)))
        return text

    rewrite(record, look)
    return spots


def _showable(place: str) -> str:
    """A path without its keys where one of them is personal data itself."""
    return place.partition(".")[0] if find_personal(place, Search(least=Confidence.LOW)) else place


def find_in_value(key: str | None, text: str, search: Search) -> list[Finding]:
    """What is found in a text that is the value of `key`, which may tell what it is."""
    lead = lead_of(key) if key else ""
    if not lead:
        return find_personal(text, search)
    size = len(lead)
    found = find_personal(lead + text, search)
    return [each._replace(start=each.start - size, end=each.end - size) for each in found if each.start >= size]
