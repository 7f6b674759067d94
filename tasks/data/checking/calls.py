"""Rules about tools: what is declared, called and answered; the calls' ids have a module of their own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from tasks.data.checking.finding import Problem, Rule, Turns
from tasks.data.checking.keys import known_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.checking.target import Target

_FUNCTION = re.compile(r"[A-Za-z0-9_-]{1,64}")


def _declared(turns: Turns, target: Target) -> Iterator[Problem]:
    for name, problem_of, use in _DECLARED:
        given, where = turns.beside.get(name), f"{turns.prefix}{name}"
        if given is not None and not isinstance(given, list):
            yield Problem(where, f"found {type(given).__name__}", f"use a list of {name}")
            continue
        if name in known_keys(turns.row, target) or name == "tools":
            for index, tool in enumerate(given or ()):
                if problem := problem_of(tool):
                    yield Problem(f"{where}[{index}]", problem, f"use {use}")
    parallel = turns.beside.get("parallel_tool_calls")
    if parallel is not None and not isinstance(parallel, bool):
        text = f"found {type(parallel).__name__}"
        yield Problem(f"{turns.prefix}parallel_tool_calls", text, "use true or false, or leave it out")


def _tool_problem(tool: Any) -> str | None:
    function = tool.get("function") if isinstance(tool, dict) else None
    return (
        "no function" if not isinstance(tool, dict) or tool.get("type") != "function" else _function_problem(function)
    )


def _function_problem(function: Any) -> str | None:
    if not isinstance(function, dict):
        return "no function"
    name = function.get("name")
    if not isinstance(name, str) or not _FUNCTION.fullmatch(name):
        return "a function's name is 1 to 64 of A-Z, a-z, 0-9, _ and -"
    return None if isinstance(function.get("parameters", {}), dict) else "parameters is no object"


_DECLARED = (
    ("tools", _tool_problem, '{"type": "function", "function": {"name": …, "parameters": {…}}}'),
    ("functions", _function_problem, '{"name": …, "parameters": {…}}'),
)


def _described(turns: Turns, target: Target) -> Iterator[Problem]:
    """Asked by mistral-finetune, and by no other."""
    tools = turns.beside.get("tools")
    if target.name != "mistral" or not isinstance(tools, list):
        return
    for index, tool in enumerate(tools):
        if _tool_problem(tool) is None and not isinstance(tool["function"].get("description"), str):
            where = f"{turns.prefix}tools[{index}].function.description"
            yield Problem(where, "no description", "say what the function does: mistral-finetune asks for it")


def _shape(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    for index, message in enumerate(turns.messages):
        legacy = message.get("function_call")
        if legacy is not None and not _is_called(legacy):
            repair = 'use {"name": …, "arguments": "…"}, or tool_calls'
            yield Problem(turns.at(index, "function_call"), "no call", repair)
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
            elif not _FUNCTION.fullmatch(call["function"]["name"]):
                repair = "a function's name is 1 to 64 of A-Z, a-z, 0-9, _ and -"
                yield Problem(f"{where}[{number}].function.name", "a name of other characters", repair)


def _leave_out_no_calls(turns: Turns, target: Target) -> None:
    del target
    for message in turns.messages:
        if not message.get("tool_calls", True):
            del message["tool_calls"]


def _arguments(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    for where, call in calls_in(turns):
        given = call["function"].get("arguments")
        place = f"{where}.function.arguments"
        if isinstance(given, dict):
            yield Problem(place, "an object, where a text is wanted", "write it as JSON in a text", fixable=True)
        elif not isinstance(given, str) or not _is_object(given):
            yield Problem(place, "no JSON object in a text", "write the arguments as a JSON object in a text")


def _write_arguments(turns: Turns, target: Target) -> None:
    del target
    for _, call in calls_in(turns):
        if isinstance(call["function"].get("arguments"), dict):
            call["function"]["arguments"] = msgspec.json.encode(call["function"]["arguments"]).decode()


def _undeclared(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    tools = turns.beside.get("tools")
    given = [tool for tool in tools if _tool_problem(tool) is None] if isinstance(tools, list) else []
    known = {tool["function"]["name"] for tool in given}
    for where, call in calls_in(turns):
        if call["function"]["name"] not in known:
            repair = "declare it in tools, so that the model learns when to call it"
            yield Problem(f"{where}.function.name", f"{call['function']['name']!r} is not declared", repair)


def _answered(turns: Turns, target: Target) -> Iterator[Problem]:
    """A call at the end of an example needs no answer: it is the answer."""
    del target
    for index in range(len(turns.messages) - 1):
        wanted = [call["id"] for _, call in calls_in(turns, index)]
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
        asked |= {call["id"] for _, call in calls_in(turns, index)}
        found = message.get("tool_call_id")
        if message.get("role") == "tool" and not (isinstance(found, str) and found in asked):
            text = "no tool_call_id" if found is None else f"an answer to the unknown call {found!r}"
            yield Problem(turns.at(index, "tool_call_id"), text, "give the id of a call before it, or leave it out")
        elif found is not None and message.get("role") != "tool":
            text = f'an answer to a call from "{message.get("role")}"'
            yield Problem(turns.at(index, "tool_call_id"), text, "only a tool's message answers a call: leave it out")


def calls_in(turns: Turns, only: int | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every well-formed call, with its place."""
    for index in range(len(turns.messages)) if only is None else (only,):
        found = turns.messages[index].get("tool_calls")
        if isinstance(found, list):
            for number, call in enumerate(found):
                if _is_call(call):
                    yield turns.at(index, f"tool_calls[{number}]"), call


def _is_call(call: Any) -> bool:
    if not isinstance(call, dict) or not isinstance(call.get("id"), str) or call.get("type", "function") != "function":
        return False
    function = call.get("function")
    return isinstance(function, dict) and isinstance(function.get("name"), str)


def _is_called(legacy: Any) -> bool:
    if not isinstance(legacy, dict) or not isinstance(legacy.get("name"), str):
        return False
    given = legacy.get("arguments")
    return bool(_FUNCTION.fullmatch(legacy["name"])) and isinstance(given, str) and _is_object(given)


def _is_object(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False


RULES = (
    Rule("tools", "well-formed tools", "blocking", _declared),
    Rule("tool-description", "descriptions of tools, where they are asked for", "warning", _described),
    Rule("call-shape", "well-formed calls, from the assistant", "blocking", _shape, _leave_out_no_calls),
    Rule("call-arguments", "arguments that are JSON in a text", "blocking", _arguments, _write_arguments),
    Rule("call-declared", "calls of declared tools", "warning", _undeclared),
    Rule("call-answered", "an answer to every call before the last message", "blocking", _answered),
    Rule("answer-known", "answers to calls that were made", "blocking", _answers),
)
