"""A login in front of a URL's host. The finding is the login alone: what stands around it can stay."""

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

_LOGIN = re.compile(r"://([^\s/@:?#\"'<>\[\]]{0,100}:[^\s/?#\"'<>@]{1,200}|[^\s/@:?#\"'<>\[\]]{16,200})@(?=[\w\[])")
_DUMMY = frozenset({"user:pass", "user:password", "username:password", "user:pwd", "login:password"})


def find(text: str, search: Search) -> Iterator[Finding]:
    """Every login with a password, and every token that stands in a login's place."""
    del search
    for match in _LOGIN.finditer(text):
        login = match[1]
        low = login.lower() in _DUMMY or login.startswith((":$", "$", "{")) or ":${" in login or ":{" in login
        yield Finding(*match.span(1), "url_login", Confidence.LOW if low else Confidence.HIGH)
