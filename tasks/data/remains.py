"""What a scrubbing has left: a second scan, of the lines that were written and not of the records they were made of.

It goes through whatever stands in the JSON, so that a field which the scrubbing does not know is not passed over twice.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec

from tasks.data.personal import Confidence
from tasks.data.rewriting import rewrite_value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tasks.data.scrubbing import Scrubber

_SHOWN_LINES = 10


@dataclass
class Remains:
    """What a second scan finds in what a scrubber has made."""

    found: Counter[str] = field(default_factory=Counter)
    lines: list[int] = field(default_factory=list)  # the first examples with something left
    less_sure: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        return self.found.total()


def find_remains(scrubber: Scrubber, lines: Iterable[bytes]) -> Remains:
    """Scan the lines of a scrubbed dataset by the same search; what is below its confidence is counted apart."""
    remains, least = Remains(), scrubber.search.least
    second = replace(scrubber, search=replace(scrubber.search, least=Confidence.LOW))

    def weigh(field: str, key: str | None, text: str) -> str:
        del field
        for finding in second.find_new(key, text):
            (remains.found if finding.confidence >= least else remains.less_sure)[finding.type] += 1
        return text

    for number, line in enumerate(lines, 1):
        before = remains.total
        rewrite_value(msgspec.json.decode(line), "", None, weigh)
        if remains.total > before and len(remains.lines) < _SHOWN_LINES:
            remains.lines.append(number)
    return remains
