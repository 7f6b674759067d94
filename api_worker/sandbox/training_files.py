"""What OpenAI finds wrong with a training file, found before anything is trained.

Covered: JSON lines, keys, roles, an answer in each example, the least number of examples. Not covered: token limits,
tools' schemas, images, moderation. The sentence about the extra key is OpenAI's own; the others are ours.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

EXAMPLE_KEYS = frozenset({"messages", "tools", "parallel_tool_calls", "functions"})
MESSAGE_KEYS = frozenset(
    {"role", "content", "name", "weight", "tool_calls", "tool_call_id", "refusal", "function_call"}
)
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


@dataclass(frozen=True)
class TrainingFile:
    """What is known of an uploaded file: how many examples, and the first thing that is wrong."""

    examples: int
    problem: str | None = None


def examine(content: bytes) -> TrainingFile:
    """Read a file of chat examples to its end, or to the first line that is none."""
    count = 0
    for line in content.removeprefix(b"\xef\xbb\xbf").splitlines():
        if not line.strip():
            continue
        count += 1
        problem = _line_problem(line)
        if problem:
            return TrainingFile(count, f"Invalid file format. Example {count} {problem}")
    return TrainingFile(count)


def _line_problem(line: bytes) -> str | None:
    try:
        example = json.loads(line)
    except (UnicodeDecodeError, json.JSONDecodeError):
        return "is not valid JSON."
    except RecursionError:
        return "is nested too deeply."
    return _example_problem(example)


def _example_problem(example: Any) -> str | None:
    if not isinstance(example, dict):
        return "is not an object."
    messages = example.get("messages")
    if not isinstance(messages, list) or not messages:
        return 'has no "messages".'
    extra = sorted(set(example) - EXAMPLE_KEYS)
    if extra:
        return f'contains an extra "{extra[0]}".'
    for number, message in enumerate(messages, 1):
        problem = _message_problem(message)
        if problem:
            return f"has a bad message: number {number} {problem}"
    if messages[-1]["role"] != "assistant":
        return 'does not end with a message from "assistant".'
    return None


def _message_problem(message: Any) -> str | None:
    if not isinstance(message, dict):
        return "is not an object."
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in ROLES:
        return f'has the unknown role "{role}".'
    extra = sorted(set(message) - MESSAGE_KEYS)
    if extra:
        return f'contains an extra "{extra[0]}".'
    if not content and not message.get("tool_calls") and not message.get("function_call"):
        return "has no content."
    if content is not None and not isinstance(content, str | list):
        return "has content that is no text."
    if "weight" in message and (role != "assistant" or message["weight"] not in (0, 1)):
        return 'has a "weight" that is not 0 or 1 on an assistant message.'
    return None
