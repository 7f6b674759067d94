"""Examples that are in another dataset too, which they must not be: a holdout, or a benchmark."""

from __future__ import annotations

from array import array
from collections import Counter
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import msgspec

from tasks.data.likeness import near_texts
from tasks.data.likeness.saying import digest, saying
from tasks.data.likeness.shown import beginning
from tasks.data.scratch.holder import Holder
from tasks.data.scratch.numbering import Numbering
from tasks.data.scratch.rows import Rows, each_of
from tasks.data.scratch.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.likeness.overlap import Runs
    from tasks.data.likeness.saying import Saying
    from tasks.data.record import Record

LeakKind = Literal["same", "prompt", "near", "overlap"]
BATCH_TEXTS = 512  # looked through at once
LEAK_KINDS: tuple[LeakKind, ...] = get_args(LeakKind)


class LeakOptions(msgspec.Struct, frozen=True):
    """From when on an example counts as known from another dataset."""

    prompt: int | None = 24  # least bytes of a prompt that counts, some five words; None: prompts alone are no leaks
    near: float | None = 0.85  # least Jaccard similarity of the shingles; None: no near ones
    shingle: int = 5  # characters
    run: int | None = 13  # words in a row that both have; None: not looked for
    share: float = 0.0  # least share of the other example's runs; 0: a single one is enough
    shown: int = 10
    scratch: Path | None = None  # folder for unnamed files of up to about the datasets' size; None: the system's


class Leak(NamedTuple):
    """An example, and the one of another dataset that it repeats."""

    position: int  # among all that were seen, from 0
    line: int
    kind: LeakKind
    dataset: str
    twin: int  # line in that dataset
    similarity: float  # near: Jaccard's; overlap: the share of the twin's runs


class ShownLeak(msgspec.Struct, frozen=True):
    """A leak as it stands in a report."""

    text: str  # the beginning of the example, with what is personal in it
    line: int
    kind: LeakKind
    dataset: str
    twin: int
    similarity: float


class LeakReport(msgspec.Struct, frozen=True):
    """Leaks by what they are; each example is counted once, under the first kind that it is."""

    examples: int
    known: dict[str, int]  # examples of each other dataset
    same: int  # but for case, white space, compatibility forms
    prompt: int  # the same question, whatever the answer and the standing instructions
    near: int
    overlap: int
    common_runs: int  # runs of words in so many known examples that they were not looked for
    uncompared: int  # candidate pairs left out where very many texts are made after one pattern
    leaks: tuple[ShownLeak, ...] = ()  # the first few

    @property
    def leaked(self) -> int:
        return self.same + self.prompt + self.near + self.overlap


class _Found(NamedTuple):
    kind: LeakKind
    known: int
    similarity: float


class LeakFinder(Holder):
    """Knows the examples of other datasets, sees those of one, then tells which of these are known.

    In memory are some 30 bytes for each word of the known ones, 4 for each distinct example and 200 for each that
    leaks; the rest lies in unnamed files.
    """

    def __init__(self, options: LeakOptions | None = None) -> None:
        super().__init__()
        self.options = options = options or LeakOptions()
        opened, scratch = self.opened, options.scratch
        self._near = opened(near_texts(options.near, options.shingle, scratch)) if options.near is not None else None
        self._runs = _known_runs(self.options.run) if self.options.run is not None else None
        self._known, self._known_wordings = Counter[str](), opened(Numbering(scratch))
        self._prompts = opened(Numbering(scratch))  # known ones
        self._prompt_of = array("I")  # a known wording of each
        self._datasets: list[str] = []
        self._known_dataset, self._known_line = array("I"), array("Q")  # of each known wording
        self._wordings = opened(Numbering(scratch))
        self._examples = opened(Rows(scratch, wording="I", line="Q"))
        self._waiting: list[tuple[int, str]] = []  # wordings and texts to be looked through for runs
        self._found: dict[int, _Found] = {}  # by wording
        self._beginnings = opened(Spool(scratch))  # of each wording

    def know(self, record: Record, line: int, dataset: str) -> None:
        """Take an example of another dataset; all of these come before the first `see`."""
        if dataset not in self._known:
            self._datasets.append(dataset)
        self._known[dataset] += 1
        compared = saying(record)
        if self._known_wordings.number(compared.wording) < len(self._known_line):
            return
        self._known_dataset.append(self._datasets.index(dataset))
        self._known_line.append(line)
        prompt = self._prompt_digest(compared)
        if prompt is not None and self._prompts.number(prompt) == len(self._prompt_of):
            self._prompt_of.append(len(self._known_line) - 1)
        if self._near is not None:
            self._near.add(compared.conversation, compared.asked)
        if self._runs is not None:
            self._runs.know(compared.conversation)

    def see(self, record: Record, line: int) -> None:
        """Take an example, and the line it stands in."""
        if self._runs is not None and not len(self._examples):
            self._runs.freeze()
        compared = saying(record)
        new = len(self._wordings)
        number = self._wordings.number(compared.wording)
        self._examples.append(number, line)
        if number != new:
            return
        self._beginnings.append(beginning(record).encode("utf-8", "replace"))
        if self._near is not None:
            self._near.add(compared.conversation, compared.asked)
        if (known := self._known_wordings.find(compared.wording)) is not None:
            self._found[number] = _Found("same", known, 1.0)
        elif (known := self._known_prompt(compared)) is not None:
            self._found[number] = _Found("prompt", known, 1.0)
        elif self._runs is not None:
            self._waiting.append((number, compared.conversation))
            if len(self._waiting) == BATCH_TEXTS:
                self._find_overlaps(self._runs)

    def finish(self) -> LeakReport:
        """Find what leaked of all that was seen; once, at the end."""
        if self._runs is not None:
            self._find_overlaps(self._runs)
        self._find_near()
        kinds = Counter(leak.kind for leak in self.leaks())
        return LeakReport(
            examples=len(self._examples),
            known=dict(self._known),
            **{kind: kinds[kind] for kind in LEAK_KINDS},
            common_runs=self._runs.common if self._runs is not None else 0,
            uncompared=self._near.uncompared if self._near is not None else 0,
            leaks=self._shown(),
        )

    def leaks(self) -> Iterator[Leak]:
        """Every example that leaked, in order."""
        return (leak for _, leak in self._leaking())

    def _known_prompt(self, compared: Saying) -> int | None:
        prompt = self._prompt_digest(compared)
        number = None if prompt is None else self._prompts.find(prompt)
        return None if number is None else self._prompt_of[number]

    def _prompt_digest(self, compared: Saying) -> bytes | None:
        least, prompt = self.options.prompt, compared.prompt
        return None if least is None or len(prompt.encode("utf-8", "replace")) < least else digest(prompt)

    def _find_overlaps(self, runs: Runs) -> None:
        for place, shared in runs.find([text for _, text in self._waiting]).items():
            if shared.share >= self.options.share:
                self._found[self._waiting[place][0]] = _Found("overlap", shared.known, shared.share)
        self._waiting.clear()

    def _find_near(self) -> None:
        if self._near is None:
            return
        border = len(self._known_wordings)
        for known, seen, similarity in self._near.pairs(self._may_be_nearer, border):
            found = self._found.get(seen - border)
            if found is None or found.kind == "overlap" or similarity > found.similarity:
                self._found[seen - border] = _Found("near", known, similarity)

    def _may_be_nearer(self, known: int, seen: int) -> bool:
        found = self._found.get(seen - len(self._known_wordings))
        return found is None or found.kind == "overlap" or (found.kind == "near" and found.known != known)

    def _shown(self) -> tuple[ShownLeak, ...]:
        first = list(islice(self._leaking(), self.options.shown))
        return tuple(ShownLeak(self._beginnings.read(wording).decode(), *leak[1:]) for wording, leak in first)

    def _leaking(self) -> Iterator[tuple[int, Leak]]:
        """The examples that leaked, each behind its wording."""
        rows = chain.from_iterable(map(each_of, self._examples.tables()))
        for position, (wording, line) in enumerate(rows):
            if (found := self._found.get(wording)) is not None:
                dataset = self._datasets[self._known_dataset[found.known]]
                twin = self._known_line[found.known]
                yield wording, Leak(position, line, found.kind, dataset, twin, found.similarity)


def _known_runs(words: int) -> Runs:
    from tasks.data.likeness.overlap import Runs  # noqa: PLC0415  (numpy is slow to import)

    return Runs(words)
