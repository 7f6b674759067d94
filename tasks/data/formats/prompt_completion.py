"""A prompt and its completion as two texts; question and answer, or query and response, are read as the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from tasks.data.record import Message, Record, Role, Weight, count_unheld
from tasks.data.turns import content_of, count_beside_text, learned_text, until_last

if TYPE_CHECKING:
    from collections import Counter

SUMMARY = "prompt and completion; also read: question and answer, query and response"
HELD = frozenset({"weight"})
PAIRS = (("prompt", "completion"), ("question", "answer"), ("query", "response"))
_NOTHING = (msgspec.UNSET, msgspec.UNSET)
Side = str | list[Message] | msgspec.UnsetType


class Row(msgspec.Struct, forbid_unknown_fields=True):
    prompt: Side = msgspec.UNSET
    completion: Side = msgspec.UNSET
    question: Side = msgspec.UNSET
    answer: Side = msgspec.UNSET
    query: Side = msgspec.UNSET
    response: Side = msgspec.UNSET
    weight: Weight | None = None


class Written(msgspec.Struct, omit_defaults=True):
    prompt: str
    completion: str
    weight: Weight | None = None


def recognises(keys: frozenset[str]) -> bool:
    return any(keys.issuperset(pair) for pair in PAIRS)


def fields_read(row: dict[str, Any]) -> set[str]:
    """The first pair that is there, rather one with a text than an empty one."""
    pairs = [pair for pair in PAIRS if row.keys() >= set(pair)]
    chosen = next((pair for pair in pairs if row[pair[1]]), pairs[0] if pairs else ())
    return {*chosen, "weight"}


def to_record(row: Row) -> Record:
    sides = (row.prompt, row.completion), (row.question, row.answer), (row.query, row.response)
    told = [pair for pair in sides if pair != _NOTHING]
    asked, answered = told[0] if len(told) == 1 else _NOTHING
    if isinstance(asked, msgspec.UnsetType) or isinstance(answered, msgspec.UnsetType):
        raise ValueError("expected " + ", or ".join(f"{asked} and {answered}" for asked, answered in PAIRS))
    return Record(_messages(asked, "user") + _messages(answered, "assistant"), weight=row.weight)


def from_record(record: Record, dropped: Counter[str]) -> Written:
    messages = until_last(record.messages, dropped, text=True)
    *asked, answer = messages
    completion = learned_text(answer, len(asked))
    if [message.role for message in asked] != ["user"]:
        dropped["messages[].role"] += len(asked) or 1
    for message in messages:
        count_beside_text(message, dropped)
        content_of(message, dropped)
    count_unheld(record, HELD, dropped)
    prompt = "\n\n".join(message.content for message in asked if message.content)
    return Written(prompt, completion, record.weight)


def _messages(side: str | list[Message], role: Role) -> list[Message]:
    return [Message(role, side)] if isinstance(side, str) else side
