"""Phone numbers: cheap patterns choose what is worth asking, Google's metadata (`phonenumbers`) decides."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from tasks.data.personal.context import speaks_of_other, speaks_of_phone
from tasks.data.personal.finding import Confidence, Finding
from tasks.data.personal.hints import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.personal.search import Search

TYPES = ("phone",)
NEEDS = NUMBERS

_INTERNATIONAL = re.compile(
    r"(?:\+(?<![\w+./].) ?|0(?<![\w+./].)0(?=[1-9]))[0-9(][0-9 ().\-/]{5,22}(?<=[0-9])(?![0-9])"
)
_AMERICAN = re.compile(
    r"[(1-9](?<![\w+./\-].)(?:(?<=1)[-. ]\(?[2-9][0-9]{2}|(?<=\()[2-9][0-9]{2}|(?<=[2-9])[0-9]{2})(?:\) ?|[-. ])"
    r"[2-9][0-9]{2}[-. ][0-9]{4}(?![\w\-]|\.[0-9])"
)
_NATIONAL = re.compile(r"[(0](?<![\w+./\-].)(?<![0-9] .)(?:(?<=\()0)?[0-9 ().\-/]{6,20}(?<=[0-9])(?!\w)")
_BARE = re.compile(r"[0-9](?<![\w+./\-].)[0-9]{8,11}+(?![\w\-]|\.[0-9])")
_GROUPED = re.compile(r"\(?0[0-9]{1,5}(?:\) ?| ?[-/] ?| )[0-9]{2,8}(?:[ -][0-9]{2,7}){0,4}")
# kept free for films and books by the American, British and German regulators
_FICTITIOUS = re.compile(
    r"(?:1?[2-9][0-9]{2}55501[0-9]{2}|(?:44|0)(?:7700900|2079460|1632960)[0-9]{3}|(?:49|0)3023125[0-9]{3})"
)
_AMERICAN_REGIONS = frozenset({"US", "CA"})


def find(text: str, search: Search) -> Iterator[Finding]:
    """Every number that can be dialled from one of the regions; LOW where nothing but its digits speaks for it."""
    yield from _international(text)
    if _AMERICAN_REGIONS & set(search.regions):
        yield from _american(text)
    others = tuple(region for region in search.regions if region not in _AMERICAN_REGIONS)
    if others:
        yield from _national(text, others)
    yield from _bare(text, search.regions)


def _international(text: str) -> Iterator[Finding]:
    for match in _INTERNATIONAL.finditer(text):
        found = match[0]
        while len(found) > 7:  # a number that follows may have been taken in: leave out group after group
            number = "+" + found[2:] if found.startswith("00") else found
            if _can_be_dialled(number, None):
                plus = found.startswith("+")
                sure = Confidence.HIGH if plus else _sure(text, match.start(), Confidence.MEDIUM)
                yield _finding(match.start(), found, sure)
                break
            found = re.sub(r"[ ().\-/]*[0-9]+$", "", found)


def _american(text: str) -> Iterator[Finding]:
    for match in _AMERICAN.finditer(text):
        if _can_be_dialled(match[0], "US"):
            yield _finding(match.start(), match[0], _sure(text, match.start(), Confidence.MEDIUM))


def _national(text: str, regions: tuple[str, ...]) -> Iterator[Finding]:
    for match in _NATIONAL.finditer(text):
        run = match[0].rstrip(" ().-/")
        grouped = _GROUPED.match(run)
        if grouped is None or len(re.sub(r"[^0-9]", "", grouped[0])) < 8:
            continue
        found = grouped[0]
        while len(found) > 8:
            if any(_can_be_dialled(found, region) for region in regions):
                yield _finding(match.start(), found, _sure(text, match.start(), Confidence.MEDIUM))
                break
            found = re.sub(r"[ ().\-/]*[0-9]+$", "", found)


def _bare(text: str, regions: tuple[str, ...]) -> Iterator[Finding]:
    for match in _BARE.finditer(text):
        if any(_can_be_dialled(match[0], region) for region in regions):
            sure = Confidence.MEDIUM if speaks_of_phone(text, match.start()) else Confidence.LOW
            yield _finding(match.start(), match[0], sure)


def _sure(text: str, start: int, otherwise: Confidence) -> Confidence:
    if speaks_of_phone(text, start):
        return Confidence.HIGH
    return Confidence.LOW if speaks_of_other(text, start) else otherwise


def _finding(start: int, found: str, sure: Confidence) -> Finding:
    if _FICTITIOUS.fullmatch(re.sub(r"[^0-9]", "", found)):
        sure = Confidence.LOW
    return Finding(start, start + len(found), "phone", sure)


@lru_cache(maxsize=65536)
def _can_be_dialled(number: str, region: str | None) -> bool:
    import phonenumbers  # 60 ms and 12 MiB: only where a text has something like a number

    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False
