"""Texts that are JSON – arguments of tool calls, answers of tools – changed value by value.

Each string is seen without its escapes. What is not changed stays as it was, byte for byte, and so do the escapes of
what stands beside a change.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from itertools import chain

import msgspec

Change = Callable[[str | None, str], str]  # the key that the text is the value of, text → new text

_LITERAL = re.compile(
    r'("(?:[^"\\]++|\\.)*+")(\s*:)?'
    r"|(?<![\w.+\-])-?(?:[0-9]{7,19}(?:\.0{1,9})?|[0-9]\.[0-9]{6,18}[eE]\+?[0-9]{1,2})(?![\w.])",
    re.DOTALL,
)
_UNIT = re.compile(r"\\u[dD][89abAB][0-9A-Fa-f]{2}\\u[dD][c-fC-F][0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\.|.", re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
_LEAST, _MOST = 10**6, 10**19  # of a number that could be somebody's


class Number(str):
    """The digits of a whole number that stood in JSON without quotes; never equal to a text with the same digits."""

    literal: str  # as it stood there: with a sign, as 12.0 or as 1.2e1

    def __new__(cls, literal: str) -> Number:
        made = super().__new__(cls, str(abs(int(Decimal(literal)))))
        made.literal = literal
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Number) and self.literal == other.literal

    __hash__ = str.__hash__

    @property
    def value(self) -> int | float:
        return int(self.literal) if self.literal.lstrip("-").isdigit() else float(self.literal)


class Spelled(str):
    """A text that stood in JSON with escapes that are not the usual ones; it is equal to the same text without."""

    units: tuple[str, ...]  # for each character, how it stood there

    def __new__(cls, text: str, units: Iterable[str]) -> Spelled:
        made = super().__new__(cls, text)
        made.units = tuple(units)
        return made


def number_of(value: float) -> Number | None:
    """A number of decoded JSON as the digits that somebody may have written, where it is whole and long enough."""
    return _number_in(repr(value)) if _LEAST <= abs(value) < _MOST else None


def is_json(text: str) -> bool:
    """Whether a text is a list or an object in JSON."""
    if text[:1] not in "{[" and text.lstrip()[:1] not in ("{", "["):
        return False
    try:
        return isinstance(msgspec.json.decode(text), dict | list)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return False


def rewrite_json(text: str, change: Change) -> str:
    """Give every key, string and long number of a JSON text to `change` and put what comes back in its place."""
    key: str | None = None

    def replace(match: re.Match[str]) -> str:
        nonlocal key
        literal, colon = match.groups()
        if literal is None:
            number = _number_in(match[0])
            return match[0] if number is None or (new := change(key, number)) == number else write_literal(new)
        old = read_literal(literal)
        new = change(None if colon else key, old)
        if colon:
            key = old
        return match[0] if new == old else write_literal(new) + (colon or "")

    return _LITERAL.sub(replace, text)


def read_literal(literal: str) -> str:
    """The text of a JSON string; it remembers its escapes where they are not the usual ones."""
    text: str = json.loads(literal, strict=False)
    if "\\" not in literal or write_literal(text) == literal:
        return text
    return Spelled(text, _UNIT.findall(literal[1:-1]))


def write_literal(text: str) -> str:
    """A text as a JSON string, or as the number that it is; only what must be escaped is, unless it says otherwise."""
    if isinstance(text, Number):
        return text.literal
    if isinstance(text, Spelled) or _SURROGATE.search(text):
        return f'"{"".join(_units(text))}"'
    return json.dumps(text, ensure_ascii=False)


def cut(text: str, start: int, end: int) -> str:
    """A part of a text, with its escapes; of a number always all of it."""
    if isinstance(text, Number):
        return text
    part = text[start:end]
    if isinstance(text, Spelled) and text.units[start:end] != tuple(_units(part)):
        return Spelled(part, text.units[start:end])
    return part


def splice(text: str, changes: Iterable[tuple[int, int, str]]) -> str:
    """A text with others in place of its spans, which come in their order; what lies between keeps its escapes."""
    parts, at = [], 0
    for start, end, new in changes:
        if isinstance(text, Number) or (start, end) == (0, len(text)):
            return new
        parts += [cut(text, at, start), new]
        at = end
    parts.append(cut(text, at, len(text)))
    if any(isinstance(part, Spelled) for part in parts):
        return Spelled("".join(parts), chain.from_iterable(map(_units, parts)))
    return "".join(parts)


def _number_in(literal: str) -> Number | None:
    exact = Decimal(literal)
    return Number(literal) if _LEAST <= abs(exact) < _MOST and exact % 1 == 0 else None


def _units(text: str) -> Iterable[str]:
    """For each character, how it stands in JSON."""
    if isinstance(text, Spelled):
        return text.units
    # half a surrogate pair can be said in JSON, and not in UTF-8
    return [
        each if each.isalnum() else json.dumps(each, ensure_ascii=_SURROGATE.match(each) is not None)[1:-1]
        for each in text
    ]
