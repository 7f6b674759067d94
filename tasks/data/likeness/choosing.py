"""Which of several like examples stays, and what the others are to it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from tasks.data.likeness.reuse import NOBODY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Kind = Literal["exact", "normalised", "near", "reuse", "coincident"]
KINDS: tuple[Kind, ...] = get_args(Kind)
ACCIDENTS: tuple[Kind, ...] = ("exact", "normalised", "near")


class Member(NamedTuple):
    """One of the examples that are connected by likeness; most of its values are numbers that stand for others."""

    position: int
    line: int
    content: int
    wording: int
    conversation: int
    target: int
    parent: int
    rank: float  # the higher, the sooner it stays

    @property
    def told(self) -> bool:
        """Whether its lineage says for whom it is and whence it came."""
        return self.target != NOBODY and self.parent != NOBODY


class Likeness(NamedTuple):
    """What an example is to another one that stays."""

    member: Member
    kind: Kind
    twin: Member
    similarity: float


def choose(members: Iterable[Member], alike: Callable[[int, int], float]) -> Iterator[Likeness]:
    """What each is to a member that stays, of which those that stay the soonest come first; who has none, stays too.

    No two that stay are alike unless both are reuse or coincident, and what is an accident is alike to its twin itself,
    not by a chain of others. `alike` gives the similarity of two conversations, and 0 below the threshold.
    """
    staying: dict[int, list[Member]] = defaultdict(list)  # by wording
    for member in members:
        found = [(_likeness(member, kept[0], alike), kept) for kept in staying.values()]
        twins = [(similarity, twin) for similarity, kept in found if similarity for twin in kept]
        rivals = [(similarity, twin) for similarity, twin in twins if not _of_others(member, twin)]
        if not rivals:
            staying[member.wording].append(member)
        if twins:
            yield _closest(member, rivals, "near") if rivals else _closest(member, twins, "reuse")


def _likeness(member: Member, kept: Member, alike: Callable[[int, int], float]) -> float:
    return 1.0 if kept.wording == member.wording else alike(kept.conversation, member.conversation)


def _of_others(member: Member, twin: Member) -> bool:
    """Whether two examples are for different agents, and both say whence they came."""
    return member.told and twin.told and member.target != twin.target


def _closest(member: Member, twins: list[tuple[float, Member]], kind: Kind) -> Likeness:
    def closeness(pair: tuple[float, Member]) -> tuple[bool, bool, bool, float, int]:
        similarity, twin = pair
        related = kind == "reuse" and twin.parent == member.parent
        return related, twin.content == member.content, twin.wording == member.wording, similarity, -twin.position

    similarity, twin = max(twins, key=closeness)
    if kind == "reuse":
        return Likeness(member, "reuse" if twin.parent == member.parent else "coincident", twin, similarity)
    if twin.wording == member.wording:
        return Likeness(member, "exact" if twin.content == member.content else "normalised", twin, 1.0)
    return Likeness(member, "near", twin, similarity)
