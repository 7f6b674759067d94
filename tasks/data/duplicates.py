"""Examples that are in a dataset more than once: word for word, but for case and spaces, or nearly.

Nearly is as alike as asked for over the whole, and nearly so in the prompt: one long answer to many questions is none.

A copy is *reuse* where one base example was given to several agents, and an accident where an agent has it twice, or
where nothing tells whence it came. Like examples of different bases at different agents are neither: *coincident*.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from tasks.data.likeness import near_texts
from tasks.data.likeness.choosing import ACCIDENTS, KINDS, Kind, Member, choose
from tasks.data.likeness.reuse import NOBODY, Lineage, lineage_of
from tasks.data.likeness.saying import DIGEST_BYTES, digest, saying
from tasks.data.likeness.shown import SHOWN_LINES, beginning
from tasks.data.record import content_hash
from tasks.data.scratch.holder import Holder
from tasks.data.scratch.numbering import Numbering
from tasks.data.scratch.rows import Rows, each_of
from tasks.data.scratch.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.record import Record
    from tasks.data.scratch.rows import Table

Keep = Literal["first", "longest", "heaviest"]
UNTOLD = Lineage(NOBODY, NOBODY)
MEMBER = {
    "position": "Q", "line": "Q", "content": "I", "wording": "I", "conversation": "I", "target": "Q", "parent": "Q",
    "rank": "d",
}  # fmt: skip
COPY = {"position": "Q", "line": "Q", "kind": "B", "twin": "Q", "similarity": "f"}


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

    position: int  # among all that went by, from 0
    line: int
    kind: Kind
    twin: int
    similarity: float


class DuplicateFinder(Holder):
    """Sees examples one by one, then tells which are copies.

    In memory are 4 bytes for each distinct conversation, and what is bounded; the rest lies in unnamed files.
    """

    def __init__(self, options: DuplicateOptions | None = None) -> None:
        super().__init__()
        self.options = options = options or DuplicateOptions()
        opened, scratch = self.opened, options.scratch
        self._near = opened(near_texts(options.near, options.shingle, scratch)) if options.near is not None else None
        self._beginnings = opened(Spool(scratch))  # of each wording
        self._contents, self._wordings = opened(Numbering(scratch)), opened(Numbering(scratch))
        self._conversations = opened(Numbering(scratch))  # equal ones are compared with others once
        self._compared = opened(Rows(scratch, wording="I", conversation="I"))  # of each content
        self._members = opened(Rows(scratch, **MEMBER))
        self._copies = opened(Rows(scratch, **COPY))
        self._position = 0

    def see(self, record: Record, line: int) -> None:
        """Take an example, and the line it stands in."""
        content = self._contents.number(bytes.fromhex(content_hash(record)[: 2 * DIGEST_BYTES]))
        if content == len(self._compared):
            self._compared.append(*self._compare(record))
        told = lineage_of(record) if self.options.tell_reuse else UNTOLD
        compared = self._compared.read(content)
        self._members.append(self._position, line, content, *compared, told.target, told.parent, self._rank(record))
        self._position += 1

    def pass_over(self) -> None:
        """Count an example that is not looked at."""
        self._position += 1

    def finish(self) -> DuplicateReport:
        """Find the copies among all that was seen; once, at the end."""
        kinds: Counter[str] = Counter()
        clusters: list[tuple[Cluster, int]] = []  # with the wording of each
        count = clustered = 0
        for members in self._groups():
            cluster = self._cluster(members)
            if cluster is None:
                continue
            count += 1
            clustered += cluster.examples
            kinds.update(cluster.kinds)
            clusters.append((cluster, int(members["wording"][0])))
            if len(clusters) > 2 * self.options.shown:
                clusters = self._worst(clusters)
        return DuplicateReport(
            examples=len(self._members),
            distinct=len(self._wordings),
            **{kind: kinds[kind] for kind in KINDS},
            cluster_count=count,
            clustered=clustered,
            uncompared=self._near.uncompared if self._near is not None else 0,
            clusters=tuple(
                msgspec.structs.replace(cluster, text=self._beginnings.read(wording).decode())
                for cluster, wording in self._worst(clusters)
            ),
        )

    def copies(self) -> Iterator[Copy]:
        """Every copy that the last `finish` found, in the order of the examples."""
        for table in self._copies.ordered(lambda table: table["position"]):
            for position, line, kind, twin, similarity in each_of(table):
                yield Copy(position, line, KINDS[kind], twin, similarity)

    def _compare(self, record: Record) -> tuple[int, int]:
        """The numbers of what is compared of it: its wording and its conversation."""
        compared = saying(record)
        wording = self._wordings.number(compared.wording)
        if wording == len(self._beginnings):
            self._beginnings.append(beginning(record).encode("utf-8", "replace"))
        if self._near is None:
            return wording, wording
        conversation = self._conversations.number(digest(compared.conversation))
        if conversation == len(self._near):
            self._near.add(compared.conversation, compared.asked)
        return wording, conversation

    def _rank(self, record: Record) -> float:
        if self.options.keep == "longest":
            return sum(len(message.content or "") for message in record.messages)
        if self.options.keep == "heaviest":
            return 1.0 if record.weight is None else record.weight
        return 0.0

    def _groups(self) -> Iterator[Table]:
        """The examples that are connected, group by group, where that is two or more."""
        import numpy as np

        if self._near is None:
            return self._members.groups(lambda table: table["conversation"])
        roots = np.asarray(self._near.components())
        return self._members.groups(lambda table: roots[table["conversation"]])

    def _cluster(self, members: Table) -> Cluster | None:
        """The examples of a group, its copies noted; none where it has no copies."""
        kinds: Counter[str] = Counter()
        least = 1.0
        for member, kind, twin, similarity in choose(_soonest_first(members), self._alike):
            kinds[kind] += 1
            least = min(least, similarity)
            self._copies.append(member.position, member.line, KINDS.index(kind), twin.line, similarity)
        if not kinds:
            return None
        lines = tuple(members["line"][:SHOWN_LINES].tolist())
        return Cluster("", len(members), lines, dict(kinds), round(least, 4))

    def _alike(self, one: int, other: int) -> float:
        if one == other:
            return 1.0
        assert self._near is not None, "only near texts are connected without being the same"
        similarity = self._near.similarity(one, other)
        return similarity if similarity >= self._near.sketch.threshold else 0.0

    def _worst(self, clusters: list[tuple[Cluster, int]]) -> list[tuple[Cluster, int]]:
        ordered = sorted(clusters, key=lambda pair: (-pair[0].accidental, -pair[0].examples, pair[0].lines))
        return ordered[: self.options.shown]


def _soonest_first(members: Table) -> Iterator[Member]:
    """The members as `choose` wants them: lineage that is told before none, then the higher rank, then the first."""
    import numpy as np

    told = (members["target"] != NOBODY) & (members["parent"] != NOBODY)
    return map(Member._make, each_of(members[np.lexsort((-members["rank"], ~told))]))
