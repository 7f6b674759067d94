"""What a check says: one finding per breach, with its place, its rule and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

if TYPE_CHECKING:
    from tasks.data.checking.target import Target

Severity = Literal["blocking", "warning"]


class Finding(msgspec.Struct, frozen=True):
    """One breach of one rule; line 0 is the file as a whole, `fixed` that a repair was applied."""

    file: str
    line: int
    field: str
    rule: str
    severity: Severity
    problem: str
    repair: str
    fixable: bool
    fixed: bool = False

    def __str__(self) -> str:
        place = f"{self.file} line {self.line}" if self.line else self.file
        where = f"{self.field}: " if self.field else ""
        return f"{place}: {where}{self.problem}; {self.repair} [{self.rule}]"


class Problem(NamedTuple):
    """What a rule finds, before it is known in which file and line."""

    field: str
    text: str
    repair: str
    fixable: bool = False
    drops: bool = False  # the repair takes the field out, with what it says


@dataclass(frozen=True)
class Turns:
    """The messages of a row, and where in the row they stand: at its top, or in one of the parts of a preference."""

    row: dict[str, Any]
    messages: list[dict[str, Any]]
    beside: dict[str, Any]  # has the tools: the row, or the `input` of a preference
    path: str  # of the messages

    @property
    def prefix(self) -> str:
        """What the field paths of that which stands beside the messages begin with."""
        return "input." if self.beside is not self.row else ""

    def at(self, index: int, key: str = "") -> str:
        """The field path of a message, or of something within it."""
        return f"{self.path}[{index}]" + (f".{key}" if key else "")


@dataclass(frozen=True)
class Rule:
    """A small judgement over the messages of a row, and perhaps a repair that changes nothing that is learned.

    `mend` repairs in place and does what it can; whether it was enough is found out by asking again.
    """

    name: str
    wants: str
    severity: Severity
    find: Callable[[Turns, Target], Iterator[Problem]]
    mend: Callable[[Turns, Target], None] | None = None
