"""What a database says when it will not do something, in words that say what to do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from queue_app.errors import Invalid, NotFound, Permanent, Transient, TuneyardError
from queue_app.job_type import nearest
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from collections.abc import Callable

_PASSWORD = re.compile(
    r"authentication failed|no password supplied|access denied for user|ORA-01017|login failed", re.IGNORECASE
)
_ABSENT = re.compile(r'database "[^"]*" does not exist|unknown database|role "[^"]*" does not exist', re.IGNORECASE)
_WRITES = re.compile(r"read-?only|not authorized", re.IGNORECASE)
_BROKEN = re.compile(r"not a database|malformed|disk image", re.IGNORECASE)
_UNKNOWN = (
    re.compile(r"no such (?P<what>table|column): (?:\w+\.)*(?P<name>\w+)"),  # SQLite
    re.compile(r'(?P<what>relation|column) "?(?:\w+\.)*(?P<name>\w+)"? does not exist'),  # PostgreSQL
    re.compile(r"Unknown (?P<what>column) '(?:\w+\.)*(?P<name>\w+)'"),  # MySQL
    re.compile(r"(?P<what>Table) '(?:\w+\.)*(?P<name>\w+)' doesn't exist"),
)


def refused_entry(said: str, label: str) -> TuneyardError:
    """Why there is no connection."""
    if _PASSWORD.search(said):
        return Invalid(f"{label}: the database refuses the user or the password: {_first(said)}; correct the URL")
    if _ABSENT.search(said):
        return NotFound(f"{label}: {_first(said)}; correct the URL")
    if _BROKEN.search(said):
        return Permanent(f"{label} is no usable SQLite database ({_first(said)})", cause=Cause.DATA)
    return Transient(f"{label} does not answer: {_first(said)}", cause=Cause.USER)


def refused_rows(said: str, label: str, known: Callable[[str], list[str]]) -> TuneyardError:
    """Why there are no rows; `known` tells the names of tables, or of columns."""
    for pattern in _UNKNOWN:
        if found := pattern.search(said):
            what = "column" if found["what"] == "column" else "table"
            return NotFound(f'{label} has no {what} "{found["name"]}"{nearest(found["name"], known(what))}')
    if _WRITES.search(said):
        return Invalid(f"{label}: an export only reads: {_first(said)}; take what writes out of the query")
    if _BROKEN.search(said):
        return Permanent(f"{label} is no usable SQLite database ({_first(said)})", cause=Cause.DATA)
    return Invalid(f"{label} refuses the query: {_first(said)}; correct it")


def _first(said: str) -> str:
    """The first line that says something."""
    return next((line.strip() for line in said.splitlines() if line.strip()), "no reason was given")
