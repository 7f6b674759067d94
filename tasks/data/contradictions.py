"""The same prompt with different answers: what a model cannot learn, since it sees nothing to tell them apart by.

Compared are the last message and all that stands before it, both normalised. Different answers of different agents
are meant: those are counted as *variety*.
"""

from __future__ import annotations

from array import array
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tasks.data.likeness.numbering import Numbering
from tasks.data.likeness.saying import digest, exchange, said
from tasks.data.likeness.shown import SHOWN_LINES, beginning, start_of
from tasks.data.likeness.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from tasks.data.record import Record

NOBODY = 0


class ContradictionOptions(msgspec.Struct, frozen=True):
    """How much of what is found stands in the report."""

    shown: int = 10
    scratch: Path | None = None  # folder for an unnamed file; None: the system's


class ShownAnswer(msgspec.Struct, frozen=True):
    """One of the answers to a prompt."""

    text: str  # its beginning, with what is personal in it
    examples: int
    lines: tuple[int, ...]  # the first few
    agents: tuple[str, ...]  # for whom it is, where that is told


class Contradiction(msgspec.Struct, frozen=True):
    """A prompt that is answered in several ways."""

    text: str  # the beginning of the prompt, with what is personal in it
    examples: int
    answers: tuple[ShownAnswer, ...]  # the most frequent first


class ContradictionReport(msgspec.Struct, frozen=True):
    """Counts; the order of the examples does not matter to them."""

    examples: int
    unanswered: int  # examples that do not end with the assistant, and were not looked at
    prompts: int  # distinct
    contradictory_prompts: int  # answered differently for the same agent, or for nobody in particular
    contradictory_examples: int
    varied_prompts: int  # answered differently, but each agent has one answer
    varied_examples: int
    contradictions: tuple[Contradiction, ...] = ()  # those with most examples first


class _Group(msgspec.Struct, frozen=True):
    """The examples of one prompt: their positions by answer, and by answer for whom they are."""

    answers: dict[int, list[int]]
    targets: dict[int, set[int]]

    @property
    def examples(self) -> int:
        return sum(map(len, self.answers.values()))

    @property
    def first(self) -> int:
        return min(positions[0] for positions in self.answers.values())

    @property
    def contradicts(self) -> bool:
        """Whether somebody has two of the answers; what is for nobody in particular is for everybody."""
        times = Counter(target for targets in self.targets.values() for target in targets)
        return times[NOBODY] > 0 or max(times.values()) > 1


class ContradictionFinder:
    """Sees examples one by one, then tells which prompts have several answers; some 100 bytes for each example."""

    def __init__(self, options: ContradictionOptions | None = None) -> None:
        self.options = options or ContradictionOptions()
        self._stack = ExitStack()
        self._prompts, self._answers = Numbering(), Numbering()
        self._prompt_texts = self._stack.enter_context(Spool(self.options.scratch))  # beginnings, by prompt
        self._answer_texts = self._stack.enter_context(Spool(self.options.scratch))
        self._agents: dict[str | None, int] = {None: NOBODY}
        self._prompt, self._answer, self._target = array("I"), array("I"), array("I")  # of each example
        self._line = array("Q")
        self._unanswered = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def see(self, record: Record, line: int) -> None:
        """Take an example, and the line it stands in."""
        if not record.messages or record.messages[-1].role != "assistant":
            self._unanswered += 1
            return
        found = exchange(record)
        prompt, answer = self._prompts.number(found.prompt), self._answers.number(digest(found.answer))
        if prompt == len(self._prompt_texts):
            self._prompt_texts.append(beginning(record).encode("utf-8", "replace"))
        if answer == len(self._answer_texts):
            self._answer_texts.append(start_of(said(record.messages[-1:])).encode("utf-8", "replace"))
        self._prompt.append(prompt)
        self._answer.append(answer)
        self._target.append(self._agents.setdefault(record.target_agent, len(self._agents)))
        self._line.append(line)

    def finish(self) -> ContradictionReport:
        """Find what contradicts itself among all that was seen."""
        prompts: Counter[str] = Counter()
        examples: Counter[str] = Counter()
        worst: list[_Group] = []
        for group in self._groups():
            kind = "contradictory" if group.contradicts else "varied"
            prompts[kind] += 1
            examples[kind] += group.examples
            if kind == "contradictory":
                worst.append(group)
            if len(worst) > 2 * self.options.shown:
                worst = self._most(worst)
        return ContradictionReport(
            examples=len(self._line) + self._unanswered,
            unanswered=self._unanswered,
            prompts=len(self._prompts),
            contradictory_prompts=prompts["contradictory"],
            contradictory_examples=examples["contradictory"],
            varied_prompts=prompts["varied"],
            varied_examples=examples["varied"],
            contradictions=tuple(map(self._contradiction, self._most(worst))),
        )

    def _groups(self) -> Iterator[_Group]:
        """The prompts that have more than one answer."""
        import numpy as np  # noqa: PLC0415  (slow to import, and needed only here)

        if not self._line:
            return
        prompts = np.asarray(self._prompt)
        order = np.argsort(prompts, kind="stable")
        ends = np.cumsum(np.bincount(prompts))
        begins = np.append(0, ends[:-1])
        answers = np.asarray(self._answer)[order]
        several = np.minimum.reduceat(answers, begins) < np.maximum.reduceat(answers, begins)
        for prompt in np.flatnonzero(several):
            yield self._group(order[begins[prompt] : ends[prompt]].tolist())

    def _group(self, positions: list[int]) -> _Group:
        group = _Group({}, {})
        for position in positions:
            group.answers.setdefault(self._answer[position], []).append(position)
            group.targets.setdefault(self._answer[position], set()).add(self._target[position])
        return group

    def _most(self, groups: list[_Group]) -> list[_Group]:
        return sorted(groups, key=lambda group: (-group.examples, group.first))[: self.options.shown]

    def _contradiction(self, group: _Group) -> Contradiction:
        answers = sorted(group.answers.items(), key=lambda item: (-len(item[1]), item[1][0]))
        names = {number: name for name, number in self._agents.items()}
        shown = [
            ShownAnswer(
                text=self._answer_texts.read(answer).decode(),
                examples=len(positions),
                lines=tuple(self._line[position] for position in positions[:SHOWN_LINES]),
                agents=tuple(sorted(name for target in group.targets[answer] if (name := names[target]) is not None)),
            )
            for answer, positions in answers[: self.options.shown]
        ]
        text = self._prompt_texts.read(self._prompt[group.first]).decode()
        return Contradiction(text=text, examples=group.examples, answers=tuple(shown))
