"""Weighted rows as Unsloth and TRL train on them: every row says what it counts; they are read as chat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tasks.data.record import Message, Record, Weight, count_unheld
from tasks.data.turns import Turns

if TYPE_CHECKING:
    from collections import Counter

SUMMARY = "messages, and in every row a weight"
HELD = frozenset({"weight"})
TURNS = Turns(developer=True)


class Row(msgspec.Struct, forbid_unknown_fields=True):
    messages: list[Message]
    weight: Weight = 1.0


def recognises(keys: frozenset[str]) -> bool:
    del keys
    return False


def to_record(row: Row) -> Record:
    return Record(row.messages, weight=row.weight)


def from_record(record: Record, dropped: Counter[str]) -> Row:
    messages = TURNS.fit(record.messages, dropped)
    count_unheld(record, HELD, dropped)
    return Row(messages, 1.0 if record.weight is None else record.weight)
