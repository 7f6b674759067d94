"""Examples into two sides, by nothing but their content: what is added later moves nothing that was there."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from queue_app.errors import Permanent
from queue_app.lifecycle import Cause
from tasks.data.examples import read_examples
from tasks.data.record import content_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tasks.data.record import Record

GroupBy = Literal["example", "answer", "document"]
SPAN = 2**64  # keys are below


@dataclass(frozen=True)
class Cut:
    """Which keys are held out: those below `threshold`."""

    seed: int
    group_by: GroupBy
    threshold: int

    def holds_out(self, example: Record) -> bool:
        return key_of(example, self.seed, self.group_by) < self.threshold


@dataclass(frozen=True)
class Overlap:
    """What two sides share without sharing an example, and what is in one side twice."""

    duplicates: int  # examples whose equal stands before them on the same side
    shared_answers: int  # held-out examples whose answer is also the answer to another request in training


def choose_cut(rows: Iterable[Record], holdout: float, seed: int, group_by: GroupBy = "example") -> Cut:
    """Where to cut for a share (below 1) or a number of examples to hold out.

    A share needs no look at the rows, and adding rows moves none that were there. A number is reached with the smallest
    keys; equal examples and whole documents may carry it past the number, and a row added later takes the place of at
    most one group.
    """
    if holdout < 1:
        return Cut(seed, group_by, int(holdout * SPAN))
    held = 0
    sizes = Counter(key_of(example, seed, group_by) for example in rows)
    for key in sorted(sizes):
        held += sizes[key]
        if held >= holdout:
            return Cut(seed, group_by, key + 1)
    raise Permanent(
        f"{holdout:.0f} examples cannot be held out of {held}; ask for fewer or give more", cause=Cause.DATA
    )


def key_of(example: Record, seed: int, group_by: GroupBy) -> int:
    """A number below `SPAN` that depends on the seed and what is grouped by, and on nothing else."""
    if group_by == "example":
        content = content_hash(example).encode()
    elif group_by == "answer":
        content = answer_of(example)
    elif example.origin is not None:
        content = example.origin.document.encode()
    else:
        raise Permanent(
            "this dataset does not tell its documents (an example has no origin); split it with group_by=example"
        )
    return int.from_bytes(hashlib.sha256(f"{seed}:".encode() + content).digest()[:8])


def answer_of(example: Record) -> bytes:
    return (example.messages[-1].content or "").encode()


def verify_apart(train: Path, holdout: Path) -> Overlap:
    """Read both sides back and prove that no example is in both.

    Raises:
        Permanent: one is; says how to split so that none is
    """
    trained, held = _Side(read_examples(train)), _Side(read_examples(holdout))
    both = trained.contents & held.contents
    if both:
        raise Permanent(
            f"{len(both)} examples stand in two documents that came to different sides; split with group_by=example, "
            "or remove the repetition",
            cause=Cause.DATA,
        )
    shared = sum(number for answer, number in held.answers.items() if answer in trained.answers)
    return Overlap(trained.duplicates + held.duplicates, shared)


class _Side:
    """Digests of what one side holds."""

    def __init__(self, examples: Iterator[Record]) -> None:
        self.contents: set[str] = set()
        self.answers: Counter[bytes] = Counter()
        self.duplicates = 0
        for example in examples:
            content = content_hash(example)
            self.duplicates += content in self.contents
            self.contents.add(content)
            self.answers[_digest(answer_of(example))] += 1


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:16]
