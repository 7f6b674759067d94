"""A prompt and its completion as two texts; question and answer, or query and response, are read as the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tasks.data.record import Message, Record, Role, count_unheld
from tasks.data.turns import content_of, count_beside_text, until_last

if TYPE_CHECKING:
    from collections import Counter

SUMMARY = "prompt and completion; also read: question and answer, query and response"
HELD: frozenset[str] = frozenset()
PAIRS = (("prompt", "completion"), ("question", "answer"), ("query", "response"))
Side = str | list[Message] | None


class Row(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    prompt: Side = None
    completion: Side = None
    question: Side = None
    answer: Side = None
    query: Side = None
    response: Side = None


def recognises(keys: frozenset[str]) -> bool:
    return any(keys.issuperset(pair) for pair in PAIRS)


def to_record(row: Row) -> Record:
    for asked, answered in ((row.prompt, row.completion), (row.question, row.answer), (row.query, row.response)):
        if asked is not None and answered is not None:
            return Record(_messages(asked, "user") + _messages(answered, "assistant"))
    known = ", or ".join(f"{asked} and {answered}" for asked, answered in PAIRS)
    raise ValueError(f"expected {known}")


def from_record(record: Record, dropped: Counter[str]) -> Row:
    messages = until_last(record.messages, dropped, text=True)
    *asked, answer = messages
    if [message.role for message in asked] != ["user"]:
        dropped["messages[].role"] += len(asked) or 1
    for message in messages:
        count_beside_text(message, dropped)
        content_of(message, dropped)
    count_unheld(record, HELD, dropped)
    return Row("\n\n".join(message.content for message in asked if message.content), answer.content)


def _messages(side: str | list[Message], role: Role) -> list[Message]:
    return [Message(role, side)] if isinstance(side, str) else side
