"""Two versions of a dataset compared by content: what stayed, what came and went, and what is not as it was.

In memory are 72 bytes for each example of either version, whatever its length.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from tasks.data.record import Record, content_hash

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Positions = NDArray[np.int64]

DIGEST_BYTES = 16
BESIDE = tuple(name for name in Record.__struct_fields__ if name not in ("messages", "tools", "rejected"))
_TURN = ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning")
_ENCODER = msgspec.json.Encoder(order="deterministic")


@dataclass
class Version:
    """The digests of a dataset's examples, in its order: of content, prompt, what stands beside, and the agents."""

    contents: bytearray = field(default_factory=bytearray)
    prompts: bytearray = field(default_factory=bytearray)
    besides: bytearray = field(default_factory=bytearray)
    agents: bytearray = field(default_factory=bytearray)
    lines: array[int] = field(default_factory=lambda: array("Q"))

    def __len__(self) -> int:
        return len(self.lines)

    def see(self, record: Record, line: int) -> None:
        """Take an example, and the line it stands in."""
        content = bytes.fromhex(content_hash(record)[: 2 * DIGEST_BYTES])
        self.contents += content
        self.prompts += _prompt(record) or content  # what ends with no answer has no prompt but itself
        self.besides += _digest(beside(record))
        self.agents += _agents(record.source_agent, record.target_agent)
        self.lines.append(line)


class Pairs(NamedTuple):
    """Examples of both versions that belong together, by their positions from 0, in the order of the first."""

    before: Positions
    after: Positions

    def __len__(self) -> int:
        return len(self.before)


class Difference(NamedTuple):
    """Every example of both versions is in one of these, once."""

    kept: Pairs  # the same in everything
    relabelled: Pairs  # the same content, but something beside it is not
    reanswered: Pairs  # the same prompt, but another answer
    removed: Positions
    added: Positions


def compare(before: Version, after: Version) -> Difference:
    """Pair the examples of two versions, the most alike first; of equals the first with the first."""
    import numpy as np

    contents, prompts, besides, agents = (
        _ids(getattr(before, name), getattr(after, name)) for name in ("contents", "prompts", "besides", "agents")
    )
    left, right = np.arange(len(before)), np.arange(len(after))
    found: list[Pairs] = []
    # an agent's example is paired with its own before any other: many agents may have the same content or prompt
    same = [(_both(contents, besides),), (_both(contents, agents), contents)]
    same.append((_both(prompts, besides), _both(prompts, agents), prompts))
    for step in same:
        parts: list[Pairs] = []
        for keys in step:
            pairs = _pair(keys, left, right)
            left, right = np.setdiff1d(left, pairs.before), np.setdiff1d(right, pairs.after)
            parts.append(pairs)
        found.append(_joined(parts))
    kept, relabelled, reanswered = found
    return Difference(kept, relabelled, reanswered, left, right)


def beside(record: Record) -> bytes:
    """What is not content: the fields beside the messages, and the messages' weights."""
    return _ENCODER.encode([[getattr(record, name) for name in BESIDE], [turn.weight for turn in record.messages]])


def changed_fields(before: Record, after: Record) -> list[str]:
    """The fields beside the content in which two records differ."""
    changed = [name for name in BESIDE if getattr(before, name) != getattr(after, name)]
    weights = [[turn.weight for turn in record.messages] for record in (before, after)]
    return [*changed, *["messages[].weight"] * (weights[0] != weights[1])]


def at(records: Iterable[Record], positions: Iterable[int]) -> Iterator[Record]:
    """The records at these positions, which ascend; what follows the last one is not read."""
    wanted = iter(positions)
    position = next(wanted, None)
    if position is None:
        return
    for number, record in enumerate(records):
        if number == position:
            yield record
            position = next(wanted, None)
            if position is None:
                return


def _prompt(record: Record) -> bytes | None:
    """A digest of all that stands before the answer."""
    if len(record.messages) < 2 or record.messages[-1].role != "assistant":
        return None
    turns: list[Any] = [[getattr(message, name) for name in _TURN] for message in record.messages[:-1]]
    return _digest(_ENCODER.encode([turns, record.tools]))


@lru_cache(10_000)
def _agents(source: str | None, target: str | None) -> bytes:
    return _digest(_ENCODER.encode([source, target]))


def _digest(said: bytes) -> bytes:
    return hashlib.blake2b(said, digest_size=DIGEST_BYTES).digest()


class _Keys(NamedTuple):
    before: NDArray[np.int64]
    after: NDArray[np.int64]


def _ids(before: bytearray, after: bytearray) -> _Keys:
    """A number for every digest, the same for the same one in both versions."""
    import numpy as np

    halves = np.frombuffer(before + after, dtype=np.uint64).reshape(-1, 2)
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    new = np.ones(len(order), dtype=bool)
    new[1:] = (halves[order[1:]] != halves[order[:-1]]).any(axis=1)
    ids = np.empty(len(order), dtype=np.int64)
    ids[order] = np.cumsum(new)
    count = len(before) // DIGEST_BYTES
    return _Keys(ids[:count], ids[count:])


def _both(first: _Keys, second: _Keys) -> _Keys:
    """A number for every pair of two numbers."""
    width = max((int(part.max()) for part in second if len(part)), default=0) + 1
    return _Keys(first.before * width + second.before, first.after * width + second.after)


def _pair(keys: _Keys, left: Positions, right: Positions) -> Pairs:
    """Each key's first with its first, its second with its second …"""
    import numpy as np

    _, ids = np.unique(np.concatenate((keys.before[left], keys.after[right])), return_inverse=True)
    most = max(len(left), len(right)) + 1
    mine, theirs = ids[: len(left)], ids[len(left) :]
    _, one, other = np.intersect1d(
        mine * most + _ranks(mine), theirs * most + _ranks(theirs), assume_unique=True, return_indices=True
    )
    order = np.argsort(one)
    return Pairs(left[one[order]], right[other[order]])


def _ranks(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many equal ids stand before each."""
    import numpy as np

    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(ids) else np.empty(0, dtype=np.int64)
    sizes = np.diff(np.append(starts, len(ids)))
    ranks = np.empty(len(ids), dtype=np.int64)
    ranks[order] = np.arange(len(ids)) - np.repeat(starts, sizes)
    return ranks


def _joined(parts: list[Pairs]) -> Pairs:
    import numpy as np

    before, after = (np.concatenate([getattr(part, name) for part in parts]) for name in ("before", "after"))
    order = np.argsort(before, kind="stable")
    return Pairs(before[order], after[order])
