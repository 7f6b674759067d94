"""Rules about weights: of a message in the loss (0 or 1, the assistant's), and of a whole example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.data.checking.finding import Problem, Rule, Turns
from tasks.data.checking.keys import known_keys
from tasks.data.record import MOST_WEIGHT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.checking.target import Target


def _whole(value: Any) -> bool:
    return isinstance(value, (int, float)) and value in (0, 1)


def _value(turns: Turns, target: Target) -> Iterator[Problem]:
    if "weight" not in target.message_keys:
        return
    for index, message in enumerate(turns.messages):
        weight = message.get("weight", 1)
        if type(weight) is not int or weight not in (0, 1):
            mendable = weight is None or _whole(weight)
            repair = "write it as the whole number 0 or 1" if mendable else "use 0 or 1: it cannot be a share"
            yield Problem(turns.at(index, "weight"), f"found {weight!r}", repair, mendable)


def _write_whole(turns: Turns, target: Target) -> None:
    del target
    for message in turns.messages:
        if "weight" not in message:
            continue
        if message["weight"] is None:
            del message["weight"]
        elif _whole(message["weight"]):
            message["weight"] = int(message["weight"])


def _place(turns: Turns, target: Target) -> Iterator[Problem]:
    if "weight" not in target.message_keys:
        return
    for index, message in enumerate(turns.messages):
        if "weight" in message and message.get("role") != "assistant":
            harmless = not message["weight"]
            repair = "leave it out: only the assistant's messages are learned"
            text, drops = f'a weight on a message from "{message.get("role")}"', message["weight"] == 0
            yield Problem(turns.at(index, "weight"), text, repair, harmless, drops)


def _leave_out_misplaced(turns: Turns, target: Target) -> None:
    del target
    for message in turns.messages:
        if message.get("role") != "assistant" and not message.get("weight"):
            message.pop("weight", None)


def _nothing(turns: Turns, target: Target) -> Iterator[Problem]:
    if "weight" not in target.message_keys:
        return
    answers = [message for message in turns.messages if message.get("role") == "assistant"]
    if answers and all(message.get("weight", 1) == 0 for message in answers):
        yield Problem(turns.path, "every answer has weight 0: nothing is learned", "leave the example out")


def _of_example(turns: Turns, target: Target) -> Iterator[Problem]:
    """Together, and training here: a number of at least 0. Fireworks: documented for reinforcement alone.

    The most is our own: larger ones would overflow when they are added up.
    """
    if "weight" not in turns.row or "weight" not in known_keys(turns.row, target):
        return
    weight = turns.row["weight"]
    if weight is None and target.name == "local":
        return
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight <= MOST_WEIGHT:
        yield Problem("weight", f"found {weight!r}", f"use a number from 0 to {MOST_WEIGHT:,}, or leave it out")


OF_EXAMPLE = Rule("example-weight", "an example's weight of at least 0", "blocking", _of_example)
RULES = (
    Rule("weight-value", "message weights that are 0 or 1", "blocking", _value, _write_whole),
    Rule("weight-place", "weights on the assistant's messages alone", "blocking", _place, _leave_out_misplaced),
    Rule("weight-nothing", "an answer that is learned", "warning", _nothing),
    OF_EXAMPLE,
)
