"""ChatML: one text with every turn between marks, as Qwen and many others write it.

Its rows have the same key as plain text; what tells them apart is that the text begins with a mark.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast, get_args

import msgspec

from tasks.data.calls import Called, call_of, called, count_ids, link_calls
from tasks.data.record import Message, Record, Role, ToolCall, count_unheld
from tasks.data.turns import Turns, content_of

if TYPE_CHECKING:
    from collections import Counter

SUMMARY = "text with <|im_start|>role … <|im_end|> around every turn, tool calls in <tool_call>"
HELD: frozenset[str] = frozenset()
START, END = "<|im_start|>", "<|im_end|>"
MARKS = (START, END, "<tool_call>", "</tool_call>")
TURNS = Turns(names=False)
_CALLS = re.compile(r"(.*?)\n?((?:<tool_call>\n(?:(?!</?tool_call>).)*\n</tool_call>\s*)+)\Z", re.DOTALL)
_CALL = re.compile(r"<tool_call>\n(.*?)\n</tool_call>", re.DOTALL)


class Row(msgspec.Struct, forbid_unknown_fields=True):
    text: str


def recognises(keys: frozenset[str]) -> bool:
    del keys
    return False


def marks(text: str) -> bool:
    """Whether a text begins as ChatML does."""
    return text.lstrip().startswith(START)


def to_record(row: Row) -> Record:
    before, *turns = row.text.split(START)
    if before.strip():
        raise ValueError(f"text: does not begin with {START}")
    return Record(link_calls([_message(turn) for turn in turns]))


def from_record(record: Record, dropped: Counter[str]) -> Row:
    messages = TURNS.fit(record.messages, dropped)
    count_ids(messages, dropped)
    count_unheld(record, HELD, dropped)
    return Row("".join(f"{START}{message.role}\n{_body(message, dropped)}{END}\n" for message in messages))


def _message(turn: str) -> Message:
    head, _, told = turn.partition("\n")
    body, _, behind = told.partition(END)
    role = head.strip()
    if role not in get_args(Role):
        raise ValueError(f'text: the role "{role[:40]}" is not known (known: {", ".join(get_args(Role))})')
    if behind.strip():
        raise ValueError(f"text: something stands between {END} and {START}: {behind.strip()[:40]}")
    calls = _CALLS.match(body) if role == "assistant" and "<tool_call>" in body else None
    if calls is None:
        return Message(cast("Role", role), body)
    return Message("assistant", calls[1] or None, tool_calls=[_read_call(told) for told in _CALL.findall(calls[2])])


def _read_call(told: str) -> ToolCall:
    try:
        call = msgspec.json.decode(told, type=Called)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise ValueError('text: in <tool_call> belongs {"name": …, "arguments": {…}} as JSON') from None
    return call_of(call.name, call.arguments)


def _body(message: Message, dropped: Counter[str]) -> str:
    told = [msgspec.json.encode(called(call)).decode() for call in message.tool_calls]
    content = message.content or ""
    if told and message.content == "":
        dropped["messages[].content"] += 1
    if not told:
        content = content_of(message, dropped)
    for mark in MARKS:
        if any(mark in text for text in (content, *told)):
            raise ValueError(f'messages[].content: holds "{mark}", which is a mark in ChatML; leave it out')
    calls = "\n".join(f"<tool_call>\n{call}\n</tool_call>" for call in told)
    return f"{content}\n{calls}" if content and calls else content or calls
