"""MinHash over character shingles (Broder 1997), many texts at a time.

Characters and not words: the same for texts without spaces between words, and a typing error or two exchanged words
change few shingles. numpy works on all texts of a batch at once, laid end to end.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PERMUTATIONS = 128
FOUND_AT_THRESHOLD = 0.999  # of the pairs that are just as alike as the threshold
SEED = 20220
_STEP = np.uint64(0x9E3779B97F4A7C15)  # odd, so that a product loses nothing
_STEP_SHORT = np.uint32(0x9E3779B1)


@dataclass(frozen=True)
class Sketch:
    """How texts are compared: from which similarity on they count as alike, and how long a shingle is."""

    threshold: float
    shingle: int = 5  # characters

    @cached_property
    def rows(self) -> int:
        """Minima in a band: as many as find nearly all pairs at the threshold, for these meet least else."""
        for rows in range(PERMUTATIONS, 1, -1):
            if 1 - (1 - self.threshold**rows) ** (PERMUTATIONS // rows) >= FOUND_AT_THRESHOLD:
                return rows
        return 1

    @property
    def bands(self) -> int:
        return PERMUTATIONS // self.rows

    @cached_property
    def _factors(self) -> NDArray[np.uint32]:
        """The permutations x → a·x modulo 2³² of hashes that are mixed already; a is odd."""
        chance = np.random.default_rng(SEED)
        return chance.integers(0, 1 << 32, self.rows * self.bands, dtype=np.uint32) | np.uint32(1)

    def band_keys(self, texts: Sequence[str]) -> NDArray[np.uint64]:
        """A key for each band of each text; texts that share one in the same band may be alike.  # (bands, texts)"""
        hashes, edges = self._windows(texts)
        lowest = np.empty((len(self._factors), len(texts)), np.uint32)
        product = np.empty_like(hashes)
        for minima, factor in zip(lowest, self._factors, strict=True):
            np.multiply(hashes, factor, out=product)
            minima[:] = np.minimum.reduceat(product, edges)[::2]
        keys = np.zeros((self.bands, len(texts)), np.uint64)
        for row in range(self.rows):
            keys ^= lowest[row :: self.rows]
            keys *= _STEP
            keys ^= keys >> np.uint64(29)
        return keys

    def shingles(self, text: str) -> NDArray[np.uint64]:
        """The distinct shingles of a text as sorted hashes; a text shorter than a shingle is one.  # (distinct,)"""
        signs = _signs(text.ljust(self.shingle, "\0"))
        hashes = np.zeros(len(signs) - self.shingle + 1, np.uint64)
        for offset in range(self.shingle):
            hashes *= _STEP
            hashes += signs[offset : offset + len(hashes)]
        hashes ^= hashes >> np.uint64(32)
        hashes *= _STEP
        hashes.sort()
        first = np.ones(len(hashes), np.bool_)
        np.not_equal(hashes[1:], hashes[:-1], out=first[1:])
        return hashes[first]

    def _windows(self, texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.intp]]:
        """The hash of every shingle, and where each text's begin and end; those between two texts belong to none."""
        padded = [text.ljust(self.shingle, "\0") for text in texts]
        signs = _signs("".join(padded))
        hashes = np.zeros(len(signs) - self.shingle + 1, np.uint32)
        for offset in range(self.shingle):
            hashes *= _STEP_SHORT
            hashes += signs[offset : offset + len(hashes)]
        hashes ^= hashes >> np.uint32(16)
        hashes *= np.uint32(0x85EBCA6B)
        hashes ^= hashes >> np.uint32(13)
        hashes *= np.uint32(0xC2B2AE35)
        hashes ^= hashes >> np.uint32(16)
        ends = np.cumsum(np.fromiter(map(len, padded), np.intp, len(padded)))
        edges = np.empty(2 * len(padded), np.intp)
        edges[0], edges[2::2] = 0, ends[:-1]
        edges[1::2] = ends - self.shingle + 1
        return hashes, edges[:-1]  # the last text ends where everything does


def similarity(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    """Jaccard's: what two sorted sets share, of all that is in either."""
    both = np.concatenate((one, other))
    both.sort()
    shared = int(np.count_nonzero(both[1:] == both[:-1]))
    return shared / (len(both) - shared)


def _signs(text: str) -> NDArray[np.uint32]:
    """The text's code points."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
