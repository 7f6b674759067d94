"""Nebius' chat rows: the last message is an answer in text; rows like these are read as chat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from tasks.data.record import Message, Record, count_unheld
from tasks.data.turns import Turns, until_last

if TYPE_CHECKING:
    from collections import Counter

SUMMARY = "chat as Nebius takes it: messages that end with the assistant's text, tools"
HELD = frozenset({"tools"})
TURNS = Turns()


class Row(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    messages: list[Message]
    tools: list[dict[str, Any]] = []


def recognises(keys: frozenset[str]) -> bool:
    del keys
    return False


def to_record(row: Row) -> Record:
    return Record(row.messages, row.tools)


def from_record(record: Record, dropped: Counter[str]) -> Row:
    messages = until_last(record.messages, dropped, text=True)
    count_unheld(record, HELD, dropped)
    return Row(TURNS.fit(messages, dropped), record.tools)
