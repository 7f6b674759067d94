"""Tool calls in formats that tell them by name and arguments alone, without ids."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import msgspec

from tasks.data.record import Function, Message, ToolCall

ID = "messages[].tool_calls[].id"
ARGUMENTS = "messages[].tool_calls[].function.arguments"


class Called(msgspec.Struct, forbid_unknown_fields=True):
    """A call as JSON in a text: `{"name": …, "arguments": {…}}`."""

    name: str
    arguments: dict[str, Any] = {}


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """The arguments as an object.

    Raises:
        ValueError: they are none, or a key stands in them twice
    """
    told = call.function.arguments
    try:
        found = msgspec.json.decode(told, type=dict[str, Any])
        json.loads(told, object_pairs_hook=_once)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise ValueError(f"{ARGUMENTS}: {call.function.name} is called with what is no JSON object") from None
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs as an object.

    Raises:
        ValueError: two have the same key, and only one of them would be kept
    """
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f'{ARGUMENTS}: the key "{twice}" stands there twice; keep the one that is meant')
    return made


def called(call: ToolCall) -> Called:
    """The call without its id."""
    return Called(call.function.name, arguments_of(call))


def call_of(name: str, arguments: dict[str, Any]) -> ToolCall:
    """A call that has no id yet; `link_calls` gives it one."""
    return ToolCall("", Function(name, msgspec.json.encode(arguments).decode()))


def link_calls(messages: list[Message]) -> list[Message]:
    """The messages with ids `call_1`, `call_2` … for calls without one, and tool answers that refer to them.

    An answer without an id belongs to the first open call of the tool that it names, or else to the first open one.
    """
    number = 0
    open_calls: list[ToolCall] = []
    for message in messages:
        for call in message.tool_calls:
            number += 1
            call.id = call.id or f"call_{number}"
            open_calls.append(call)
        if message.role == "tool" and message.tool_call_id is None and open_calls:
            named = [call for call in open_calls if call.function.name == message.name]
            message.tool_call_id = (named or open_calls)[0].id
        if message.role == "tool":
            open_calls = [call for call in open_calls if call.id != message.tool_call_id]
    return messages


def count_ids(messages: list[Message], dropped: Counter[str]) -> None:
    """Count the messages whose ids `link_calls` would not find again."""
    if not any(message.tool_calls or message.role == "tool" for message in messages):
        return
    blank = [
        Message(
            message.role, name=message.name, tool_calls=[ToolCall("", call.function) for call in message.tool_calls]
        )
        for message in messages
    ]
    lost = sum(
        again.tool_call_id != message.tool_call_id
        or [call.id for call in again.tool_calls] != [call.id for call in message.tool_calls]
        for again, message in zip(link_calls(blank), messages, strict=True)
    )
    if lost:
        dropped[ID] += lost
