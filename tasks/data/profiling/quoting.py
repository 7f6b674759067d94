"""Text out of a dataset as a report may show it: short, on one line, and with everything personal masked."""

from __future__ import annotations

from tasks.data.personal import Confidence, Search, find_personal

SHOWN_CHARACTERS = 160
SEARCHED_CHARACTERS = 1000  # what is cut off inside here is not shown
_ANYTHING = Search(least=Confidence.LOW)


def quoted(text: str, characters: int = SHOWN_CHARACTERS) -> str:
    """The beginning of a text."""
    start = text[:SEARCHED_CHARACTERS]
    parts, end = [], 0
    for finding in find_personal(start, _ANYTHING):
        parts += [start[end : finding.start], finding.masked(start)]
        end = finding.end
    line = " ".join("".join([*parts, start[end:]]).split())
    shortened = line if len(line) <= characters else line[: characters - 1] + "…"
    return "".join(character if character.isprintable() else "\ufffd" for character in shortened)
