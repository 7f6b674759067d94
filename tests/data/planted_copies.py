"""Real prose with copies that differ by a word, a typing error or a sentence, and the truth about which are alike."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import combinations
from pydoc_data.topics import topics

from tasks.data.likeness.minhash import Sketch
from tasks.data.likeness.near import NearTexts
from tasks.data.likeness.saying import normalise

NEAR = Sketch(0.85)


@dataclass(frozen=True)
class Copies:
    """Pairs of texts by their numbers: what was planted, what is alike by a count of all pairs, what was found."""

    planted: set[tuple[int, int]]
    true: set[tuple[int, int]]
    found: set[tuple[int, int]]

    @property
    def precision(self) -> float:
        return len(self.found & self.true) / len(self.found)

    @property
    def recall(self) -> float:
        return len(self.found & self.true) / len(self.true)


def tally_copies(seed: int, texts: int) -> Copies:
    """Alter every second one of so many texts and look for the pairs, by sketches and by comparing all with all."""
    chance = random.Random(seed)
    base = [normalise(text) for text in prose()][:texts]
    chosen = chance.sample(range(len(base)), len(base) // 2)
    every = base + [normalise(altered(base[number], chance)) for number in chosen]
    planted = {(number, len(base) + place) for place, number in enumerate(chosen)}
    return Copies(planted, true_pairs(every), found_pairs(every))


def prose() -> list[str]:
    """Distinct prose of 200 to 600 characters, the same every time."""
    paragraphs = (" ".join(part.split()) for topic in sorted(topics) for part in topics[topic].split("\n\n"))
    return sorted({part[:600] for part in paragraphs if len(part) >= 200})


def altered(text: str, chance: random.Random) -> str:
    """The text with one or two exchanged words, or typing errors, or one more sentence."""
    words = text.split(" ")
    way = chance.choice(["exchange", "typing", "sentence"])
    if way == "sentence":
        return f"{text} See there."
    for _ in range(chance.randint(1, 2)):
        at = chance.randrange(len(words) - 1)
        if way == "exchange":
            words[at], words[at + 1] = words[at + 1], words[at]
        else:
            words[at] = f"{words[at][1:]}{words[at][:1]}"
    return " ".join(words)


def found_pairs(texts: list[str], sketch: Sketch = NEAR) -> set[tuple[int, int]]:
    with NearTexts(sketch) as near:
        for text in texts:
            near.add(text)
        return {(one, other) for one, other, _ in near.pairs(lambda one, other: True)}


def true_pairs(texts: list[str], sketch: Sketch = NEAR) -> set[tuple[int, int]]:
    sets = [{text[at : at + sketch.shingle] for at in range(max(1, len(text) - sketch.shingle + 1))} for text in texts]
    return {
        (one, other)
        for one, other in combinations(range(len(texts)), 2)
        if len(sets[one] & sets[other]) >= sketch.threshold * len(sets[one] | sets[other])
    }
