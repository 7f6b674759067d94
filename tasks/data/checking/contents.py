"""Rules about Vertex's rows: `contents`, each with a role and parts, and the model's answer last.

The turns' messages are the contents; shape and role are documented, the rest is taken from what a talk needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.data.checking.finding import Problem, Rule, Turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.checking.target import Target

_KEYS = frozenset({"role", "parts"})


def _place(index: int, key: str = "") -> str:
    return f"contents[{index}]" + (f".{key}" if key else "")


def _roles(turns: Turns, target: Target) -> Iterator[Problem]:
    for index, content in enumerate(turns.messages):
        role = content.get("role")
        if not isinstance(role, str) or role not in target.roles:
            hint = ' ("assistant" is "model" here)' if role == "assistant" else ""
            repair = f"use one of {', '.join(sorted(target.roles))}{hint}"
            yield Problem(_place(index, "role"), f"found {role!r}", repair, role == "assistant")


def _write_model(turns: Turns, target: Target) -> None:
    del target
    for content in turns.messages:
        if content.get("role") == "assistant":
            content["role"] = "model"


def _parts(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    for index, content in enumerate(turns.messages):
        parts = content.get("parts")
        if not isinstance(parts, list) or not parts or not all(isinstance(part, dict) and part for part in parts):
            yield Problem(_place(index, "parts"), "no list of parts", 'use [{"text": "…"}]')
        elif any(_is_empty(part) for part in parts):
            yield Problem(_place(index, "parts"), "a part without text", "write what is said, or leave the part out")


def _answer(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    if not any(content.get("role") in ("model", "assistant") for content in turns.messages):
        yield Problem("contents", "none is from the model: nothing to learn", "add the answer")


def _last(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    if turns.messages[-1].get("role") not in ("model", "assistant"):
        repair = "end with the model's answer; that it must is not documented"
        yield Problem(_place(len(turns.messages) - 1, "role"), "the last one is not from the model", repair)


def _unknown(turns: Turns, target: Target) -> Iterator[Problem]:
    for index, content in enumerate(turns.messages):
        for key in content:
            if key not in _KEYS:
                repair = f"leave it out (known: {', '.join(sorted(_KEYS))})"
                yield Problem(
                    _place(index, key), f'{target.name} knows no key "{key}" in contents', repair, fixable=True
                )


def _leave_out_unknown(turns: Turns, target: Target) -> None:
    del target
    for content in turns.messages:
        for key in [key for key in content if key not in _KEYS]:
            del content[key]


def _system(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    given = turns.row.get("systemInstruction")
    if given is not None and not (isinstance(given, dict) and isinstance(given.get("parts"), list) and given["parts"]):
        yield Problem("systemInstruction", "no parts", 'use {"parts": [{"text": "…"}]}')


def _is_empty(part: dict[str, Any]) -> bool:
    return "text" in part and not (isinstance(part["text"], str) and part["text"].strip())


RULES = (
    Rule("role", "the roles user and model", "blocking", _roles, _write_model),
    Rule("parts", "parts in all contents", "blocking", _parts),
    Rule("assistant-message", "at least one answer of the model", "blocking", _answer),
    Rule("last-message", "the last content from the model", "warning", _last),
    Rule("unknown-message-key", "only role and parts in contents", "warning", _unknown, _leave_out_unknown),
    Rule("system-instruction", "a system instruction with parts", "blocking", _system),
)
