"""A login in front of a URL's host, or beside it. The finding is the login alone: what stands around it can stay."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tasks.data.personal.finding import Confidence, Finding
from tasks.data.personal.hints import URL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.personal.search import Search

TYPES = ("url_login",)
NEEDS = URL

# a password may have an at sign in it, though it should not
_LOGIN = re.compile(
    r"://([^\s/@:?#\"'<>\[\]]{0,100}:[^\s/?#\"'<>@]{1,200}(?:@[^\s/?#\"'<>@,;]{1,100}){0,2}"
    r"|[^\s/@:?#\"'<>\[\]]{16,200})@(?=[\w\[])"
)
# nor a slash; where no path can hold an at sign it is taken for one all the same
_SLASHED = re.compile(
    r"(?:amqps?|postgres(?:ql)?|mysql|mariadb|mongodb|rediss?|smtps?|ldaps?|imaps?)(?:\+\w{1,20})?://"
    r"([^\s/@:?#\"'<>\[\]]{0,100}:(?![0-9]{1,5}/)[^\s\"'<>@]{0,100}/[^\s\"'<>@]{0,100})@(?=[\w\[])"
)
_CURL = re.compile(r"\bcurl\s(?:[^\n]{0,200}\s)?(?:-u|--user)[ =]?[\"']?([^\s:\"'@\[\]]{1,64}:[^\s\"'\[\]]{3,100})")
_DUMMY = frozenset({"user:pass", "user:password", "username:password", "user:pwd", "login:password"})


def find(text: str, search: Search) -> Iterator[Finding]:
    """Every login with a password, and every token that stands in a login's place."""
    del search
    for pattern in (_LOGIN, _SLASHED, _CURL):
        for match in pattern.finditer(text):
            login = match[1]
            low = login.lower() in _DUMMY or login.startswith((":$", "$", "{")) or ":${" in login or ":{" in login
            yield Finding(*match.span(1), "url_login", Confidence.LOW if low else Confidence.HIGH)
