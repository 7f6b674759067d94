"""Alpaca's rows: an instruction, perhaps with an input, and the output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tasks.data.record import Message, Record, count_unheld
from tasks.data.turns import content_of, count_beside_text, learned_text

if TYPE_CHECKING:
    from collections import Counter

SUMMARY = "instruction, input and output"
HELD = frozenset({"messages"})
ROLES_SHOWN = 5  # in what is said about a record that does not fit


class Row(msgspec.Struct, forbid_unknown_fields=True):
    instruction: str
    output: str
    input: str = ""


def recognises(keys: frozenset[str]) -> bool:
    return {"instruction", "output"} <= keys


def to_record(row: Row) -> Record:
    asked = "\n\n".join(part for part in (row.instruction, row.input) if part)
    return Record([Message("user", asked), Message("assistant", row.output)])


def from_record(record: Record, dropped: Counter[str]) -> Row:
    roles = [message.role for message in record.messages]
    if roles != ["user", "assistant"]:
        raise ValueError(
            f"messages: {', '.join(roles[:ROLES_SHOWN])}{'…' * (len(roles) > ROLES_SHOWN)} are more or other than the "
            "one user's and one assistant's message that alpaca holds; sharegpt and chatml hold them all"
        )
    asked, answer = record.messages
    output = learned_text(answer, 1)
    for message in record.messages:
        count_beside_text(message, dropped)
    count_unheld(record, HELD, dropped)
    return Row(content_of(asked, dropped), output)
