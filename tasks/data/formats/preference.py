"""Preferences as TRL and most published data sets have them: a prompt, the chosen and the rejected answer.

Each is a text or a list of messages. Where the prompt is missing, or stands in both answers as well, the messages that
these begin with alike are the request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from tasks.data.formats import openai_preference
from tasks.data.record import Message, Record

if TYPE_CHECKING:
    from collections import Counter

    from tasks.data.record import Role

SUMMARY = "a preference (DPO) as TRL takes it: prompt, chosen, rejected, tools"
Side = str | list[Message]


class Row(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    chosen: Side
    rejected: Side
    prompt: Side | msgspec.UnsetType = msgspec.UNSET
    tools: list[dict[str, Any]] = []


def recognises(keys: frozenset[str]) -> bool:
    return {"chosen", "rejected"} <= keys


def to_record(row: Row) -> Record:
    chosen, rejected = _messages(row.chosen, "assistant"), _messages(row.rejected, "assistant")
    asked = [] if row.prompt is msgspec.UNSET else _messages(row.prompt, "user")
    shared = _alike(chosen, rejected)
    if any(message.role == "user" for message in shared):
        if asked and not _within(asked, shared):
            raise ValueError("prompt: is another one than chosen and rejected begin with; leave the one that is meant")
        asked, chosen, rejected = shared, chosen[len(shared) :], rejected[len(shared) :]
    for name, side in (("prompt", asked), ("chosen", chosen), ("rejected", rejected)):
        if not side:
            raise ValueError(f"{name}: there is nothing in it but what the others have; a preference needs all three")
    return Record(asked + chosen, row.tools, rejected)


def from_record(record: Record, dropped: Counter[str]) -> Row:
    made = openai_preference.from_record(record, dropped)
    if made.input.parallel_tool_calls is not None:
        dropped["parallel_tool_calls"] += 1
    return Row(made.preferred_output, made.non_preferred_output, made.input.messages, made.input.tools)


def _messages(side: Side, role: Role) -> list[Message]:
    return [Message(role, side)] if isinstance(side, str) else side


def _alike(chosen: list[Message], rejected: list[Message]) -> list[Message]:
    """The messages that both begin with, without a last answer that happens to be the same."""
    count = next(
        (n for n, (one, other) in enumerate(zip(chosen, rejected, strict=False)) if one != other),
        min(len(chosen), len(rejected)),
    )
    while count and chosen[count - 1].role == "assistant":
        count -= 1
    return chosen[:count]


def _within(asked: list[Message], shared: list[Message]) -> bool:
    return asked == shared or (len(asked) == 1 and asked[0] in shared)
