"""Rules about keys: those that a target does not know are what it refuses a whole file for."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from tasks.data.checking.finding import Problem, Rule, Turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.checking.target import Kind, Target

_INPUT = frozenset({"messages", "tools", "parallel_tool_calls"})
_BY_KEY: tuple[tuple[str, Kind], ...] = (
    ("messages", "chat"),
    ("input", "preference"),
    ("preferred_output", "preference"),
    ("non_preferred_output", "preference"),
    ("contents", "contents"),
    ("prompt", "completion"),
    ("completion", "completion"),
    ("text", "text"),
    ("token_ids", "tokens"),
)


def kind_of(row: dict[str, Any]) -> Kind | None:
    """What kind of row this is, by its keys."""
    for key, kind in _BY_KEY:
        if key in row:
            return kind
    return None


def known_keys(row: dict[str, Any], target: Target) -> frozenset[str]:
    """The top-level keys that a target takes in a row of this kind."""
    kind = kind_of(row)
    return target.kinds.get(kind, frozenset()) if kind else frozenset()


def _unknown(turns: Turns, target: Target) -> Iterator[Problem]:
    known = known_keys(turns.row, target)
    for key in turns.row:
        if key not in known:
            yield Problem(key, f'{target.name} knows no key "{key}" here', _leave_out(known), fixable=True)
    if turns.prefix:
        for key in turns.holder:
            if key not in _INPUT:
                yield Problem(
                    f"input.{key}", f'{target.name} knows no key "{key}" here', _leave_out(_INPUT), fixable=True
                )


def _leave_out_unknown(turns: Turns, target: Target) -> None:
    _keep(turns.row, known_keys(turns.row, target))
    if turns.prefix:
        _keep(turns.holder, _INPUT)


def _unknown_in_message(turns: Turns, target: Target) -> Iterator[Problem]:
    for index, message in enumerate(turns.messages):
        for key in message:
            if key not in target.message_keys:
                text = f'{target.name} knows no key "{key}" in a message'
                yield Problem(turns.at(index, key), text, _leave_out(target.message_keys), fixable=True)


def _leave_out_unknown_in_message(turns: Turns, target: Target) -> None:
    for message in turns.messages:
        _keep(message, target.message_keys)


@cache
def _leave_out(known: frozenset[str]) -> str:
    return f"leave it out (known: {', '.join(sorted(known))})"


def _keep(there: dict[str, Any], known: frozenset[str]) -> None:
    for key in [key for key in there if key not in known]:
        del there[key]


UNKNOWN_KEY = Rule(
    "unknown-key", "only keys that the target knows, at the top of a row", "blocking", _unknown, _leave_out_unknown
)
RULES = (
    UNKNOWN_KEY,
    Rule(
        "unknown-message-key",
        "only keys that the target knows, in a message",
        "blocking",
        _unknown_in_message,
        _leave_out_unknown_in_message,
    ),
)
