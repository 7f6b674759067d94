"""Rules about Vertex's rows: `contents`, each with a role and parts, and the model's answer last.

The turns' messages are the contents; shape and role are documented, the rest is taken from what a talk needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.data.checking.finding import Problem, Rule, Turns
from tasks.data.checking.keys import Stray, harmless_unknown, leave_out_harmless, unknown_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.checking.target import Target

_KEYS = frozenset({"role", "parts"})
KINDS = frozenset(
    {
        "text",
        "inlineData",
        "fileData",
        "functionCall",
        "functionResponse",
        "executableCode",
        "codeExecutionResult",
    }
)
_BESIDE = frozenset({"thought", "thoughtSignature", "videoMetadata", "mediaResolution"})  # of a part, with its kind
_OLD = "function_declarations"
_CAMEL = {
    "inline_data": "inlineData",
    "file_data": "fileData",
    "function_call": "functionCall",
    "function_response": "functionResponse",
    "executable_code": "executableCode",
    "code_execution_result": "codeExecutionResult",
    "thought_signature": "thoughtSignature",
    "video_metadata": "videoMetadata",
    "media_resolution": "mediaResolution",
}


def _roles(turns: Turns, target: Target) -> Iterator[Problem]:
    for index, content in enumerate(turns.messages):
        role = content.get("role")
        if not isinstance(role, str) or role not in target.roles:
            hint = ' ("assistant" is "model" here)' if role == "assistant" else ""
            repair = f"use one of {', '.join(sorted(target.roles))}{hint}"
            yield Problem(turns.at(index, "role"), f"found {role!r}", repair, role == "assistant")


def _write_model(turns: Turns, target: Target) -> None:
    del target
    for content in turns.messages:
        if content.get("role") == "assistant":
            content["role"] = "model"


def _parts(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    for index, content in enumerate(turns.messages):
        parts = content.get("parts")
        if not isinstance(parts, list) or not parts:
            yield Problem(turns.at(index, "parts"), "no list of parts", 'use [{"text": "…"}]')
            continue
        for number, part in enumerate(parts):
            yield from _part_problems(part, turns.at(index, f"parts[{number}]"))


def _part_problems(part: Any, where: str) -> Iterator[Problem]:
    if not isinstance(part, dict):
        yield Problem(where, f"found {type(part).__name__}", 'use {"text": "…"}')
        return
    for key in part:
        if key in _CAMEL and _CAMEL[key] not in part:
            yield Problem(where, f'the key "{key}"', f'write it as "{_CAMEL[key]}"', fixable=True)
        elif key not in KINDS | _BESIDE:
            yield unknown_problem(Stray(where, key, part[key]), "there is no {} in a part", KINDS | _BESIDE)
    kinds = [key for key in (_CAMEL.get(key, key) for key in part) if key in KINDS]
    if len(kinds) != 1:
        found = f"holds {' and '.join(sorted(kinds))}" if kinds else "holds none of the known kinds"
        yield Problem(where, f"a part that {found}", f"give each part one of {', '.join(sorted(KINDS))}")
    elif problem := _kind_problem(part):
        yield Problem(where, problem, "write what is said or called, or leave the part out")


def _kind_problem(part: dict[str, Any]) -> str | None:
    for key, value in part.items():
        kind = _CAMEL.get(key, key)
        if kind == "text" and not (isinstance(value, str) and value.strip()):
            return "a part without text"
        if kind in KINDS - {"text"} and not isinstance(value, dict):
            return f"{key} is no object"
        if kind in ("functionCall", "functionResponse") and not isinstance(value.get("name"), str):
            return f"{key} has no name"
    return None


def _write_camel(turns: Turns, target: Target) -> None:
    del target
    for content in turns.messages:
        parts = content.get("parts")
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, dict):
                for key in [key for key in part if key in _CAMEL and _CAMEL[key] not in part]:
                    part[_CAMEL[key]] = part.pop(key)


def _tools(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    tools = turns.row.get("tools")
    if tools is not None and not isinstance(tools, list):
        yield Problem("tools", f"found {type(tools).__name__}", "use a list of tools")
        return
    for index, tool in enumerate(tools or ()):
        if _has_old_name(tool):
            yield Problem(f"tools[{index}]", f'the key "{_OLD}"', 'write it as "functionDeclarations"', fixable=True)
            continue
        declared = tool.get("functionDeclarations") if isinstance(tool, dict) else None
        if not isinstance(declared, list) or not declared or not all(map(_is_declaration, declared)):
            repair = 'use {"functionDeclarations": [{"name": …, "description": …, "parameters": {…}}]}'
            yield Problem(f"tools[{index}]", "no declarations of functions with names", repair)


def _has_old_name(tool: Any) -> bool:
    return isinstance(tool, dict) and _OLD in tool and "functionDeclarations" not in tool


def _write_declarations(turns: Turns, target: Target) -> None:
    del target
    for tool in turns.row.get("tools") or ():
        if _has_old_name(tool):
            tool["functionDeclarations"] = tool.pop(_OLD)


def _is_declaration(function: Any) -> bool:
    return isinstance(function, dict) and isinstance(function.get("name"), str) and bool(function["name"])


def _answer(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    if not any(content.get("role") in ("model", "assistant") for content in turns.messages):
        yield Problem("contents", "none is from the model: nothing to learn", "add the answer")


def _user(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    if not any(content.get("role") == "user" for content in turns.messages):
        yield Problem("contents", "none is from the user", "add what the model answers to")


def _alternation(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    for index in range(1, len(turns.messages)):
        role = turns.messages[index].get("role")
        if role in ("user", "model") and role == turns.messages[index - 1].get("role"):
            repair = "join the two; that they must take turns is not documented"
            yield Problem(turns.at(index, "role"), f'two contents from "{role}" in a row', repair)


def _last(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    if turns.messages[-1].get("role") not in ("model", "assistant"):
        repair = "end with the model's answer; that it must is not documented"
        yield Problem(turns.at(len(turns.messages) - 1, "role"), "the last one is not from the model", repair)


def _unknown(turns: Turns, target: Target) -> Iterator[Problem]:
    told = f"{target.name} knows no {{}} in contents"
    for index, content in enumerate(turns.messages):
        for key, value in content.items():
            if key not in _KEYS:
                stray = Stray(turns.at(index), key, value)
                yield unknown_problem(stray, told, _KEYS, fixable=harmless_unknown(key, value))


def _leave_out_unknown(turns: Turns, target: Target) -> None:
    del target
    for content in turns.messages:
        leave_out_harmless(content, _KEYS)


def _system(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    given = turns.row.get("systemInstruction")
    if given is None:
        return
    parts = given.get("parts") if isinstance(given, dict) else None
    if not isinstance(parts, list) or not parts:
        yield Problem("systemInstruction", "no parts", 'use {"parts": [{"text": "…"}]}')
        return
    for number, part in enumerate(parts):
        if not isinstance(part, dict) or part.keys() != {"text"} or _kind_problem(part):
            where = f"systemInstruction.parts[{number}]"
            yield Problem(where, "no text", 'use {"text": "…"}, or leave the part out')


RULES = (
    Rule("role", "the roles user and model", "blocking", _roles, _write_model),
    Rule("parts", "parts in all contents, of one known kind each", "blocking", _parts, _write_camel),
    Rule("tools", "well-formed tools", "blocking", _tools, _write_declarations),
    Rule("assistant-message", "at least one answer of the model", "blocking", _answer),
    Rule("user-message", "at least one content from the user", "warning", _user),
    Rule("alternation", "user and model in turn", "warning", _alternation),
    Rule("last-message", "the last content from the model", "warning", _last),
    Rule("unknown-message-key", "only role and parts in contents", "warning", _unknown, _leave_out_unknown),
    Rule("system-instruction", "a system instruction of texts", "blocking", _system),
)
