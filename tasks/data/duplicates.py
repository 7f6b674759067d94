"""Examples that are in a dataset more than once: word for word, but for case and spaces, or nearly.

Nearly is as alike as asked for over the whole, and nearly so in the prompt: one long answer to many questions is none.

A copy is *reuse* where one base example was given to several agents, and an accident where an agent has it twice, or
where nothing tells whence it came. Like examples of different bases at different agents are neither: *coincident*.
"""

from __future__ import annotations

from array import array
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from tasks.data.likeness.choosing import ACCIDENTS, KINDS, Kind, Likeness, Member, choose
from tasks.data.likeness.numbering import Numbering
from tasks.data.likeness.reuse import NOBODY, Lineage, Lineages
from tasks.data.likeness.saying import DIGEST_BYTES, digest, saying
from tasks.data.likeness.shown import SHOWN_LINES, beginning
from tasks.data.likeness.spool import Spool
from tasks.data.record import content_hash

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from tasks.data.likeness.near import NearTexts
    from tasks.data.likeness.saying import Saying
    from tasks.data.record import Record

Keep = Literal["first", "longest", "heaviest"]


class DuplicateOptions(msgspec.Struct, frozen=True):
    """What counts as a copy, and which of several copies stays."""

    near: float | None = 0.85  # least Jaccard similarity of the shingles, above 0 up to 1; None: no near ones
    shingle: int = 5  # characters
    keep: Keep = "first"
    tell_reuse: bool = True  # False: a copy is a copy, whoever it is for
    shown: int = 10  # clusters in the report
    scratch: Path | None = None  # folder for unnamed files of up to about the dataset's size; None: the system's


class Cluster(msgspec.Struct, frozen=True):
    """Examples connected by likeness."""

    text: str  # the beginning of the first one, with what is personal in it
    examples: int
    lines: tuple[int, ...]  # the first few, in order
    kinds: dict[str, int]  # copies, by what they are
    similarity: float  # the least between a copy and its twin

    @property
    def accidental(self) -> int:
        return sum(self.kinds.get(kind, 0) for kind in ACCIDENTS)


class DuplicateReport(msgspec.Struct, frozen=True):
    """Copies by what they are: every example but those that are the first of their kind is one of them.

    `examples`, `distinct`, `clustered` and `cluster_count` do not depend on the order of the examples.
    """

    examples: int
    distinct: int  # wordings, after normalising
    exact: int  # accidents: the content is the same
    normalised: int  # accidents: the same but for case, white space, compatibility forms
    near: int  # accidents: as alike as the threshold, or more
    reuse: int  # intended: the same base for another agent
    coincident: int  # like another base's, for another agent
    cluster_count: int
    clustered: int  # examples in clusters
    uncompared: int  # candidate pairs left out where very many texts are made after one pattern
    clusters: tuple[Cluster, ...] = ()  # those with most accidents first

    @property
    def accidental(self) -> int:
        return self.exact + self.normalised + self.near


class Copy(NamedTuple):
    """An example that is one too many, or may be: what it is, and the line of the one that stays."""

    line: int
    kind: Kind
    twin: int
    similarity: float


class DuplicateFinder:
    """Sees examples one by one, then tells which are copies.

    In memory are about 30 bytes for each example and 120 for each distinct one, whatever their length.
    """

    def __init__(self, options: DuplicateOptions | None = None) -> None:
        self.options = options or DuplicateOptions()
        self._stack = ExitStack()
        self._near = self._stack.enter_context(_near_texts(self.options)) if self.options.near is not None else None
        self._beginnings = self._stack.enter_context(Spool(self.options.scratch))  # of each wording
        self._contents, self._wordings, self._lineages = Numbering(), Numbering(), Lineages()
        self._wording = array("I")  # of each content
        self._conversations = Numbering()  # equal ones are compared with others once
        self._conversation = array("I")  # of each wording
        self._content, self._target, self._parent = array("I"), array("I"), array("I")  # of each example
        self._line = array("Q")
        self._rank = array("d")  # empty where the first stays
        self._copy_line, self._copy_twin = array("Q"), array("Q")
        self._copy_kind, self._copy_similarity = array("B"), array("f")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def see(self, record: Record, line: int) -> None:
        """Take an example, and the line it stands in."""
        content = self._contents.number(bytes.fromhex(content_hash(record)[: 2 * DIGEST_BYTES]))
        if content == len(self._wording):
            self._wording.append(self._wording_of(record))
        lineage = self._lineages.of(record) if self.options.tell_reuse else Lineage(NOBODY, NOBODY)
        self._content.append(content)
        self._target.append(lineage.target)
        self._parent.append(lineage.parent)
        self._line.append(line)
        if self.options.keep == "longest":
            self._rank.append(sum(len(message.content or "") for message in record.messages))
        elif self.options.keep == "heaviest":
            self._rank.append(1.0 if record.weight is None else record.weight)

    def finish(self) -> DuplicateReport:
        """Find the copies among all that was seen; once, at the end."""
        kinds: Counter[str] = Counter()
        clusters: list[Cluster] = []
        count = clustered = 0
        for members in self._groups():
            likenesses = list(choose(members, self._alike))
            if not likenesses:
                continue
            count += 1
            clustered += len(members)
            for likeness in likenesses:
                self._note(likeness)
            clusters.append(self._cluster(members, likenesses))
            kinds.update(clusters[-1].kinds)
            if len(clusters) > 2 * self.options.shown:
                clusters = self._worst(clusters)
        return DuplicateReport(
            examples=len(self._line),
            distinct=len(self._wordings),
            **{kind: kinds[kind] for kind in KINDS},
            cluster_count=count,
            clustered=clustered,
            uncompared=self._near.uncompared if self._near is not None else 0,
            clusters=tuple(self._worst(clusters)),
        )

    def copies(self) -> Iterator[Copy]:
        """Every copy that the last `finish` found, in the order of lines."""
        import numpy as np  # noqa: PLC0415  (slow to import, and needed only here)

        for at in np.argsort(np.asarray(self._copy_line), kind="stable"):
            kind = KINDS[self._copy_kind[at]]
            yield Copy(self._copy_line[at], kind, self._copy_twin[at], self._copy_similarity[at])

    def _wording_of(self, record: Record) -> int:
        compared = saying(record)
        number = self._wordings.number(compared.wording)
        if number == len(self._beginnings):
            self._beginnings.append(beginning(record).encode("utf-8", "replace"))
            if self._near is not None:
                self._conversation.append(self._conversation_of(compared))
        return number

    def _conversation_of(self, compared: Saying) -> int:
        assert self._near is not None
        number = self._conversations.number(digest(compared.conversation))
        if number == len(self._near):
            self._near.add(compared.conversation, compared.asked)
        return number

    def _groups(self) -> Iterator[list[Member]]:
        """The examples that are connected, group by group, where that is two or more."""
        import numpy as np  # noqa: PLC0415  (slow to import, and needed only here)

        if not self._line:
            return
        roots = np.asarray(self._roots())[np.asarray(self._wording)[np.asarray(self._content)]]
        order = np.argsort(roots, kind="stable")
        sizes = np.bincount(roots)
        ends = np.cumsum(sizes)
        for root in np.flatnonzero(sizes > 1):
            yield [self._member(position) for position in order[ends[root] - sizes[root] : ends[root]].tolist()]

    def _roots(self) -> array[int]:
        """The component of each wording."""
        if self._near is None:
            return array("I", range(len(self._wordings)))
        roots = self._near.components()
        return array("I", (roots[conversation] for conversation in self._conversation))

    def _member(self, position: int) -> Member:
        content, rank = self._content[position], self._rank[position] if self._rank else 0.0
        return Member(position, self._wording[content], content, self._target[position], self._parent[position], rank)

    def _alike(self, one: int, other: int) -> float:
        assert self._near is not None, "only near texts are connected without being the same"
        one, other = self._conversation[one], self._conversation[other]
        similarity = 1.0 if one == other else self._near.similarity(one, other)
        return similarity if similarity >= self._near.sketch.threshold else 0.0

    def _note(self, likeness: Likeness) -> None:
        self._copy_line.append(self._line[likeness.member.position])
        self._copy_kind.append(KINDS.index(likeness.kind))
        self._copy_twin.append(self._line[likeness.twin.position])
        self._copy_similarity.append(likeness.similarity)

    def _cluster(self, members: list[Member], likenesses: list[Likeness]) -> Cluster:
        first = min(members)
        return Cluster(
            text=self._beginnings.read(first.wording).decode(),
            examples=len(members),
            lines=tuple(self._line[member.position] for member in members[:SHOWN_LINES]),
            kinds=dict(Counter(likeness.kind for likeness in likenesses)),
            similarity=round(min(likeness.similarity for likeness in likenesses), 4),
        )

    def _worst(self, clusters: list[Cluster]) -> list[Cluster]:
        ordered = sorted(clusters, key=lambda cluster: (-cluster.accidental, -cluster.examples, cluster.lines))
        return ordered[: self.options.shown]


def _near_texts(options: DuplicateOptions) -> NearTexts:
    from tasks.data.likeness.minhash import Sketch  # noqa: PLC0415  (numpy is slow to import)
    from tasks.data.likeness.near import NearTexts  # noqa: PLC0415

    assert options.near is not None
    return NearTexts(Sketch(options.near, options.shingle), options.scratch)
