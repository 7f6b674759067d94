"""What is wrong with a row, in words that say what to do."""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import get_args

import msgspec

from tasks.data.record import Role

REPAIR = "repair the line, or leave it out"
_AT = re.compile(r" - at `\$\.?(?P<field>[^`]*)`$")
_FIELD = re.compile(r"(?P<field>[A-Za-z_][\w.\[\]-]*): (?P<problem>.+)", re.DOTALL)
_QUOTED = re.compile(r"`([^`]*)`")
# texts, also one without an end, and all else that is no bracket
_BETWEEN_BRACKETS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[^"\[\]{}]++', re.DOTALL)
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_WORDS = {
    "object": "an object in braces",
    "array": "a list",
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
}


def shape(error: Exception) -> tuple[str, str, str]:
    """Field, problem and repair of a row that is JSON, but of another shape than its format's."""
    message = str(error)
    if not isinstance(error, msgspec.ValidationError):
        found = _FIELD.match(message)
        return (found["field"], found["problem"], REPAIR) if found else ("", message, REPAIR)
    at = _AT.search(message)
    field, message = (at["field"].replace("[...]", ""), message[: at.start()]) if at else ("", message)
    quoted = _QUOTED.findall(message)
    if message.startswith("Object missing required field"):
        return _below(field, quoted[0]), "is missing", "add it, or leave the row out"
    if message.startswith("Object contains unknown field"):
        return _below(field, quoted[0]), "is not known here", "take it out, or put it under metadata"
    if message.startswith("Invalid enum value"):
        known = f" (known: {', '.join(get_args(Role))})" if field.endswith("role") else ""
        return field, f"{message.removeprefix('Invalid enum value ')} is not known{known}", REPAIR
    if message.startswith("Expected") and len(quoted) == 2:
        return field, f"expected {_words(quoted[0])}, found {_words(quoted[1])}", REPAIR
    if message.startswith("Expected `float` "):
        return field, message.replace("Expected `float`", "expected a number"), REPAIR
    return field, message[:1].lower() + message[1:], REPAIR


def levels(raw: bytes) -> int:
    """How many objects and arrays of a JSON text stand in one another, where most do."""
    brackets = _BETWEEN_BRACKETS.sub(b"", raw)
    return max(accumulate(1 if sign in b"[{" else -1 for sign in brackets), default=0)


def syntax(raw: bytes, error: Exception) -> tuple[str, str, str]:
    """Rule, problem and repair of a row that is no JSON."""
    if isinstance(error, UnicodeDecodeError):
        return "encoding", not_utf8(raw), "save the file as UTF-8"
    if isinstance(error, RecursionError):
        return "json", "nested too deeply to be an example", "leave it out"
    if b"\0" in raw:
        byte = raw.index(b"\0") + 1
        return "nul", f"byte {byte} is NUL, which no text holds", "take it out, or save the file as UTF-8"
    try:
        json.loads(raw)
    except json.JSONDecodeError as first:
        return "json", f"not JSON: {first.msg} at column {first.colno}", REPAIR
    except UnicodeDecodeError:
        return "encoding", not_utf8(raw), "save the file as UTF-8"
    except (ValueError, RecursionError):
        return "json", f"not JSON: {error}", REPAIR
    if found := _HALF.search(raw):
        escape = found[0].decode() + raw[found.end() : found.end() + 2].decode("ascii", "replace")
        problem = f"{escape} or another such escape is half a character (a lone surrogate)"
        return "surrogate", problem, "write the whole pair, or U+FFFD in its place"
    return "json", "NaN and Infinity are not JSON", "write null or a number"


def not_utf8(raw: bytes) -> str:
    """Where a row is not UTF-8, counted from its own first byte."""
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return f"byte {error.start + 1} (0x{raw[error.start]:02x}) is not UTF-8"
    return "an escape in it is no character"


def _below(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name


def _words(kinds: str) -> str:
    return " or ".join(_WORDS.get(kind, kind) for kind in kinds.split(" | "))
