"""What OpenAI finds wrong with an example. The sentence about an extra key is OpenAI's own; the others are ours."""

from __future__ import annotations

from codecs import BOM_UTF8
from dataclasses import replace
from typing import Any

from api_worker.sandbox.chat_rows import ChatRules, chat_problem, input_problem, messages_problem
from api_worker.sandbox.training_files import TrainingFile, examine

RULES = ChatRules()
CHAT, PREFERENCE = "chat", "preference"
FORMAT_OF = {"supervised": CHAT, "dpo": PREFERENCE}  # by the method's type
PREFERENCE_KEYS = frozenset({"input", "preferred_output", "non_preferred_output"})


def judge(example: dict[str, Any]) -> tuple[str, str | None]:
    """A chat example's, or a preference's, format and fault."""
    if "input" in example or "preferred_output" in example:
        return PREFERENCE, _preference_problem(example)
    return CHAT, chat_problem(example, RULES)


def _preference_problem(example: dict[str, Any]) -> str | None:
    extra = sorted(set(example) - PREFERENCE_KEYS)
    if extra:
        return f'contains an extra "{extra[0]}".'
    problem = input_problem(example, RULES)
    if problem:
        return problem
    for name in ("preferred_output", "non_preferred_output"):
        output = example.get(name)
        if not isinstance(output, list) or not output:
            return f'has no "{name}".'
        problem = messages_problem(output, RULES)
        if problem or any(message["role"] not in ("assistant", "tool") for message in output):
            return f'has a bad "{name}": {problem or "it has a message that is not from the assistant."}'
    return None


def examine_plain(content: bytes) -> TrainingFile:
    """Look through a file as OpenAI does."""
    return examine(content, judge)


def examine_marked(content: bytes) -> TrainingFile:
    """Look through a file as Azure does, which wants it to begin with a byte order mark."""
    found = examine(content, judge)
    return found if content.startswith(BOM_UTF8) else replace(found, problem="The file is not UTF-8 with a BOM.")
