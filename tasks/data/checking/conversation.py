"""Rules about who speaks when."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tasks.data.checking.content import has_text
from tasks.data.checking.finding import Problem, Rule, Turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.checking.target import Target

_LEADING = ("system", "developer")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def _roles(turns: Turns, target: Target) -> Iterator[Problem]:
    for index, message in enumerate(turns.messages):
        role = message.get("role")
        if not isinstance(role, str) or role not in target.roles:
            found = "no role" if role is None else f"the role {role!r}"
            yield Problem(turns.at(index, "role"), f"found {found}", f"use one of {', '.join(sorted(target.roles))}")


def _assistant(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    if not any(message.get("role") == "assistant" for message in turns.messages):
        yield Problem(turns.path, "none is from the assistant: nothing to learn", "add the answer")


def _last(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    role = turns.messages[-1].get("role")
    if role != "assistant":
        mendable = any(message.get("role") == "assistant" for message in turns.messages)
        repair = "end with the assistant's answer" + (
            "; what comes after the last one teaches nothing" if mendable else ""
        )
        yield Problem(turns.at(len(turns.messages) - 1, "role"), f'the last message is from "{role}"', repair, mendable)


def _cut_after_last_answer(turns: Turns, target: Target) -> None:
    del target
    while turns.messages and any(message.get("role") == "assistant" for message in turns.messages):
        if turns.messages[-1].get("role") == "assistant":
            return
        turns.messages.pop()


def _last_text(turns: Turns, target: Target) -> Iterator[Problem]:
    last = turns.messages[-1]
    calls = bool(last.get("tool_calls")) and target.heeds("last-text", "warning") == "blocking"
    if last.get("role") == "assistant" and (calls or not has_text(last)):
        repair = f"{target.name} wants text in the last message, and no tool call: end with the assistant's text"
        text = "the last message calls a tool" if calls else "the last message has no text"
        yield Problem(turns.at(len(turns.messages) - 1), text, repair)


def _user(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    if not any(message.get("role") == "user" for message in turns.messages):
        yield Problem(turns.path, "none is from the user", "add what the assistant answers to")


def _system_count(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    places = [index for index, message in enumerate(turns.messages) if message.get("role") in _LEADING]
    if len(places) > 1:
        yield Problem(turns.at(places[1]), f"{len(places)} system messages", "join them into the first message")


def _system_place(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    talk = False
    for index, message in enumerate(turns.messages):
        leading = message.get("role") in _LEADING
        if leading and talk:
            yield Problem(turns.at(index), "a system message after the talk began", "put it first")
            return
        talk = talk or not leading


def _alternation(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    before = ""
    for index, message in enumerate(turns.messages):
        role = message.get("role")
        if role == before and role in ("user", "assistant"):
            repair = (
                f"join the two, or leave one out: user and assistant take turns (message {index} has the same role)"
            )
            yield Problem(turns.at(index, "role"), f'two messages from "{role}" in a row', repair)
        before = str(role)


def _name(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    for index, message in enumerate(turns.messages):
        name = message.get("name")
        if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
            repair = "use 1 to 64 of A-Z, a-z, 0-9, _ and -, or leave it out"
            yield Problem(turns.at(index, "name"), "a name of other characters", repair)


RULES = (
    Rule("role", "roles that the target knows", "blocking", _roles),
    Rule("assistant-message", "at least one message from the assistant", "blocking", _assistant),
    Rule("last-message", "the last message from the assistant", "blocking", _last, _cut_after_last_answer),
    Rule("last-text", "text in the last message", "warning", _last_text),
    Rule("user-message", "at least one message from the user", "warning", _user),
    Rule("system-count", "at most one system message", "blocking", _system_count),
    Rule("system-place", "the system message first", "blocking", _system_place),
    Rule("alternation", "user and assistant in turn", "blocking", _alternation),
    Rule("name", "names of letters, digits, _ and -", "warning", _name),
)
NAME = RULES[-1]
INPUT_RULES = tuple(rule for rule in RULES if rule.name not in ("assistant-message", "last-message", "last-text"))
