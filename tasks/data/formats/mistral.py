"""Mistral's chat rows, as mistral-finetune and mistral-common take them; rows like these are read as chat."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

import msgspec

from tasks.data.calls import ID
from tasks.data.record import Message, Record, ToolCall, count_unheld
from tasks.data.turns import Turns, until_last

if TYPE_CHECKING:
    from collections import Counter

SUMMARY = "chat as Mistral takes it: one system message, tool call ids of nine characters, ends with the assistant"
HELD = frozenset({"tools"})
TURNS = Turns(weights=True)
CALL_ID = re.compile(r"[a-zA-Z0-9]{9}\Z")


class Row(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    messages: list[Message]
    tools: list[dict[str, Any]] = []


def recognises(keys: frozenset[str]) -> bool:
    del keys
    return False


def to_record(row: Row) -> Record:
    return Record(row.messages, row.tools)


def from_record(record: Record, dropped: Counter[str]) -> Row:
    messages = TURNS.fit(until_last(record.messages, dropped), dropped)
    count_unheld(record, HELD, dropped)
    messages = _one_system_message(messages, dropped)
    if any(message.name or message.tool_calls or message.role == "tool" for message in messages):
        given: dict[str, str] = {}
        messages = [_called(message, given, dropped) for message in messages]
    return Row(messages, record.tools)


def _one_system_message(messages: list[Message], dropped: Counter[str]) -> list[Message]:
    """The system's messages as one in front."""
    system = [message for message in messages if message.role == "system"]
    if len(system) < 2 and (not system or messages[0] is system[0]):
        return messages
    dropped["messages"] += len(system) - 1 or 1
    text = "\n\n".join(message.content for message in system if message.content)
    return [Message("system", text), *(message for message in messages if message.role != "system")]


def _called(message: Message, given: dict[str, str], dropped: Counter[str]) -> Message:
    """The message with ids that are valid there, without text beside calls, and named only if it is a tool's."""
    calls = [ToolCall(_id(call.id, given), call.function) for call in message.tool_calls]
    answered = message.tool_call_id
    made = Message(
        message.role,
        None if calls else message.content,
        message.name if message.role == "tool" else None,
        message.weight,
        calls,
        None if answered is None else _id(answered, given),
    )
    if calls != message.tool_calls or made.tool_call_id != answered:
        dropped[ID] += 1
    for field in ("content", "name"):
        if getattr(made, field) != getattr(message, field):
            dropped[f"messages[].{field}"] += 1
    return made


def _id(name: str, given: dict[str, str]) -> str:
    """The name itself where it is valid; else nine characters of its hash, other ones for every name of the row."""
    if name not in given:
        made, salt = name, 0
        while not CALL_ID.match(made) or made in given.values():
            made = hashlib.sha256(f"{name}{salt or ''}".encode()).hexdigest()[:9]
            salt += 1
        given[name] = made
    return given[name]
