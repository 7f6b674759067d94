"""US social security numbers in the ranges that are given out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tasks.data.personal.context import speaks_of_social_security
from tasks.data.personal.finding import Confidence, Finding
from tasks.data.personal.hints import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.personal.search import Search

TYPES = ("ssn",)
NEEDS = NUMBERS

# area 000, 666 and 9xx, group 00 and serial 0000 were never given out
_NUMBER = re.compile(
    r"[0-8](?<![\w.+\-/].)[0-9]{2}(?<!000)(?<!666)([- .]?)(?!00)[0-9]{2}\1(?!0000)[0-9]{4}(?![\w\-/]|[.,][0-9])"
)
_PRINTED = frozenset({"078051120", "219099999"})  # in advertisements, and withdrawn


def find(text: str, search: Search) -> Iterator[Finding]:
    """Every number with dashes; with spaces, dots or without anything only where the words around it say so."""
    del search
    for match in _NUMBER.finditer(text):
        named = speaks_of_social_security(text, match.start(), match.end())
        if match[1] == "-" or named:
            sure = Confidence.HIGH if named else Confidence.MEDIUM
            printed = re.sub(r"[- .]", "", match[0]) in _PRINTED
            yield Finding(match.start(), match.end(), "ssn", Confidence.LOW if printed else sure)
