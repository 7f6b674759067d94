"""What keeps a row from being trained on here, by the words of the training itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tasks.data.checking.finding import Problem, Rule, Turns
from tasks.data.record import Record
from tasks.data.rules import problem_of
from tasks.data.wording import shape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.checking.target import Target

_REPAIR = "change it, or leave the example out"


def _not_trainable(turns: Turns, target: Target) -> Iterator[Problem]:
    if target.name != "local":
        return
    try:
        problem = problem_of(msgspec.convert(turns.row, Record))
    except ValueError as error:
        yield Problem(*shape(error))
        return
    if problem is not None:
        field, _, text = problem.partition(": ")
        yield Problem(field, text, _REPAIR)


# asked only where no other rule blocks: it says again, in other words, what they say
RULES = (Rule("trainable", "what training here takes", "blocking", _not_trainable),)
