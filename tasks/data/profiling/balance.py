"""Who the examples speak of: given names, gendered words and nationalities, by word lists."""

from __future__ import annotations

import re

import msgspec

from tasks.data.profiling.tallies import Sighting, Sightings
from tasks.data.profiling.wordlists import lexicon

LIMITS = (
    "a heuristic: short lists of given names in Latin script, English pronouns and kinship words, English words for "
    "nationalities; names that are also words, or common for both sexes, are not counted; a name stands for a culture "
    "and a gender only statistically; 'Polish' and 'Turkish' are counted as whatever they describe"
)
# Everything in ASCII but letters; what lies beyond ASCII are parts of letters, but for the marks below.
_LETTERS = bytes(byte if byte >= 0x80 or chr(byte).isalpha() else 0x20 for byte in range(256))
_MARKS = re.compile("[\u00a0-\u00bf\u2000-\u206f\u20a0-\u20bf]")


class Balance(msgspec.Struct, frozen=True):
    """In how many examples each is spoken of; an example counts once for each value."""

    genders_by_name: dict[str, Sighting]
    genders_by_word: dict[str, Sighting]
    cultures: dict[str, Sighting]  # of given names
    names: dict[str, Sighting]
    nationalities: dict[str, Sighting]
    limits: str = LIMITS


class BalanceCount:
    """The balance in the making."""

    def __init__(self) -> None:
        self._topics = {topic: Sightings() for topic in ("named", "word", "culture", "name", "nationality")}
        self._lexicon = lexicon()
        self._words = self._lexicon.keys()

    def add(self, text: str, line: int) -> None:
        found = self._words & known_words(text)
        meanings = {meaning for word in found for meaning in self._lexicon[word]}
        for topic, value in meanings:
            self._topics[topic].see(value, line)

    def balance(self) -> Balance:
        found = {topic: sightings.all() for topic, sightings in self._topics.items()}
        return Balance(found["named"], found["word"], found["culture"], found["name"], found["nationality"])


def known_words(text: str) -> set[bytes]:
    """The words of a text in UTF-8, with their case."""
    plain = text if text.isascii() else _MARKS.sub(" ", text)
    return set(plain.encode("utf-8", "replace").translate(_LETTERS).split())
