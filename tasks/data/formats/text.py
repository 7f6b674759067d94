"""A plain text to go on from; what is read this way is learned whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tasks.data.record import Message, Record, count_unheld
from tasks.data.turns import content_of, count_beside_text

if TYPE_CHECKING:
    from collections import Counter

SUMMARY = "text, without roles"
HELD: frozenset[str] = frozenset()


class Row(msgspec.Struct, forbid_unknown_fields=True):
    text: str


def recognises(keys: frozenset[str]) -> bool:
    return "text" in keys


def to_record(row: Row) -> Record:
    return Record([Message("assistant", row.text)])


def from_record(record: Record, dropped: Counter[str]) -> Row:
    if not any(message.content for message in record.messages):
        raise ValueError("messages: none has text")
    for message in record.messages:
        count_beside_text(message, dropped)
    if [message.role for message in record.messages] != ["assistant"]:
        dropped["messages[].role"] += len(record.messages)
    count_unheld(record, HELD, dropped)
    return Row("\n\n".join(content_of(message, dropped) for message in record.messages))
