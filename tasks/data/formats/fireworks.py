"""Fireworks' chat rows: OpenAI's, with the reasoning before an answer; rows like these are read as chat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from tasks.data.record import Message, Record, Role, ToolCall, Weight, count_unheld
from tasks.data.turns import Turns

if TYPE_CHECKING:
    from collections import Counter

SUMMARY = "chat as Fireworks takes it: messages with reasoning_content, tools"
HELD = frozenset({"tools"})
TURNS = Turns(weights=True, reasoning=True)


class Turn(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    role: Role
    content: str | None = None
    name: str | None = None
    weight: Weight | None = None
    tool_calls: list[ToolCall] = []
    tool_call_id: str | None = None
    reasoning_content: str | None = None


class Row(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    messages: list[Turn]
    tools: list[dict[str, Any]] = []


def recognises(keys: frozenset[str]) -> bool:
    del keys
    return False


def to_record(row: Row) -> Record:
    return Record([Message(*msgspec.structs.astuple(turn)) for turn in row.messages], row.tools)


def from_record(record: Record, dropped: Counter[str]) -> Row:
    messages = TURNS.fit(record.messages, dropped)
    count_unheld(record, HELD, dropped)
    return Row([Turn(*msgspec.structs.astuple(message)) for message in messages], record.tools)
