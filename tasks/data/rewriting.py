"""Every text of a record that people wrote or can read, and the way to change it in place.

Texts that are JSON – the arguments of a tool call, most answers of tools – are gone through value by value: each string
is seen without its escapes, and what is not changed stays as it was, byte for byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from tasks.data.record import Message, Record

IDS = "scrubbed"  # the key in a record's metadata that says by which key files it was scrubbed; never looked into

Change = Callable[[str, str | None, str], str]  # field, the key that the text is the value of, text → new text


class Number(str):
    """A whole number that stood in JSON without quotes; never equal to a text with the same digits."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Number) and str.__eq__(self, other)

    __hash__ = str.__hash__


_LITERAL = re.compile(r'("(?:[^"\\]++|\\.)*+")(\s*:)?|(?<![\w.+])-?([0-9]{7,19})(?![\w.])', re.DOTALL)
_LEAST, _MOST = 10**6, 10**19  # of a number that could be somebody's


def rewrite(record: Record, change: Change) -> None:
    """Give every text of a record to `change` and put what comes back in its place."""
    for field, messages in (("messages", record.messages), ("rejected", record.rejected)):
        for number, message in enumerate(messages):
            _rewrite_message(message, f"{field}[{number}]", change)
    if record.tools:
        record.tools = _rewrite_value(record.tools, "tools", None, change)
    if record.metadata:
        ids = {key: value for key, value in record.metadata.items() if key == IDS}
        others = {key: value for key, value in record.metadata.items() if key != IDS}
        record.metadata = _rewrite_value(others, "metadata", None, change) | ids
    if record.origin is not None:
        record.origin.document = change("origin.document", None, record.origin.document)


def _rewrite_message(message: Message, field: str, change: Change) -> None:
    if message.content:
        message.content = _rewrite_text(message.content, f"{field}.content", change)
    if message.reasoning:
        message.reasoning = _rewrite_text(message.reasoning, f"{field}.reasoning", change)
    if message.name:
        message.name = change(f"{field}.name", None, message.name)
    for number, call in enumerate(message.tool_calls):
        place = f"{field}.tool_calls[{number}].function.arguments"
        call.function.arguments = _rewrite_text(call.function.arguments, place, change)


def _rewrite_text(text: str, field: str, change: Change) -> str:
    return _rewrite_json(text, field, change) if _is_json(text) else change(field, None, text)


def _rewrite_value(value: Any, field: str, key: str | None, change: Change) -> Any:
    """A value of decoded JSON; a dictionary's keys are texts as well."""
    if isinstance(value, str):
        return _plain(change(field, key, value))
    if isinstance(value, int) and not isinstance(value, bool) and _LEAST <= value < _MOST:
        return _plain(change(field, key, Number(value)))
    if isinstance(value, list):
        return [_rewrite_value(item, f"{field}[{number}]", key, change) for number, item in enumerate(value)]
    if isinstance(value, dict):
        return {
            change(field, None, name): _rewrite_value(item, f"{field}.{name}", name, change)
            for name, item in value.items()
        }
    return value


def _plain(text: str) -> str | int:
    return int(text) if isinstance(text, Number) else text


def _is_json(text: str) -> bool:
    if text[:1] not in "{[" and text.lstrip()[:1] not in ("{", "["):
        return False
    try:
        return isinstance(msgspec.json.decode(text), dict | list)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return False


def _rewrite_json(text: str, field: str, change: Change) -> str:
    key: str | None = None

    def replace(match: re.Match[str]) -> str:
        nonlocal key
        literal, colon, number = match.groups()
        if literal is None:
            new = change(field, key, Number(number))
            return match[0] if isinstance(new, Number) else match[0].replace(number, _quoted(new))
        old = json.loads(literal, strict=False)
        new = change(field, None if colon else key, old)
        if colon:
            key = old
        return match[0] if new == old else _quoted(new) + (colon or "")

    return _LITERAL.sub(replace, text)


def _quoted(text: str) -> str:
    if isinstance(text, Number):
        return str.__str__(text)
    # half a surrogate pair can be said in JSON, and not in UTF-8
    return json.dumps(text, ensure_ascii=any("\ud800" <= c <= "\udfff" for c in text))
