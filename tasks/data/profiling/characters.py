"""What does not belong in text: sequences that another encoding left behind, and control characters."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

from tasks.data.encoding import CONTROL
from tasks.data.profiling.tallies import Sightings

if TYPE_CHECKING:
    from collections.abc import Callable

# Mojibake is at least two characters beyond ASCII in a row, or a lead byte's letter before what was a no-break space.
_WORTH_A_LOOK = re.compile("[^\x00-\x7f]{2}|[ÂÃâ] ")


class Blemishes:
    """Mojibake and control characters over a dataset, in the making."""

    def __init__(self) -> None:
        self.sightings = Sightings()
        self.codes: Counter[str] = Counter()

    def look(self, text: str, line: int) -> None:
        if text.isprintable():  # neither control characters nor line ends; letters of any script are
            controls: list[str] = []
        else:
            controls = CONTROL.findall(text)
        if controls:
            self.sightings.see("control", line)
            self.codes.update(f"U+{ord(character):04X}" for character in controls)
        if "\ufffd" in text:
            self.sightings.see("replacement", line)
        if not text.isascii() and _WORTH_A_LOOK.search(text) and is_mojibake(text):
            self.sightings.see("mojibake", line)


def is_mojibake(text: str) -> bool:
    """Whether ftfy's heuristic finds a sequence that another encoding left behind."""
    return bool(_judge()(text))


@cache
def _judge() -> Callable[[str], object]:
    from ftfy.badness import is_bad  # 80 ms, and only texts beyond ASCII need it

    return is_bad
