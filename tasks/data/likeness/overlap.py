"""Runs of words that two texts share, whatever stands around them.

After the analysis of contamination in Brown et al. 2020 (GPT-3), appendix C: 13 words, without case, punctuation and
white space. Signs of scripts that put no space between words count as words.
"""

from __future__ import annotations

import re
from array import array
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

COMMON = 10  # a run that is in more of the known texts than that is a phrase of their form, not of their content
UNKNOWN = 0  # the number of a word that no known text has
_STEP = np.uint64(0x9E3779B97F4A7C15)
_WORDS = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_]+")


class Overlap(NamedTuple):
    """A known text that shares runs with another: its number, and how much of its runs."""

    known: int
    share: float


class Runs:
    """The runs of known texts, in which those of others are looked for."""

    def __init__(self, words: int) -> None:
        self.words = words
        self.common = 0  # runs that are in too many of the known texts to tell anything
        self._vocabulary: dict[str, int] = {}
        self._known = array("I")  # all words of the known texts by number, with UNKNOWN after each text
        self._lengths = array("I")
        self._sizes = np.zeros(0, np.intp)  # distinct runs of each known text
        self._runs = np.zeros(0, np.uint64)  # sorted
        self._owners = np.zeros(0, np.intp)  # of each, the known text that has it

    def know(self, text: str) -> None:
        """Take a normalised text; they are numbered from 0."""
        number = self._vocabulary.setdefault
        words = [number(word, len(self._vocabulary) + 1) for word in _WORDS.findall(text)]
        self._known.extend((*words, UNKNOWN))
        self._lengths.append(len(words) + 1)

    def freeze(self) -> None:
        """Sort what is known; between the last `know` and the first `find`."""
        runs, owners = self._distinct_runs(self._known, self._lengths)
        self._sizes = np.bincount(owners, minlength=len(self._lengths))
        self._known = array("I")
        order = np.argsort(runs, kind="stable")
        runs, owners = runs[order], owners[order]
        _, at, times = np.unique(runs, return_inverse=True, return_counts=True)
        self.common = int(np.count_nonzero(times > COMMON))
        telling = times[at] <= COMMON
        self._runs, self._owners = runs[telling], owners[telling]

    def find(self, texts: Sequence[str]) -> dict[int, Overlap]:
        """For the normalised texts that share runs with known ones, by place: the one with the largest share of its."""
        find = self._vocabulary.get
        words, lengths = array("I"), array("I")
        for text in texts:
            numbers = [find(word, UNKNOWN) for word in _WORDS.findall(text)]
            words.extend((*numbers, UNKNOWN))
            lengths.append(len(numbers) + 1)
        runs, places = self._distinct_runs(words, lengths)
        begins = np.searchsorted(self._runs, runs, "left")
        times = np.searchsorted(self._runs, runs, "right") - begins  # known texts that have each run
        within = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
        owners = self._owners[np.repeat(begins, times) + within]
        pairs, shared = np.unique(np.repeat(places, times) * len(self._sizes) + owners, return_counts=True)
        best: dict[int, Overlap] = {}
        for pair, count in zip(pairs.tolist(), shared.tolist(), strict=True):
            place, known = divmod(pair, len(self._sizes))
            share = count / int(self._sizes[known])
            if place not in best or share > best[place].share:
                best[place] = Overlap(known, share)
        return best

    def _distinct_runs(self, words: array[int], lengths: array[int]) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
        """The runs of texts laid end to end, once for each text, as hashes, and the places of their texts.

        A run with an unknown word is in no known text, and those that reach over a text's end have one.
        """
        numbers = np.array(words, np.uint64)
        places = np.repeat(np.arange(len(lengths)), np.asarray(lengths))
        size = max(0, len(numbers) - self.words + 1)
        runs, known = np.zeros(size, np.uint64), np.ones(size, np.bool_)
        for offset in range(self.words):
            word = numbers[offset : offset + size]
            known &= word != UNKNOWN
            runs *= _STEP
            runs += word
            runs ^= runs >> np.uint64(31)
        runs, places = runs[known], places[:size][known]
        order = np.lexsort((runs, places))
        runs, places = runs[order], places[order]
        first = np.ones(len(runs), np.bool_)
        first[1:] = (runs[1:] != runs[:-1]) | (places[1:] != places[:-1])
        return runs[first], places[first]
