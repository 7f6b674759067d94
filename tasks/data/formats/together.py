"""Together's chat rows: other columns than these are refused there; rows like these are read as chat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from tasks.data.record import Message, Record, Weight, count_unheld
from tasks.data.turns import Turns

if TYPE_CHECKING:
    from collections import Counter

SUMMARY = "chat as Together takes it: messages, tools, and a weight of the row"
HELD = frozenset({"tools", "weight"})
TURNS = Turns(weights=True, reasoning=True)


class Row(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    messages: list[Message]
    tools: list[dict[str, Any]] = []
    weight: Weight | None = None


def recognises(keys: frozenset[str]) -> bool:
    del keys
    return False


def to_record(row: Row) -> Record:
    return Record(row.messages, row.tools, weight=row.weight)


def from_record(record: Record, dropped: Counter[str]) -> Row:
    messages = TURNS.fit(record.messages, dropped)
    count_unheld(record, HELD, dropped)
    weight = record.weight
    if weight is not None and weight < 0:  # refused there
        dropped["weight"] += 1
        weight = None
    return Row(messages, record.tools, weight)
