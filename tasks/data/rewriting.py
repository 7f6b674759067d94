"""Every text of a record, whoever wrote it, and the way to change it in place."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tasks.data.json_text import Number, is_json, number_of, rewrite_json

if TYPE_CHECKING:
    from tasks.data.record import Message, Record

IDS = "scrubbed"  # the key in a record's metadata under which stands by which key files it was scrubbed
ID = re.compile(r"s[0-9a-f]{24}")  # what stands there; nothing else is passed over

Change = Callable[[str, str | None, str], str]  # field, the key that the text is the value of, text → new text

_IDS_FIELD = f"metadata.{IDS}["


def rewrite(record: Record, change: Change) -> None:
    """Give every text of a record to `change` and put what comes back in its place."""
    for field, messages in (("messages", record.messages), ("rejected", record.rejected)):
        for number, message in enumerate(messages):
            _rewrite_message(message, f"{field}[{number}]", change)
    if record.tools:
        record.tools = rewrite_value(record.tools, "tools", None, change)
    if record.source_agent:
        record.source_agent = change("source_agent", None, record.source_agent)
    if record.target_agent:
        record.target_agent = change("target_agent", None, record.target_agent)
    if record.category:
        record.category = change("category", None, record.category)
    if record.difficulty:
        record.difficulty = change("difficulty", None, record.difficulty)
    if record.metadata:
        record.metadata = rewrite_value(record.metadata, "metadata", None, change)
    if record.origin is not None:
        record.origin.document = change("origin.document", None, record.origin.document)


def rewrite_value(value: Any, field: str, key: str | None, change: Change) -> Any:
    """A value of decoded JSON, all the way down; a dictionary's keys are texts as well."""
    if isinstance(value, str):
        if field.startswith(_IDS_FIELD) and ID.fullmatch(value):
            return value
        return _plain(_rewrite_text(value, field, key, change))
    if isinstance(value, int | float):
        number = number_of(value)
        return value if number is None else _plain(change(field, key, number))
    if isinstance(value, list):
        return [rewrite_value(item, f"{field}[{number}]", key, change) for number, item in enumerate(value)]
    if isinstance(value, dict):
        return {
            change(field, None, name): rewrite_value(item, f"{field}.{name}" if field else name, name, change)
            for name, item in value.items()
        }
    return value


def _rewrite_message(message: Message, field: str, change: Change) -> None:
    if message.content:
        message.content = _rewrite_text(message.content, f"{field}.content", None, change)
    if message.reasoning:
        message.reasoning = _rewrite_text(message.reasoning, f"{field}.reasoning", None, change)
    if message.name:
        message.name = change(f"{field}.name", None, message.name)
    if message.tool_call_id:
        message.tool_call_id = change(f"{field}.tool_call_id", None, message.tool_call_id)
    for number, call in enumerate(message.tool_calls):
        place, function = f"{field}.tool_calls[{number}]", call.function
        call.id = change(f"{place}.id", None, call.id)
        function.name = change(f"{place}.function.name", None, function.name)
        function.arguments = _rewrite_text(function.arguments, f"{place}.function.arguments", None, change)


def _rewrite_text(text: str, field: str, key: str | None, change: Change) -> str:
    if is_json(text):
        return rewrite_json(text, lambda inner, value: change(field, inner, value))
    return change(field, key, text)


def _plain(text: str) -> str | int | float:
    return text.value if isinstance(text, Number) else text
