"""What is wrong with a chat example, as most vendors see it.

Covered: keys, roles, content, weights, tools and their calls, an answer at the end. Not covered: token limits, the
JSON schemas inside tools, what images show, moderation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

EXAMPLE_KEYS = frozenset({"messages", "tools", "parallel_tool_calls", "functions"})
MESSAGE_KEYS = frozenset(
    {"role", "content", "name", "weight", "tool_calls", "tool_call_id", "refusal", "function_call"}
)
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


@dataclass(frozen=True)
class ChatRules:
    """What a vendor takes."""

    example_keys: frozenset[str] = EXAMPLE_KEYS
    message_keys: frozenset[str] = MESSAGE_KEYS
    roles: frozenset[str] = ROLES


def chat_problem(example: dict[str, Any], rules: ChatRules) -> str | None:
    """What is wrong with an example of chat, which ends with the answer to be learnt."""
    problem = conversation_problem(example, rules)
    if problem is None and example["messages"][-1]["role"] != "assistant":
        return 'does not end with a message from "assistant".'
    return problem


def conversation_problem(example: dict[str, Any], rules: ChatRules) -> str | None:
    """What is wrong with messages and their tools, whatever comes last."""
    messages = example.get("messages")
    if not isinstance(messages, list) or not messages:
        return 'has no "messages".'
    extra = sorted(set(example) - rules.example_keys)
    if extra:
        return f'contains an extra "{extra[0]}".'
    return _tools_problem(example.get("tools")) or messages_problem(messages, rules)


def input_problem(example: dict[str, Any], rules: ChatRules) -> str | None:
    """What is wrong with the conversation of a preference, which ends before the answer."""
    asked = example.get("input")
    if not isinstance(asked, dict):
        return 'has no "input".'
    problem = conversation_problem(asked, rules)
    if problem:
        return f'has a bad "input": it {problem}'
    if asked["messages"][-1]["role"] == "assistant":
        return 'has an "input" that ends with a message from "assistant".'
    return None


def messages_problem(messages: list[Any], rules: ChatRules) -> str | None:
    """What is wrong with the messages of a conversation."""
    called: set[str] = set()
    for number, message in enumerate(messages, 1):
        problem = _message_problem(message, rules) or _calls_problem(message, called)
        if problem:
            return f"has a bad message: number {number} {problem}"
    return None


def _message_problem(message: Any, rules: ChatRules) -> str | None:
    if not isinstance(message, dict):
        return "is not an object."
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in rules.roles:
        return f'has the unknown role "{role}".'
    extra = sorted(set(message) - rules.message_keys)
    if extra:
        return f'contains an extra "{extra[0]}".'
    if not content and not message.get("tool_calls") and not message.get("function_call"):
        return "has no content."
    if content is not None and not isinstance(content, str | list):
        return "has content that is no text."
    weight = message.get("weight", 1)
    if "weight" in message and (role != "assistant" or type(weight) is not int or weight not in (0, 1)):
        return 'has a "weight" that is not 0 or 1 on an assistant message.'
    return None


def _calls_problem(message: dict[str, Any], called: set[str]) -> str | None:
    """What is wrong with the calls in a message, or with its answer to one; `called` gathers the calls' ids."""
    if message["role"] == "tool" and message.get("tool_call_id") not in called:
        return f'answers the tool call "{message.get("tool_call_id")}", which nobody has made.'
    calls = message.get("tool_calls")
    if calls is None:
        return None
    if message["role"] != "assistant" or not isinstance(calls, list) or not calls:
        return 'has "tool_calls" that are no list of calls by the assistant.'
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(call.get("id"), str):
            return "has a tool call without an id or a function."
        if not isinstance(function.get("name"), str) or not isinstance(function.get("arguments"), str):
            return 'has a tool call whose function has no "name", or whose "arguments" are no string.'
        called.add(call["id"])
    return None


def _tools_problem(tools: Any) -> str | None:
    if tools is None:
        return None
    if not isinstance(tools, list) or not tools:
        return 'has "tools" that are no list.'
    functions = [tool.get("function") if isinstance(tool, dict) else None for tool in tools]
    if not all(isinstance(function, dict) and isinstance(function.get("name"), str) for function in functions):
        return 'has a tool that is no function with a "name".'
    return None
