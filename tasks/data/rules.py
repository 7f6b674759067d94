"""What makes a row an example."""

from __future__ import annotations

from typing import Any

ROLES = ("system", "user", "assistant")
INSTRUCT_KEYS = ("instruction", "input", "output")


def problem_of(example: dict[str, Any]) -> str | None:
    """What is wrong with a row, and in which field; None if it is an example."""
    if "messages" in example:
        return _unknown_key(example, ("messages",)) or _problem_of_chat(example["messages"])
    if "instruction" in example or "output" in example:
        return _unknown_key(example, INSTRUCT_KEYS) or _problem_of_instruct(example)
    found = ", ".join(f'"{key}"' for key in example) or "nothing"
    return f'the keys are {found}; an example has "messages", or "instruction" and "output" (and may have "input")'


def _problem_of_instruct(example: dict[str, Any]) -> str | None:
    for key in ("instruction", "output"):
        if problem := _problem_of_text(example.get(key)):
            return f"{key}: {problem}"
    if example.get("input", "") != "" and (problem := _problem_of_text(example["input"])):
        return f'input: {problem} (or "")'
    return None


def _problem_of_chat(messages: object) -> str | None:
    if not isinstance(messages, list) or len(messages) < 2:
        return 'messages: must be a list of at least two messages, from "user" and from "assistant"'
    for index, message in enumerate(messages):
        if problem := _problem_of_message(message):
            return f"messages[{index}]{problem}"
    roles = [message["role"] for message in messages]
    if roles[-1] != "assistant":
        return f'messages: the last one is from "{roles[-1]}"; a training example must end with "assistant"'
    if "user" not in roles:
        return 'messages: none is from "user"; there is nothing to answer'
    return None


def _problem_of_message(message: object) -> str | None:
    if not isinstance(message, dict):
        return f": must be an object with role and content, found {_describe(message)}"
    if problem := _unknown_key(message, ("role", "content")):
        return f": {problem}"
    if message.get("role") not in ROLES:
        return f".role: must be one of {', '.join(ROLES)}, found {_describe(message.get('role'))}"
    if problem := _problem_of_text(message.get("content")):
        return f".content: {problem}"
    return None


def _problem_of_text(value: object) -> str | None:
    if not isinstance(value, str) or not value.strip():
        return f"must be a text that is not blank, found {_describe(value)}"
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return f"character {error.start + 1} is half of a surrogate pair; remove it"
    return None


def _unknown_key(found: dict[str, Any], known: tuple[str, ...]) -> str | None:
    for key in found:
        if key not in known:
            return f'unknown key "{key}"; remove it (known here: {", ".join(known)})'
    return None


def _describe(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f'"{value[:40]}"' if value.strip() else "a blank text"
    return type(value).__name__
