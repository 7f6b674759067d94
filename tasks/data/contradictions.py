"""The same prompt with different answers: what a model cannot learn, since it sees nothing to tell them apart by.

Compared are the last message and all that stands before it, both normalised. Different answers of different agents
are meant: those are counted as *variety*.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tasks.data.likeness.saying import GIVEN, digest, exchange, said
from tasks.data.likeness.shown import SHOWN_LINES, beginning, start_of
from tasks.data.scratch.holder import Holder
from tasks.data.scratch.numbering import Numbering
from tasks.data.scratch.rows import Rows, each_of
from tasks.data.scratch.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tasks.data.record import Message, Record
    from tasks.data.scratch.rows import Table

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
    unanswered: int  # examples that are no answer to anything, and were not looked at
    prompts: int  # distinct
    contradictory_prompts: int  # answered differently for the same agent, or for nobody in particular
    contradictory_examples: int
    varied_prompts: int  # answered differently, but each agent has one answer
    varied_examples: int
    contradictions: tuple[Contradiction, ...] = ()  # those with most examples first


class _Answer(msgspec.Struct):
    """One answer to a prompt, and the examples that have it."""

    examples: int = 0
    lines: list[int] = []  # the first few
    targets: set[int] = set()


class _Group(msgspec.Struct, frozen=True):
    """The examples of one prompt, by answer; the answers as they came."""

    prompt: int
    examples: int
    answers: dict[int, _Answer]

    @property
    def contradicts(self) -> bool:
        """Whether somebody has two of the answers; what is for nobody in particular is for everybody."""
        times = Counter(target for answer in self.answers.values() for target in answer.targets)
        return times[NOBODY] > 0 or max(times.values()) > 1


class ContradictionFinder(Holder):
    """Sees examples one by one, then tells which prompts have several answers; what it keeps of each lies on disk."""

    def __init__(self, options: ContradictionOptions | None = None) -> None:
        super().__init__()
        self.options = options or ContradictionOptions()
        opened, scratch = self.opened, self.options.scratch
        self._prompts, self._answers = opened(Numbering(scratch)), opened(Numbering(scratch))
        self._prompt_texts = opened(Spool(scratch))  # beginnings, by prompt
        self._answer_texts = opened(Spool(scratch))
        self._agents: dict[str | None, int] = {None: NOBODY}
        self._examples = opened(Rows(scratch, prompt="I", answer="I", target="I", line="Q"))
        self._unanswered = 0

    def see(self, record: Record, line: int) -> None:
        """Take an example, and the line it stands in."""
        if not record.messages or record.messages[-1].role != "assistant" or not _asks(record.messages[:-1]):
            self._unanswered += 1
            return
        found = exchange(record)
        prompt, answer = self._prompts.number(found.prompt), self._answers.number(digest(found.answer))
        if prompt == len(self._prompt_texts):
            self._prompt_texts.append(beginning(record).encode("utf-8", "replace"))
        if answer == len(self._answer_texts):
            self._answer_texts.append(start_of(said(record.messages[-1:])).encode("utf-8", "replace"))
        target = self._agents.setdefault(record.target_agent, len(self._agents))
        self._examples.append(prompt, answer, target, line)

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
            examples=len(self._examples) + self._unanswered,
            unanswered=self._unanswered,
            prompts=len(self._prompts),
            contradictory_prompts=prompts["contradictory"],
            contradictory_examples=examples["contradictory"],
            varied_prompts=prompts["varied"],
            varied_examples=examples["varied"],
            contradictions=tuple(map(self._contradiction, self._most(worst))),
        )

    def _groups(self) -> Iterator[_Group]:
        """The prompts that have more than one answer, as they came."""
        for table in self._examples.groups(lambda table: table["prompt"]):
            if (table["answer"] != table["answer"][0]).any():
                yield self._group(table)

    def _group(self, table: Table) -> _Group:
        answers: dict[int, _Answer] = defaultdict(_Answer)
        for _, number, target, line in each_of(table):
            answer = answers[number]
            answer.examples += 1
            answer.targets.add(target)
            if answer.examples <= SHOWN_LINES:
                answer.lines.append(line)
        return _Group(int(table["prompt"][0]), len(table), answers)

    def _most(self, groups: list[_Group]) -> list[_Group]:
        return sorted(groups, key=lambda group: (-group.examples, group.prompt))[: self.options.shown]

    def _contradiction(self, group: _Group) -> Contradiction:
        answers = sorted(group.answers.items(), key=lambda item: -item[1].examples)
        names = {number: name for name, number in self._agents.items()}
        shown = [
            ShownAnswer(
                text=self._answer_texts.read(number).decode(),
                examples=answer.examples,
                lines=tuple(answer.lines),
                agents=tuple(sorted(name for target in answer.targets if (name := names[target]) is not None)),
            )
            for number, answer in answers[: self.options.shown]
        ]
        text = self._prompt_texts.read(group.prompt).decode()
        return Contradiction(text=text, examples=group.examples, answers=tuple(shown))


def _asks(messages: Iterable[Message]) -> bool:
    """Whether there is a question; plain text has none, and standing instructions are none."""
    return bool(said(message for message in messages if message.role not in GIVEN))
