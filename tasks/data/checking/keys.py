"""Rules about keys: those that a target does not know are what it refuses a whole file for.

A repair leaves out what only describes an example and what is null, and brings keys of old or of another spelling under
the name that the target knows. What may be learned – a reasoning, a refusal, a weight of 0 – is left for people to see.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from tasks.data.checking.finding import Problem, Rule, Turns
from tasks.data.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.checking.target import Kind, Target

_INPUT = frozenset({"messages", "tools", "parallel_tool_calls"})
_CALL = frozenset({"id", "type", "function"})
_CALLED = frozenset({"name", "arguments"})
_BY_KEY: tuple[tuple[str, Kind], ...] = (
    ("messages", "chat"),
    ("input", "preference"),
    ("preferred_output", "preference"),
    ("non_preferred_output", "preference"),
    ("contents", "contents"),
    ("prompt", "completion"),
    ("completion", "completion"),
    ("text", "text"),
    ("token_ids", "tokens"),
)
# what is said of an example or a message, and what no trainer learns
DESCRIBING = frozenset({"source_agent", "target_agent", "cross_agent_weight", "category", "difficulty", "origin"}) | {
    "metadata",
    "id",
    "index",
    "source",
    "split",
    "tags",
    "language",
    "created_at",
    "timestamp",
}
LONG = frozenset({"tools", "available_tools", "functions", "function_call", "rejected"})  # those rules look into
_RENAMED = {
    "available_tools": "tools",
    "system_instruction": "systemInstruction",
    "tool_config": "toolConfig",
    "generation_config": "generationConfig",
    "reasoning": "reasoning_content",
    "reasoning_content": "reasoning",
}


def kind_of(row: dict[str, Any]) -> Kind | None:
    """What kind of row this is, by its keys."""
    for key, kind in _BY_KEY:
        if key in row:
            return kind
    return None


def known_keys(row: dict[str, Any], target: Target) -> frozenset[str]:
    """The top-level keys that a target takes in a row of this kind."""
    kind = kind_of(row)
    return target.kinds.get(kind, frozenset()) if kind else frozenset()


def harmless_unknown(key: str, value: Any) -> bool:
    """Whether nothing that is learned goes with an unknown key: it describes, is null, or says what holds anyhow."""
    return value is None or key in DESCRIBING or (key == "weight" and type(value) in (int, float) and value == 1)


def leave_out_harmless(there: dict[str, Any], known: frozenset[str]) -> None:
    """Take the unknown keys out that nothing goes with."""
    for key in [key for key, value in there.items() if key not in known and harmless_unknown(key, value)]:
        del there[key]


class Stray(NamedTuple):
    """A key where a target does not know it; `where` is the path of what it stands in."""

    where: str
    key: str
    value: Any


def unknown_problem(stray: Stray, told: str, known: frozenset[str], *, fixable: bool = False) -> Problem:
    """An unknown key; `told` is what is said of it, with {} in its place."""
    shown = _shown(stray.key)
    text, repair = told.format(f'key "{shown}"'), _leave_out(known, fixable)
    field = f"{stray.where}.{shown}" if stray.where else shown
    return Problem(field, text, repair, fixable, drops=fixable and stray.value is not None)


@lru_cache(10_000)
def _shown(key: str) -> str:
    return quoted(key)


@lru_cache(1000)
def _leave_out(known: frozenset[str], surely: bool) -> str:
    sure = "" if surely else ", if it need not be learned"
    return f"leave it out{sure} (known: {', '.join(sorted(known))})"


def _unknown(turns: Turns, target: Target) -> Iterator[Problem]:
    known = known_keys(turns.row, target)
    for key, value in turns.row.items():
        if key not in known:
            yield _unknown_on_top(turns.row, key, value, target)
    if turns.prefix:
        for key, value in turns.beside.items():
            if key not in _INPUT:
                told = f"{target.name} knows no {{}} here"
                stray = Stray("input", key, value)
                yield unknown_problem(stray, told, _INPUT, fixable=harmless_unknown(key, value))


def _unknown_on_top(row: dict[str, Any], key: str, value: Any, target: Target) -> Problem:
    known = known_keys(row, target)
    if (new := _new_name(row, key, known)) is not None:
        return Problem(key, f'{target.name} knows no key "{key}" here', f'write it as "{new}"', fixable=True)
    weight_counts = key == "weight" and not _weight_may_go(value, target)
    if weight_counts and type(value) in (int, float) and value == 0:
        repair = "leave the example out: without its weight it would be learned"
        return Problem(key, f'{target.name} knows no key "{key}" here', repair)
    fixable = (harmless_unknown(key, value) or key == "weight") and not weight_counts
    told = f"{target.name} knows no {{}} here"
    return unknown_problem(Stray("", key, value), told, known, fixable=fixable or _is_default_call(row, key))


def _weight_may_go(value: Any, target: Target) -> bool:
    """Where no place is for an example's weight it goes; where it may be heeded, only one that says nothing."""
    if value is None or value == 1:
        return True
    refused = target.heeds("unknown-key", "blocking") == "blocking"
    return refused and type(value) in (int, float) and value > 0


def _is_default_call(row: dict[str, Any], key: str) -> bool:
    """Whether `function_call` says what it is by default, which is a wish for an answer that is given here."""
    return key == "function_call" and row[key] == "auto"


def _new_name(there: dict[str, Any], key: str, known: frozenset[str]) -> str | None:
    """The name under which the target knows what a key holds, if that name is free."""
    value = there.get(key)
    if key == "functions":
        new = "tools" if isinstance(value, list) else None
    elif key == "function_call":
        new = "tool_calls" if isinstance(value, dict) else None
    else:
        new = _RENAMED.get(key)
    return new if new in known and new not in there and value is not None else None


def _mend_top(turns: Turns, target: Target) -> None:
    row = turns.row
    known = known_keys(row, target)
    for key in [key for key in row if key not in known and _unknown_on_top(row, key, row[key], target).fixable]:
        new = _new_name(row, key, known)
        value = row.pop(key)
        if new is not None:
            row[new] = [{"type": "function", "function": one} for one in value] if key == "functions" else value
    if turns.prefix:
        leave_out_harmless(turns.beside, _INPUT)


def _unknown_in_message(turns: Turns, target: Target) -> Iterator[Problem]:
    for index, message in enumerate(turns.messages):
        if not message.keys() <= target.message_keys:
            yield from _unknown_in_one(turns.at(index), message, target)
        for number, call in enumerate(_listed(message.get("tool_calls"))):
            where = turns.at(index, f"tool_calls[{number}]")
            yield from _unknown_in_call(where, call, _CALL)
            if isinstance(call, dict):
                yield from _unknown_in_call(f"{where}.function", call.get("function"), _CALLED)


def _unknown_in_one(where: str, message: dict[str, Any], target: Target) -> Iterator[Problem]:
    known = target.message_keys
    for key, value in message.items():
        if key in known:
            continue
        if (new := _new_name(message, key, known)) is not None:
            text = f'{target.name} knows no key "{key}" in a message'
            yield Problem(f"{where}.{key}", text, f'write it as "{new}"', fixable=True)
        else:
            told = f"{target.name} knows no {{}} in a message"
            yield unknown_problem(Stray(where, key, value), told, known, fixable=harmless_unknown(key, value))


def _unknown_in_call(where: str, there: Any, known: frozenset[str]) -> Iterator[Problem]:
    if isinstance(there, dict):
        for key, value in there.items():
            if key not in known:
                stray, told = Stray(where, key, value), "there is no {} in a call"
                yield unknown_problem(stray, told, known, fixable=harmless_unknown(key, value))


def _mend_messages(turns: Turns, target: Target) -> None:
    for index, message in enumerate(turns.messages):
        for key in [key for key in message if _new_name(message, key, target.message_keys) and key != "function_call"]:
            if key not in target.message_keys:
                message[_RENAMED[key]] = message.pop(key)
        if "function_call" not in target.message_keys and _new_name(message, "function_call", target.message_keys):
            _bring_call_up_to_date(turns, index)
        leave_out_harmless(message, target.message_keys)
        for call in _listed(message.get("tool_calls")):
            if isinstance(call, dict):
                leave_out_harmless(call, _CALL)
                if isinstance(call.get("function"), dict):
                    leave_out_harmless(call["function"], _CALLED)


def _bring_call_up_to_date(turns: Turns, index: int) -> None:
    """A call without an id becomes one with an id; the answer after it, of the role function, becomes a tool's."""
    message, call_id = turns.messages[index], f"call_{index + 1}"
    message["tool_calls"] = [{"id": call_id, "type": "function", "function": message.pop("function_call")}]
    after = turns.messages[index + 1] if index + 1 < len(turns.messages) else {}
    if after.get("role") == "function":
        after["role"] = "tool"
        after["tool_call_id"] = call_id


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


UNKNOWN_KEY = Rule(
    "unknown-key", "only keys that the target knows, at the top of a row", "blocking", _unknown, _mend_top
)
UNKNOWN_MESSAGE_KEY = Rule(
    "unknown-message-key",
    "only keys that the target knows, in a message and its calls",
    "blocking",
    _unknown_in_message,
    _mend_messages,
)
RULES = (UNKNOWN_KEY, UNKNOWN_MESSAGE_KEY)
