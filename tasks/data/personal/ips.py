"""Addresses of computers, version 4 and 6, as `ipaddress` reads them."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address, IPv6Network
from typing import TYPE_CHECKING

from tasks.data.personal.context import speaks_of_other, speaks_of_version
from tasks.data.personal.finding import Confidence, Finding
from tasks.data.personal.hints import COLONS, NUMBERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.personal.search import Search

TYPES = ("ip",)
NEEDS = NUMBERS | COLONS

_FOUR = re.compile(r"[0-9](?<![\w.\-].)[0-9]{0,2}\.(?:[0-9]{1,3}\.){2}[0-9]{1,3}(?![\w\-]|\.[\w])")
_HINT = re.compile(r":[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]")
_SIX = re.compile(
    r"(?<![\w:.])(?=[0-9A-Fa-f:]{0,4}:)[0-9A-Fa-f:]{4,39}+(?:(?<=:)(?:[0-9]{1,3}\.){3}[0-9]{1,3})?(?![\w:])"
)
_GIVEN_OUT = IPv6Network("2000::/3")  # all that IANA has allocated to the internet


def find(text: str, search: Search) -> Iterator[Finding]:
    """Every address; private, reserved and documentation ranges and what may be a version number are LOW."""
    del search
    for match in _FOUR.finditer(text):
        try:
            four = IPv4Address(match[0])
        except AddressValueError:
            continue
        if speaks_of_version(text, match.start()) and not text.endswith("//", 0, match.start()):
            continue
        small = all(len(part) == 1 for part in match[0].split("."))  # a heading, or somebody's public name server
        low = small or not four.is_global or four.is_multicast or speaks_of_other(text, match.start())
        yield Finding(match.start(), match.end(), "ip", Confidence.LOW if low else Confidence.HIGH)
    if _HINT.search(text):
        yield from _find_six(text)


def _find_six(text: str) -> Iterator[Finding]:
    for match in _SIX.finditer(text):
        written = match[0] if match[0].endswith("::") else match[0].rstrip(":")
        try:
            six = IPv6Address(written)
        except AddressValueError:
            continue
        if not any(character.isdigit() for character in written):
            continue  # `a::b` in a program
        low = six not in _GIVEN_OUT or not six.is_global
        end = match.start() + len(written)
        yield Finding(match.start(), end, "ip", Confidence.LOW if low else Confidence.HIGH)
