"""Payment cards: an issuer's range and length (ISO/IEC 7812), and the Luhn check digit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tasks.data.personal.context import speaks_of_card
from tasks.data.personal.finding import Confidence, Finding
from tasks.data.personal.hints import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.personal.search import Search

TYPES = ("card",)
NEEDS = NUMBERS

_DIGITS = re.compile(
    r"[2-6](?<![\w.+\-/].)[0-9]{3}"
    r"(?:([ .\-]?)[0-9]{4}\1[0-9]{4}\1[0-9]{1,7}|([ .\-]?)[0-9]{6}\2[0-9]{4,5}"
    r"|[ .\-]?[0-9]{4}[ .\-]?[0-9]{4}[ .\-]?[0-9]{4})(?![\w\-]|\.[0-9])"
)
_ISSUERS: tuple[tuple[re.Pattern[str], frozenset[int]], ...] = (
    (re.compile("4"), frozenset({13, 16, 19})),  # Visa
    (re.compile("5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), frozenset({16})),  # Mastercard
    (re.compile("3[47]"), frozenset({15})),  # American Express
    (re.compile("30[0-5]|309|36|3[89]"), frozenset({14, 16, 19})),  # Diners Club
    (re.compile("6011|64[4-9]|65"), frozenset({16, 19})),  # Discover
    (re.compile("35(?:2[89]|[3-8])"), frozenset({16, 17, 18, 19})),  # JCB
    (re.compile("62|81"), frozenset({16, 17, 18, 19})),  # UnionPay
    (re.compile("50|5[6-8]|6(?:304|759|76[1-3])"), frozenset({13, 15, 16, 18, 19})),  # Maestro
)
# What payment providers publish for tests: no account stands behind these.
_TEST = re.compile(
    "400000|4242424242424242|4111111111111111|4012888888881881|5555555555554444|5105105105105100|"
    "378282246310005|371449635398431|6011111111111117|6011000990139424|3530111333300000|30569309025904|38520000023237"
)


def find(text: str, search: Search) -> Iterator[Finding]:
    """Every number that an issuer can have given out; the published test numbers are LOW."""
    del search
    for match in _DIGITS.finditer(text):
        digits = re.sub(r"[ .\-]", "", match[0])
        if len(set(digits)) > 1 and _is_issued(digits) and luhn_digit(digits[:-1]) == digits[-1]:
            yield Finding(match.start(), match.end(), "card", _sure(text, match.start(), match[0], digits))


def luhn_digit(payload: str) -> str:
    """The check digit that belongs behind these digits."""
    doubled = (sum(divmod(int(digit) * 2, 10)) for digit in payload[::-2])
    return str(-(sum(doubled) + sum(map(int, payload[-2::-2]))) % 10)


def _is_issued(digits: str) -> bool:
    return any(len(digits) in lengths and issuer.match(digits) for issuer, lengths in _ISSUERS)


def _sure(text: str, start: int, written: str, digits: str) -> Confidence:
    if _TEST.match(digits):
        return Confidence.LOW
    grouped = len(written) > len(digits)
    return Confidence.HIGH if grouped or speaks_of_card(text, start) else Confidence.MEDIUM
