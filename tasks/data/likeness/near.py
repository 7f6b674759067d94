"""Texts that are nearly the same: found by MinHash and locality-sensitive hashing, then compared for real."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING

import numpy as np

from tasks.data.likeness.minhash import Sketch, similarity
from tasks.data.scratch.holder import Holder
from tasks.data.scratch.rows import Rows
from tasks.data.scratch.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

BATCH_CHARACTERS = 1 << 17  # sketched at once: the work on them stays in the processor's cache
# Compared with a text in one bucket. Of 500 texts made after one pattern 92 % of what is connected is found with 64,
# 98 % with 128, all with 256; more are in a bucket only where hundreds are so made.
NEIGHBOURS = 256
# Of the threshold, for the prompts alone: of two GSM8K questions of which one has one or two words exchanged, 998 in
# 1000 are that alike, and "What is the capital of Peru?" and "… of Chile?" are not.
PROMPT_SHARE = 0.8
REFUSED = 1 << 19  # pairs that are not compared a second time: some 60 MB
KEPT_SHINGLES = 1 << 22  # not computed again; 8 bytes each, whether of many short texts or of few long ones


class NearTexts(Holder):
    """Normalised texts of which those that are alike are asked for: over the whole, and in their prompts.

    In memory are 4 bytes for each text, and what is bounded; texts and band keys lie in unnamed files.
    """

    def __init__(self, sketch: Sketch, folder: Path | None = None) -> None:
        super().__init__()
        self.sketch = sketch
        self.uncompared = 0  # pairs of one bucket beyond NEIGHBOURS; others may connect them all the same
        self._folder = folder
        self._texts = self.opened(Spool(folder))
        self._keys = self.opened(Spool(folder))  # the bands' of the first batch, of the second …; uint64
        self._asked = self.opened(Rows(folder, characters="I"))  # of each text, those of its prompt
        self._batch: list[str] = []
        self._batch_characters = 0
        self._kept: dict[int, NDArray[np.uint64]] = {}
        self._kept_shingles = 0

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, text: str, asked: int = 0) -> int:
        """Take a text that begins with a prompt of `asked` characters, and give its number, counted from 0."""
        self._asked.append(asked)
        self._texts.append(text.encode("utf-8", "surrogatepass"))
        self._batch.append(text)
        self._batch_characters += len(text)
        if self._batch_characters >= BATCH_CHARACTERS:
            self._sketch_batch()
        return len(self._texts) - 1

    def text(self, number: int) -> str:
        return self._texts.read(number).decode("utf-8", "surrogatepass")

    def similarity(self, one: int, other: int) -> float:
        """Jaccard's, of the two texts' shingles; 0 where the same answer is given to another prompt."""
        alike = similarity(self._shingles(one), self._shingles(other))
        return alike if alike < self.sketch.threshold or self._prompts_alike(one, other) else 0.0

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
                if len(refused) == REFUSED:
                    refused.clear()
                refused.add(pair)

    def components(self) -> array[int]:
        """For each text the smallest number among those it is connected to by likeness, by any chain of pairs."""
        joined = Components(len(self))
        for one, other, _ in self.pairs(lambda one, other: joined.root(one) != joined.root(other)):
            joined.join(one, other)
        return joined.roots()

    def _prompts_alike(self, one: int, other: int) -> bool:
        prompts = [self.text(number)[: self._asked.read(number)[0]] for number in (one, other)]
        if not all(prompts) or prompts[0] == prompts[1]:
            return True
        return similarity(*map(self.sketch.shingles, prompts)) >= PROMPT_SHARE * self.sketch.threshold

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
        for band in range(self.sketch.bands):
            with Rows(self._folder, key="Q", number="I") as texts:
                for piece in range(band, len(self._keys), self.sketch.bands):
                    keys = np.frombuffer(self._keys.read(piece), np.uint64)
                    texts.extend(key=keys, number=np.arange(len(texts), len(texts) + len(keys)))
                for bucket in texts.groups(lambda table: table["key"]):
                    yield bucket["number"].tolist()

    def _shingles(self, number: int) -> NDArray[np.uint64]:
        found = self._kept.get(number)
        if found is None:
            found = self.sketch.shingles(self.text(number))
            self._kept_shingles += len(found)
            if self._kept_shingles > KEPT_SHINGLES:
                self._kept.clear()
                self._kept_shingles = len(found)
            self._kept[number] = found
        return found


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

    def roots(self) -> array[int]:
        """The root of each number; nothing is joined from then on."""
        for number in range(len(self._above)):
            self._above[number] = self.root(number)
        return self._above
