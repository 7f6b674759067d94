"""OpenAI's chat rows: messages and tools, and nothing else at the top; rows like these are read as chat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from tasks.data.record import Message, Record, count_unheld
from tasks.data.turns import Turns

if TYPE_CHECKING:
    from collections import Counter

SUMMARY = "chat as OpenAI and Azure take it: messages, tools, parallel_tool_calls"
HELD = frozenset({"tools", "parallel_tool_calls"})
TURNS = Turns(weights=True, developer=True)


class Row(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    messages: list[Message]
    tools: list[dict[str, Any]] = []
    parallel_tool_calls: bool | None = None


def recognises(keys: frozenset[str]) -> bool:
    del keys
    return False


def to_record(row: Row) -> Record:
    return Record(row.messages, row.tools, parallel_tool_calls=row.parallel_tool_calls)


def from_record(record: Record, dropped: Counter[str]) -> Row:
    messages = TURNS.fit(record.messages, dropped)
    count_unheld(record, HELD, dropped)
    return Row(messages, record.tools, record.parallel_tool_calls)
