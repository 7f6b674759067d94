"""Rules about tools: what is declared, called and answered."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

import msgspec

from tasks.data.checking.finding import Problem, Rule, Turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.checking.target import Target

_FUNCTION = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _declared(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    tools = turns.holder.get("tools")
    where = f"{turns.prefix}tools"
    if tools is None:
        return
    if not isinstance(tools, list):
        yield Problem(where, f"found {type(tools).__name__}", "use a list of tools")
        return
    for index, tool in enumerate(tools):
        if problem := _tool_problem(tool):
            yield Problem(
                f"{where}[{index}]", problem, 'use {"type": "function", "function": {"name": …, "parameters": {…}}}'
            )


def _tool_problem(tool: Any) -> str | None:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or tool.get("type") != "function":
        return "no function"
    name = function.get("name")
    if not isinstance(name, str) or not _FUNCTION.fullmatch(name):
        return "a function's name is 1 to 64 of A-Z, a-z, 0-9, _ and -"
    return None if isinstance(function.get("parameters", {}), dict) else "parameters is no object"


def _shape(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    for index, message in enumerate(turns.messages):
        found = message.get("tool_calls")
        if found is None:
            continue
        where = turns.at(index, "tool_calls")
        if message.get("role") != "assistant":
            yield Problem(where, f'calls from "{message.get("role")}"', "only the assistant calls tools")
        if not isinstance(found, list) or not found:
            yield Problem(where, "no list of calls", "give at least one call, or leave the key out", not found)
            continue
        for number, call in enumerate(found):
            if not _is_call(call):
                repair = 'use {"id": …, "type": "function", "function": {"name": …, "arguments": "…"}}'
                yield Problem(f"{where}[{number}]", "no call", repair)


def _leave_out_no_calls(turns: Turns, target: Target) -> None:
    del target
    for message in turns.messages:
        if not message.get("tool_calls", True):
            del message["tool_calls"]


def _arguments(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    for where, call in _calls(turns):
        given = call["function"].get("arguments")
        place = f"{where}.function.arguments"
        if isinstance(given, dict):
            yield Problem(place, "an object, where a text is wanted", "write it as JSON in a text", fixable=True)
        elif not isinstance(given, str) or not _is_object(given):
            yield Problem(place, "no JSON object in a text", "write the arguments as a JSON object in a text")


def _write_arguments(turns: Turns, target: Target) -> None:
    del target
    for _, call in _calls(turns):
        if isinstance(call["function"].get("arguments"), dict):
            call["function"]["arguments"] = msgspec.json.encode(call["function"]["arguments"]).decode()


def _undeclared(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    tools = turns.holder.get("tools")
    given = [tool for tool in tools if _tool_problem(tool) is None] if isinstance(tools, list) else []
    known = {tool["function"]["name"] for tool in given}
    for where, call in _calls(turns):
        if call["function"]["name"] not in known:
            repair = "declare it in tools, so that the model learns when to call it"
            yield Problem(f"{where}.function.name", f"{call['function']['name']!r} is not declared", repair)


def _answered(turns: Turns, target: Target) -> Iterator[Problem]:
    """A call at the end of an example needs no answer: it is the answer."""
    del target
    for index in range(len(turns.messages) - 1):
        wanted = [call["id"] for _, call in _calls(turns, index)]
        if not wanted:
            continue
        for later in turns.messages[index + 1 :]:
            if later.get("role") != "tool":
                break
            if later.get("tool_call_id") in wanted:
                wanted.remove(later["tool_call_id"])
        for missing in wanted:
            repair = "add the tool's message right after the call, or leave the call out"
            yield Problem(turns.at(index, "tool_calls"), f"no answer to the call {missing!r}", repair)


def _answers(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    asked: set[str] = set()
    for index, message in enumerate(turns.messages):
        asked |= {call["id"] for _, call in _calls(turns, index)}
        found = message.get("tool_call_id")
        if message.get("role") == "tool" and not (isinstance(found, str) and found in asked):
            text = "no tool_call_id" if found is None else f"an answer to the unknown call {found!r}"
            yield Problem(turns.at(index, "tool_call_id"), text, "give the id of a call before it, or leave it out")


def _unique(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    seen: set[str] = set()
    for where, call in _calls(turns):
        if call["id"] in seen:
            yield Problem(f"{where}.id", f"the id {call['id']!r} stands twice", "give every call an id of its own")
        seen.add(call["id"])


def _id_length(turns: Turns, target: Target) -> Iterator[Problem]:
    if target.call_id_length is None:
        return
    for where, call in _calls(turns):
        if not _fits(call["id"], target.call_id_length):
            repair = f"use {target.call_id_length} letters and digits, the same in the answer"
            yield Problem(f"{where}.id", f"found {call['id']!r}", repair, fixable=True)


def _shorten_ids(turns: Turns, target: Target) -> None:
    """The new id is made of the old one, so that call and answer still meet."""
    length = target.call_id_length
    if length is None:
        return
    new = {c["id"]: _short(c["id"], length) for _, c in _calls(turns) if not _fits(c["id"], length)}
    for _, call in _calls(turns):
        call["id"] = new.get(call["id"], call["id"])
    for message in turns.messages:
        asked = message.get("tool_call_id")
        if isinstance(asked, str):
            message["tool_call_id"] = new.get(asked, asked)


def _fits(call_id: str, length: int) -> bool:
    return len(call_id) == length and call_id.isascii() and call_id.isalnum()


def _short(call_id: str, length: int) -> str:
    number = int.from_bytes(hashlib.sha256(call_id.encode()).digest())
    return "".join(_DIGITS[number // len(_DIGITS) ** place % len(_DIGITS)] for place in range(length))


def _calls(turns: Turns, only: int | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every well-formed call, with its place."""
    for index, message in enumerate(turns.messages):
        found = message.get("tool_calls")
        if only in (None, index) and isinstance(found, list):
            for number, call in enumerate(found):
                if _is_call(call):
                    yield turns.at(index, f"tool_calls[{number}]"), call


def _is_call(call: Any) -> bool:
    if not isinstance(call, dict) or not isinstance(call.get("id"), str) or call.get("type", "function") != "function":
        return False
    function = call.get("function")
    return isinstance(function, dict) and isinstance(function.get("name"), str)


def _is_object(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False


RULES = (
    Rule("tools", "well-formed tools", "blocking", _declared),
    Rule("call-shape", "well-formed calls, from the assistant", "blocking", _shape, _leave_out_no_calls),
    Rule("call-arguments", "arguments that are JSON in a text", "blocking", _arguments, _write_arguments),
    Rule("call-declared", "calls of declared tools", "warning", _undeclared),
    Rule("call-answered", "an answer to every call before the last message", "blocking", _answered),
    Rule("answer-known", "answers to calls that were made", "blocking", _answers),
    Rule("call-id-unique", "an id of its own for every call", "blocking", _unique),
    Rule("call-id-length", "ids as long as the target has them", "blocking", _id_length, _shorten_ids),
)
