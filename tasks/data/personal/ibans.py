"""Bank accounts: IBANs with the length of their country and the right check digits (ISO 13616, mod 97)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tasks.data.personal.finding import Confidence, Finding
from tasks.data.personal.hints import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.personal.search import Search

TYPES = ("iban",)
NEEDS = NUMBERS

_BEGINNING = re.compile(
    r"[A-Z]{2}(?<![\w]..)[0-9]{2}[ -]?(?=[A-Z0-9]{4})|[a-z]{2}(?<![\w]..)[0-9]{2}(?=[ -]?[a-z0-9]{4})"
)
_PIECE = re.compile(r"[ -]?([A-Za-z0-9])")
_UNUSED_BANK = "00000000"  # no German bank code begins with 0

# country → characters, from the IBAN registry
LENGTHS: dict[str, int] = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FK FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV", 22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HN HU LB NI PL SV", 29: "BR EG PS QA UA", 30: "JO KW MU YE",
        31: "MT SC", 32: "LC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip


def find(text: str, search: Search) -> Iterator[Finding]:
    """Every account with right check digits, together or in groups."""
    del search
    for match in _BEGINNING.finditer(text):
        length = LENGTHS.get(match[0][:2].upper())
        end = _end(text, match.start(), length) if length else None
        if end is None:
            continue
        account = re.sub(r"[ -]", "", text[match.start() : end]).upper()
        if remainder(account) == 1:
            low = account.startswith("DE") and account[4:12] == _UNUSED_BANK
            yield Finding(match.start(), end, "iban", Confidence.LOW if low else Confidence.HIGH)


def remainder(account: str) -> int:
    """The IBAN modulo 97, its first four characters moved to the end and letters as 10 … 35; 1 where it is right."""
    return int("".join(str(int(character, 36)) for character in account[4:] + account[:4])) % 97


def _end(text: str, start: int, length: int) -> int | None:
    at = start
    for number in range(length):
        piece = _PIECE.match(text, at) if number else re.compile(r"[A-Za-z]").match(text, at)
        if piece is None or not piece[0][-1].isascii():
            return None
        at = piece.end()
    return None if at < len(text) and (text[at].isalnum() or text[at] == "_") else at
