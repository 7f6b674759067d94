"""Rows as they were written before tools had their present names, and contents in parts, brought to today's shape."""

from __future__ import annotations

from typing import Any

MESSAGES = ("messages", "rejected", "chosen", "preferred_output", "non_preferred_output", "prompt", "completion")
_ALIASES = {"reasoning_content": "reasoning", "thinking": "reasoning"}
_CAMEL = {  # Vertex reads both
    "system_instruction": "systemInstruction",
    "function_declarations": "functionDeclarations",
    "function_call": "functionCall",
    "function_response": "functionResponse",
}


def modernise(row: dict[str, Any]) -> dict[str, Any]:
    """The row with `functions`, `function_call`, the role `function`, texts in parts and null fields told as today.

    Raises:
        ValueError: a part is no text, or the reasoning is told twice; says where
    """
    if "contents" in row:
        row = _camel(row)
    if isinstance(row.get("functions"), list) and "tools" not in row:
        row["tools"] = [{"type": "function", "function": function} for function in row.pop("functions")]
        if row.get("function_call") == "auto":  # what it is by default: a wish for the next answer, which is given here
            del row["function_call"]
    for name in MESSAGES:
        if isinstance(row.get(name), list):
            row[name] = [_message(turn, f"{name}[{n}]", row[name][:n]) for n, turn in enumerate(row[name])]
    if isinstance(row.get("input"), dict):
        row["input"] = modernise(row["input"])
    return {name: value for name, value in row.items() if value is not None}


def _message(turn: Any, where: str, before: list[Any]) -> Any:
    if not isinstance(turn, dict):
        return turn
    made: dict[str, Any] = {}
    name: str
    for name, value in turn.items():
        known = _ALIASES.get(name, name)
        if value is not None and made.setdefault(known, value) != value:
            raise ValueError(f"{where}.{known}: is told twice, under another name as well; leave the one that is meant")
    if isinstance(made.get("function_call"), dict) and "tool_calls" not in made:
        made["tool_calls"] = [{"id": _id(len(before)), "type": "function", "function": made.pop("function_call")}]
    if made.get("role") == "function":
        made["role"] = "tool"
        made.setdefault("tool_call_id", _asked(before))
    if isinstance(made.get("content"), list):
        made["content"] = _text(made["content"], f"{where}.content")
    return made


def _camel(row: dict[str, Any]) -> dict[str, Any]:
    """The row of contents with its keys in the one spelling; what is called is left as it is."""
    row = _renamed(row)
    for content in [*_listed(row.get("contents")), row.get("systemInstruction")]:
        if isinstance(content, dict) and isinstance(content.get("parts"), list):
            content["parts"] = [_renamed(part) for part in content["parts"]]
    if isinstance(row.get("tools"), list):
        row["tools"] = [_renamed(tool) for tool in row["tools"]]
    return row


def _renamed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {_CAMEL[name] if name in _CAMEL and _CAMEL[name] not in value else name: value[name] for name in value}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


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
