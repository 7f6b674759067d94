"""Rules about what is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.data.checking.finding import Problem, Rule, Turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.checking.target import Target

IMAGES = 10  # an example may have at Together; OpenAI's number is not in its schema
PART_TYPES = ("text", "image_url", "input_audio", "audio_url", "video_url", "file", "document_url", "refusal")
_INSTEAD = ("tool_calls", "function_call", "refusal")


def _type(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    for index, message in enumerate(turns.messages):
        content = message.get("content")
        if content is not None and not isinstance(content, str) and not _parts(content):
            repair = 'use a text, or a list of parts like {"type": "text", "text": "…"}'
            yield Problem(turns.at(index, "content"), f"found {type(content).__name__}", repair)
        for number, part in enumerate(_parts(content)):
            if problem := _part_problem(part):
                known = ", ".join(PART_TYPES)
                yield Problem(turns.at(index, f"content[{number}]"), problem, f"use one of the types {known}")
        refusal = message.get("refusal")
        if refusal is not None and not isinstance(refusal, str):
            text = f"found {type(refusal).__name__}"
            yield Problem(turns.at(index, "refusal"), text, "use a text, or leave it out")


def _part_problem(part: dict[str, Any]) -> str | None:
    kind = part["type"]
    if kind not in PART_TYPES:
        return "a part of an unknown type"
    value = part.get(kind)
    if kind in ("text", "refusal"):
        return None if isinstance(value, str) else f"a part of the type {kind} without a text"
    return None if isinstance(value, dict) or (value and isinstance(value, str)) else f"a part without {kind}"


def _empty(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    for index, message in enumerate(turns.messages):
        content = message.get("content")
        if _is_empty_result(message):
            continue
        if content in (None, "", []) and not _said_otherwise(message):
            system = message.get("role") == "system" and len(turns.messages) > 1
            repair = "leave the message out" if system else "write what is said, or leave the example out"
            yield Problem(turns.at(index, "content"), "nothing is said", repair, fixable=system)


def _empty_result(turns: Turns, target: Target) -> Iterator[Problem]:
    """What a tool gives back may well be nothing."""
    del target
    for index, message in enumerate(turns.messages):
        if _is_empty_result(message):
            yield Problem(turns.at(index, "content"), "a tool gave nothing back", "look whether that is meant")


def _is_empty_result(message: dict[str, Any]) -> bool:
    return message.get("role") == "tool" and message.get("content") == ""


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
        here = _count_images(message)
        count += here
        if here and target.name == "together" and message.get("weight"):
            yield Problem(turns.at(index, "weight"), "a weight on a message with images", "leave the weight out")
    if count > IMAGES:
        yield Problem(turns.path, f"{count} images", f"use at most {IMAGES} in an example")


def has_images(messages: list[dict[str, Any]]) -> bool:
    """Whether a talk has pictures beside its texts."""
    return any(map(_count_images, messages))


def has_text(message: dict[str, Any]) -> bool:
    """Whether a message says anything in words."""
    content = message.get("content")
    texts = [content] if isinstance(content, str) else [part.get("text") for part in _parts(content)]
    return any(isinstance(text, str) and text.strip() for text in texts)


def _count_images(message: dict[str, Any]) -> int:
    return sum(part["type"] == "image_url" for part in _parts(message.get("content")))


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
    Rule("empty-result", "something in what a tool gives back", "warning", _empty_result),
    Rule("blank-content", "more than white space", "warning", _blank),
    Rule("images", "few images, and no weight on them", "blocking", _images),
)
