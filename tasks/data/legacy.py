"""Rows as they were written before tools had their present names, and contents in parts, brought to today's shape."""

from __future__ import annotations

from typing import Any

MESSAGES = ("messages", "rejected", "preferred_output", "non_preferred_output", "prompt", "completion")
_ALIASES = {"reasoning_content": "reasoning", "thinking": "reasoning"}


def modernise(row: dict[str, Any]) -> dict[str, Any]:
    """The row with `functions`, `function_call`, the role `function`, texts in parts and null fields told as today.

    Raises:
        ValueError: a part is no text; says where
    """
    if isinstance(row.get("functions"), list) and "tools" not in row:
        row["tools"] = [{"type": "function", "function": function} for function in row.pop("functions")]
        row.pop("function_call", None)  # "auto", as a rule: a wish for the next answer, which is given here
    for name in MESSAGES:
        if isinstance(row.get(name), list):
            row[name] = [_message(turn, f"{name}[{n}]", row[name][:n]) for n, turn in enumerate(row[name])]
    if isinstance(row.get("input"), dict):
        row["input"] = modernise(row["input"])
    return {name: value for name, value in row.items() if value is not None}


def _message(turn: Any, where: str, before: list[Any]) -> Any:
    if not isinstance(turn, dict):
        return turn
    made = {_ALIASES.get(name, name): value for name, value in turn.items() if value is not None}
    if isinstance(made.get("function_call"), dict) and "tool_calls" not in made:
        made["tool_calls"] = [{"id": _id(len(before)), "type": "function", "function": made.pop("function_call")}]
    if made.get("role") == "function":
        made["role"] = "tool"
        made.setdefault("tool_call_id", _asked(before))
    if isinstance(made.get("content"), list):
        made["content"] = _text(made["content"], f"{where}.content")
    return made


def _id(number: int) -> str:
    return f"call_{number + 1}"


def _asked(before: list[Any]) -> str:
    """The id of the latest legacy call; it has the number of its message."""
    numbers = [n for n, turn in enumerate(before) if isinstance(turn, dict) and turn.get("function_call")]
    return _id(numbers[-1] if numbers else len(before) - 1)


def _text(parts: list[Any], where: str) -> str:
    for number, part in enumerate(parts):
        if not (isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)):
            raise ValueError(f"{where}[{number}]: only parts of text can be read; leave out images and audio")
    return "".join(part["text"] for part in parts)
