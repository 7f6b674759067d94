"""Texts that are nearly the same: found by MinHash and locality-sensitive hashing, then compared for real."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from contextlib import ExitStack
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tasks.data.likeness.minhash import Sketch, similarity
from tasks.data.likeness.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

BATCH_CHARACTERS = 1 << 17  # sketched at once: the work on them stays in the processor's cache
NEIGHBOURS = 64  # compared with a text in one bucket; more only where thousands are made after one pattern
KEPT_TEXTS = 4096  # whose shingles are not computed again


class NearTexts:
    """Normalised texts of which those that are alike are asked for.

    In memory are 8 bytes for each text, and while it is asked some 40 more; texts and band keys lie in a file.
    """

    def __init__(self, sketch: Sketch, folder: Path | None = None) -> None:
        self.sketch = sketch
        self.uncompared = 0  # pairs of one bucket beyond NEIGHBOURS; others may connect them all the same
        self._stack = ExitStack()
        self._texts = self._stack.enter_context(Spool(folder))
        self._keys = self._stack.enter_context(Spool(folder))  # the bands' of the first batch, of the second …; uint64
        self._batch: list[str] = []
        self._batch_characters = 0
        self._shingles = lru_cache(KEPT_TEXTS)(self._shingles_of)

    def __len__(self) -> int:
        return len(self._texts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def add(self, text: str) -> int:
        """Take a text and give its number, counted from 0."""
        self._texts.append(text.encode("utf-8", "surrogatepass"))
        self._batch.append(text)
        self._batch_characters += len(text)
        if self._batch_characters >= BATCH_CHARACTERS:
            self._sketch_batch()
        return len(self._texts) - 1

    def text(self, number: int) -> str:
        return self._texts.read(number).decode("utf-8", "surrogatepass")

    def similarity(self, one: int, other: int) -> float:
        """Jaccard's, of the two texts' shingles."""
        return similarity(self._shingles(one), self._shingles(other))

    def pairs(self, wanted: Callable[[int, int], bool], border: int = 0) -> Iterator[tuple[int, int, float]]:
        """Pairs (smaller number first) that are as alike as the threshold, and how alike; some of them twice.

        `wanted` is asked before a pair is compared, so what was yielded can spare comparisons. With a border, only
        numbers below it are paired with those from it on.
        """
        refused: set[tuple[int, int]] = set()
        for pair in self._candidates(border):
            if pair in refused or not wanted(*pair):
                continue
            alike = self.similarity(*pair)
            if alike >= self.sketch.threshold:
                yield (*pair, alike)
            else:
                refused.add(pair)

    def components(self) -> array[int]:
        """For each text the smallest number among those it is connected to by likeness, by any chain of pairs."""
        joined = Components(len(self))
        for one, other, _ in self.pairs(lambda one, other: joined.root(one) != joined.root(other)):
            joined.join(one, other)
        return array("I", map(joined.root, range(len(self))))

    def _sketch_batch(self) -> None:
        if self._batch:
            for keys in self.sketch.band_keys(self._batch):
                self._keys.append(keys.tobytes())
        self._batch, self._batch_characters = [], 0

    def _candidates(self, border: int) -> Iterator[tuple[int, int]]:
        for bucket in self._buckets():
            before = bisect_left(bucket, border)
            for place in range(before if border else 1, len(bucket)):
                end = before if border else place
                begin = max(0, end - NEIGHBOURS)
                self.uncompared += begin
                for other in bucket[begin:end]:
                    yield other, bucket[place]

    def _buckets(self) -> Iterator[list[int]]:
        """Texts that share a key in a band, two or more, in the order of their numbers."""
        self._sketch_batch()
        if not len(self):
            return
        for band in range(self.sketch.bands):
            keys = self._band(band)
            order = np.argsort(keys, kind="stable")
            ordered = keys[order]
            begins = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
            ends = np.append(begins[1:], len(keys))
            for bucket in np.flatnonzero(ends - begins > 1):
                yield order[begins[bucket] : ends[bucket]].tolist()

    def _band(self, band: int) -> NDArray[np.uint64]:
        pieces = (self._keys.read(number) for number in range(band, len(self._keys), self.sketch.bands))
        return np.frombuffer(b"".join(pieces), np.uint64)

    def _shingles_of(self, number: int) -> NDArray[np.uint64]:
        return self.sketch.shingles(self.text(number))


class Components:
    """Union-find over numbers: what is connected by any chain of pairs is one component, whatever their order."""

    def __init__(self, size: int) -> None:
        self._above = array("I", range(size))

    def root(self, number: int) -> int:
        above = self._above
        while above[number] != number:
            above[number] = above[above[number]]
            number = above[number]
        return number

    def join(self, one: int, other: int) -> None:
        """Make two components one; its root is the smallest number in it."""
        first, second = sorted((self.root(one), self.root(other)))
        self._above[second] = first
