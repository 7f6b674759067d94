"""Printed lines made text again: running lines taken off, broken words joined, paragraphs and headings found."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from tasks.data.borders import HEADING_RATIO, WIDE_GAP, Line, Print, goes_on, usual_height, usual_of, with_margins
from tasks.data.extracted import fenced

EDGE_LINES = 2  # above and below each page, where running lines stand
LEAST_SHARE = 0.3  # of the pages: left and right pages have each their own
CHAPTER_PAGES, CHAPTER_CHARACTERS = 3, 12  # from which on a line may be a chapter's own running line
SAME_HEIGHT = 6.0  # points
NUMBER = re.compile(r"\d+|\b[ivxlc]+\b")
PAGE_NUMBER = re.compile(r"\W*(?:page|seite|p)?\W*#(?:\W*(?:of|von|/)?\W*#)?\W*", re.IGNORECASE)
NUMBER_RATIO = 1.35  # of the height of most text; a taller one is a chapter's
HEADING_CHARACTERS = 200
LEVELS = ((1.7, "# "), (1.35, "## "), (0.0, "### "))
BREAKS = ("\x02", "\ufffe", "-", "\u2010", "\u00ad")  # PDFium has signs of its own for a hyphen at a line's end
FIRST_PIECE = re.compile(r"^(\w+)")
LAST_PIECE = re.compile(r"(\w+)$")


def without_running_lines(pages: list[list[Line]], removed: Counter[str]) -> list[list[Line]]:
    """The pages without what stands at the same place of many of them, but for its numbers."""
    usual = usual_height(pages)
    found = Counter(key for page in pages for key in {_key(line) for line in _edges(page)})
    least = max(2, round(LEAST_SHARE * len(pages)))

    def runs(line: Line) -> bool:
        times = _times(_key(line), found)
        return times >= least or (times >= CHAPTER_PAGES and len(line.text) >= CHAPTER_CHARACTERS and not line.fixed)

    kept = []
    for page in pages:
        running = set()
        for line in _edges(page):
            numbered = PAGE_NUMBER.fullmatch(_key(line)[0]) is not None
            most = NUMBER_RATIO if numbered else HEADING_RATIO
            if line.height < most * usual and (numbered or runs(line)):
                removed["page number" if numbered else "running line"] += 1
                running.add(line)
        kept.append([line for line in page if line not in running])
    return kept


def blocks_of(pages: list[list[Line]], removed: Counter[str]) -> list[str]:
    """Paragraphs, headings and code in the order they are drawn; counts joined words as `line-end hyphen`."""
    pages = [with_margins(page) for page in pages]
    usual = usual_of(pages)
    groups: list[list[Line]] = []
    for page in pages:
        for at, line in enumerate(page):
            if groups and goes_on(groups[-1], line, usual, new_page=at == 0):
                groups[-1].append(line)
            else:
                groups.append([line])
    return [_block(group, usual, removed) for group in groups]


def _edges(page: list[Line]) -> list[Line]:
    ordered = sorted(page, key=lambda line: -line.bottom)
    return ordered if len(ordered) <= 2 * EDGE_LINES else ordered[:EDGE_LINES] + ordered[-EDGE_LINES:]


def _key(line: Line) -> tuple[str, int]:
    return NUMBER.sub("#", line.text.lower()), round(line.bottom / SAME_HEIGHT)


def _times(key: tuple[str, int], found: Counter[tuple[str, int]]) -> int:
    return sum(found[key[0], key[1] + off] for off in (-1, 0, 1))


def _block(lines: list[Line], usual: Print, removed: Counter[str]) -> str:
    if lines[0].fixed:
        return fenced("\n".join(_code(lines, usual)))
    text = lines[0].text
    widest = max(max(line.right, line.margin) for line in lines)
    for above, line in pairwise(lines):
        text = _joined(text, line.text, usual, removed, broken=_broken_early(above, line, widest))
    text = text.translate(dict.fromkeys(map(ord, "\x02\ufffe"), "-"))
    if usual.is_heading(lines[0]) and len(text) <= HEADING_CHARACTERS:
        ratio = lines[0].height / usual.height
        return next(mark for least, mark in LEVELS if ratio >= least) + text.replace("\n", " ")
    return text


def _code(lines: list[Line], usual: Print) -> Iterator[str]:
    left = min(line.left for line in lines)
    for above, line in zip([lines[0], *lines], lines, strict=False):
        if above.bottom - line.bottom > WIDE_GAP * usual.distance(line):
            yield ""
        yield " " * round((line.left - left) / max(0.1, line.letter)) + line.text


def _broken_early(above: Line, line: Line, widest: float) -> bool:
    """Whether the next word would have fitted: the line was meant to end there, as rows and verses do."""
    word = line.text.split(maxsplit=1)[0]
    return widest - above.right > (len(word) + 4) * line.letter and widest - above.right > 0.12 * (widest - line.left)


def _joined(text: str, more: str, usual: Print, removed: Counter[str], *, broken: bool) -> str:
    before, after = LAST_PIECE.search(text[:-1]), FIRST_PIECE.search(more)
    if not text.endswith(BREAKS) or before is None or after is None:
        return f"{text}{chr(10) if broken else ' '}{more}"
    whole = (before[1] + after[1]).lower() in usual.words
    compound = before[1][-1].isdigit() or not more[0].islower() or f"{before[1]}-{after[1]}".lower() in usual.words
    if compound and not whole:
        return f"{text[:-1]}-{more}"
    removed["line-end hyphen"] += 1
    return text[:-1] + more
