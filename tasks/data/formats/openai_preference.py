"""Preferences as OpenAI, Azure, Together and Fireworks all take them: a request, the better and the worse answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from tasks.data.record import Message, Record, count_unheld
from tasks.data.turns import Turns, until_last

if TYPE_CHECKING:
    from collections import Counter

SUMMARY = "a preference (DPO): input, preferred_output, non_preferred_output"
HELD = frozenset({"tools", "rejected", "parallel_tool_calls"})
TURNS = Turns()  # Together knows no developer


class Input(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    messages: list[Message]
    tools: list[dict[str, Any]] = []
    parallel_tool_calls: bool | None = None


class Row(msgspec.Struct, forbid_unknown_fields=True):
    input: Input
    preferred_output: list[Message]
    non_preferred_output: list[Message]


def recognises(keys: frozenset[str]) -> bool:
    return {"preferred_output", "non_preferred_output"} <= keys


def to_record(row: Row) -> Record:
    if not row.preferred_output or not row.non_preferred_output:
        empty = "non_preferred_output" if row.preferred_output else "preferred_output"
        raise ValueError(f"{empty}: is empty; a preference needs both answers")
    given = row.input
    messages = given.messages + row.preferred_output
    return Record(messages, given.tools, row.non_preferred_output, given.parallel_tool_calls)


def from_record(record: Record, dropped: Counter[str]) -> Row:
    if not record.rejected:
        raise ValueError("rejected: there is no worse answer, and a preference needs one; take another format")
    *asked, better = TURNS.fit(until_last(record.messages, dropped), dropped)
    if not asked:
        raise ValueError("messages: there is no request before the answer")
    if asked[-1].role == "assistant":
        raise ValueError("messages: two answers stand at the end, and a preference takes one a side; join them")
    worse = TURNS.fit(record.rejected, dropped)
    if len(worse) > 1:
        raise ValueError(f"rejected: holds {len(worse)} messages, and a preference takes one a side; join them")
    count_unheld(record, HELD, dropped)
    return Row(Input(asked, record.tools, record.parallel_tool_calls), [better], worse)
