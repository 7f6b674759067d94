"""Rules about preferences: a shared input, a better and a worse answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.data.checking.finding import Problem, Rule, Turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.checking.target import Target

SIDES = ("preferred_output", "non_preferred_output")


def _sides(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    for side in SIDES:
        given = turns.row.get(side)
        if not isinstance(given, list) or len(given) != 1 or not _is_answer(given[0]):
            repair = 'give exactly one message, from the assistant: [{"role": "assistant", "content": "…"}]'
            yield Problem(side, "no single answer", repair)


def _differ(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    better, worse = (turns.row.get(side) for side in SIDES)
    if better == worse:
        yield Problem(SIDES[1], "both answers are the same", "give a worse answer, or leave the example out")


def _input_ends(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    if turns.messages[-1].get("role") == "assistant":
        yield Problem(
            turns.at(len(turns.messages) - 1), "the input ends with an answer", "end it with what is to be answered"
        )


def _is_answer(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") == "assistant"


RULES = (
    Rule("preference-sides", "one answer on each side", "blocking", _sides),
    Rule("preference-differs", "two answers that differ", "warning", _differ),
    Rule("preference-input", "an input that does not end with an answer", "blocking", _input_ends),
)
