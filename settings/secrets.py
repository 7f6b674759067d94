"""Secrets, and how they are taken out of what is written down."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote, unquote_plus, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

SHORTEST_KEY = 8  # characters; no vendor gives a shorter key, and one so short is part of many a word
MASK = "***"
SECRET_PARAMETERS = frozenset({"password", "passwd", "pwd", "sslpassword", "passphrase", "token", "odbc_connect"})
LONGEST_ROUTE = 20  # characters; a longer part of a path is no word of a route's, and may be a key
BEFORE_HOST = re.compile(
    r"[\w+]+://[^:/@]*:([^@]*)@"
)  # as SQLAlchemy reads a password, which may have "/" or "#" in it
ODBC_PASSWORD = re.compile(r"(?i)\bpwd=([^;]+)")


def mask(text: str, secrets: Iterable[str]) -> str:
    """The text without the secrets. One that is shorter than any key is masked only where it is a word by itself."""
    for secret in secrets:
        if len(secret) >= SHORTEST_KEY:
            text = text.replace(secret, MASK)
        elif secret:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", MASK, text)
    return text


def long_parts_of(url: str) -> list[str]:
    """The parts of a URL's path that are too long to be the words of a route."""
    return [part for part in url.partition("://")[2].split("/")[1:] if len(part) > LONGEST_ROUTE]


def passwords_of(url: str) -> set[str]:
    """The passwords of a URL, before its host and in its query, as they are written and as they are meant."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return {url}
    pairs = [pair.partition("=") for pair in url.partition("?")[2].split("&")]
    written = [value for name, _, value in pairs if name.lower() in SECRET_PARAMETERS]
    written += [password for value in written for password in ODBC_PASSWORD.findall(unquote_plus(value))]
    written += [parts.password] if parts.password else []
    written += BEFORE_HOST.findall(url)
    return {form for word in written for form in (word, unquote(word), unquote_plus(word))}
