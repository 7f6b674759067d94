"""ShareGPT's rows: turns with from and value, and the calls of tools as turns of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from tasks.data.calls import Called, call_of, called, count_ids, link_calls
from tasks.data.record import Message, Record, Role, ToolCall, count_unheld
from tasks.data.turns import Turns, content_of

if TYPE_CHECKING:
    from collections import Counter

SUMMARY = "conversations with from (system, human, gpt, function_call, tool) and value"
HELD = frozenset({"tools"})
TURNS = Turns(weights=True, names=False)
ROLES: dict[str, Role] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}
WORDS = {"system": "system", "developer": "system", "user": "human", "assistant": "gpt", "tool": "tool"}


class Turn(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, rename={"speaker": "from"}):
    speaker: str | None = None
    value: str | None = None
    weight: float | None = None
    role: str | None = None  # some say role and content
    content: str | None = None


class Row(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    conversations: list[Turn]
    system: str = ""
    tools: str | list[dict[str, Any]] = ""


def recognises(keys: frozenset[str]) -> bool:
    return "conversations" in keys


def to_record(row: Row) -> Record:
    messages = [Message("system", row.system)] if row.system else []
    spoken = ""
    for number, turn in enumerate(row.conversations):
        before, spoken = spoken, turn.speaker or turn.role or ""
        made = _message(turn, spoken, f"conversations[{number}]")
        last = messages[-1] if messages and before in WORDS.values() else None
        if spoken == "function_call" and last and last.role == "assistant" and last.weight == made.weight:
            last.tool_calls = made.tool_calls
        else:
            messages.append(made)
    return Record(link_calls(messages), _tools(row.tools))


def from_record(record: Record, dropped: Counter[str]) -> Row:
    messages = TURNS.fit(record.messages, dropped)
    count_ids(messages, dropped)
    count_unheld(record, HELD, dropped)
    turns: list[Turn] = []
    for message in messages:
        if message.content or not message.tool_calls:
            turns.append(Turn(WORDS[message.role], content_of(message, dropped), _weight(message)))
        elif message.content is not None:
            dropped["messages[].content"] += 1
        if message.tool_calls:
            if turns and not message.content and turns[-1].speaker == "gpt" and turns[-1].weight == _weight(message):
                dropped["messages"] += 1  # it is read as one with the message before
            turns.append(Turn("function_call", _calls(message.tool_calls), _weight(message)))
    return Row(turns, tools=msgspec.json.encode(record.tools).decode() if record.tools else "")


def _message(turn: Turn, speaker: str, where: str) -> Message:
    for name, value, other in (("from", turn.speaker, turn.role), ("value", turn.value, turn.content)):
        if value is not None and other is not None and value != other:
            raise ValueError(f"{where}.{name}: is told twice, under another name as well; leave the one that is meant")
    value = turn.content if turn.value is None else turn.value
    if speaker not in ROLES:
        raise ValueError(f'{where}.from: "{speaker}" is not known (known: {", ".join(ROLES)})')
    if value is None:
        raise ValueError(f"{where}.value: is missing")
    if speaker == "function_call":
        return Message("assistant", weight=turn.weight, tool_calls=_read_calls(value, f"{where}.value"))
    return Message(ROLES[speaker], value, weight=turn.weight)


def _weight(message: Message) -> float | None:
    return message.weight if message.role == "assistant" else None


def _calls(calls: list[ToolCall]) -> str:
    told = [called(call) for call in calls]
    return msgspec.json.encode(told if len(told) > 1 else told[0]).decode()


def _read_calls(value: str, where: str) -> list[ToolCall]:
    try:
        told = msgspec.json.decode(value, type=Called | list[Called])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise ValueError(f'{where}: a call is {{"name": …, "arguments": {{…}}}} or a list of such, as JSON') from None
    return [call_of(call.name, call.arguments) for call in (told if isinstance(told, list) else [told])]


def _tools(told: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not isinstance(told, str):
        return told
    try:
        return msgspec.json.decode(told, type=list[dict[str, Any]]) if told.strip() else []
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise ValueError("tools: must be a list of tools as JSON") from None
