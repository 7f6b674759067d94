"""Rules about what is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.data.checking.finding import Problem, Rule, Turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.checking.target import Target

IMAGES = 10  # an example may have at Together; OpenAI's number is not in its schema
_INSTEAD = ("tool_calls", "function_call", "refusal")


def _type(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    for index, message in enumerate(turns.messages):
        content = message.get("content")
        if content is not None and not isinstance(content, str) and not _parts(content):
            repair = 'use a text, or a list of parts like {"type": "text", "text": "…"}'
            yield Problem(turns.at(index, "content"), f"found {type(content).__name__}", repair)


def _empty(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    for index, message in enumerate(turns.messages):
        content = message.get("content")
        if content in (None, "", []) and not _said_otherwise(message):
            system = message.get("role") == "system" and len(turns.messages) > 1
            repair = "leave the message out" if system else "write what is said, or leave the example out"
            yield Problem(turns.at(index, "content"), "nothing is said", repair, fixable=system)


def _leave_out_empty_system(turns: Turns, target: Target) -> None:
    del target
    said = [m for m in turns.messages if m.get("role") != "system" or m.get("content") not in (None, "", [])]
    turns.messages[:] = said or turns.messages


def _blank(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    for index, message in enumerate(turns.messages):
        content = message.get("content")
        if isinstance(content, str) and content.isspace():
            yield Problem(
                turns.at(index, "content"), "only white space", "write what is said, or leave the example out"
            )


def _images(turns: Turns, target: Target) -> Iterator[Problem]:
    count = 0
    for index, message in enumerate(turns.messages):
        here = sum(part["type"] == "image_url" for part in _parts(message.get("content")))
        count += here
        if here and target.name == "together" and message.get("weight"):
            yield Problem(turns.at(index, "weight"), "a weight on a message with images", "leave the weight out")
    if count > IMAGES:
        yield Problem(f"{turns.prefix}messages", f"{count} images", f"use at most {IMAGES} in an example")


def _said_otherwise(message: dict[str, Any]) -> bool:
    return any(message.get(key) for key in _INSTEAD)


def _parts(content: Any) -> list[dict[str, Any]]:
    """The parts of a content that is a well-formed list of them; otherwise none."""
    if not isinstance(content, list):
        return []
    good = all(isinstance(part, dict) and isinstance(part.get("type"), str) for part in content)
    return content if good else []


RULES = (
    Rule("content-type", "a text or a list of parts", "blocking", _type),
    Rule("empty-content", "something said in every message", "blocking", _empty, _leave_out_empty_system),
    Rule("blank-content", "more than white space", "warning", _blank),
    Rule("images", "few images, and no weight on them", "blocking", _images),
)
