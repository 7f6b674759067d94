"""Printed lines made text again: running lines taken off, broken words joined, paragraphs and headings found."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

from tasks.data.extracted import fenced

EDGE_LINES = 2  # above and below each page, where running lines stand
LEAST_SHARE = 0.3  # of the pages: left and right pages have each their own
SAME_HEIGHT = 6.0  # points
COLUMN_POINTS = 60  # lines that begin nearer than this stand in one column
LONGER_SHARE = 0.8  # of a column's lines end before its margin
NUMBER = re.compile(r"\d+|\b[ivxlc]+\b")
PAGE_NUMBER = re.compile(r"\W*(?:page|seite|p)?\W*#(?:\W*(?:of|von|/)?\W*#)?\W*", re.IGNORECASE)
HEADING_RATIO = 1.15  # of the height of most text
HEADING_CHARACTERS = 200
LEVELS = ((1.7, "# "), (1.35, "## "), (0.0, "### "))
WIDE_GAP = 1.35  # of the usual distance of lines
FIXED_GAP = 2.5  # of code, whose empty lines are not drawn
BREAKS = ("\x02", "\ufffe", "-", "\u2010", "\u00ad")  # PDFium has signs of its own for a hyphen at a line's end
ENDED = re.compile(r"[.!?:;…][\"'”’»)\]]*$")
ITEM = re.compile(r"(?:[•‣◦▪–*-]|\(?\d{1,3}[.)]|\(?[a-z][.)])\s")
FIRST_PIECE = re.compile(r"^(\w+)")
LAST_PIECE = re.compile(r"(\w+)$")


@dataclass(frozen=True)
class Line:
    """A line as it is drawn; places in points from the page's lower left corner."""

    text: str
    left: float
    right: float
    bottom: float
    height: float
    fixed: bool = False  # each letter as wide as the other: code
    margin: float = 0.0  # where the lines of its column end

    @property
    def letter(self) -> float:
        """How wide its letters are."""
        return (self.right - self.left) / max(1, len(self.text))


@dataclass(frozen=True)
class Print:
    """What is usual in a document."""

    height: float  # of most letters
    distance: float  # from line to line
    words: frozenset[str]  # that stand within lines, with their hyphens


def without_running_lines(pages: list[list[Line]], removed: Counter[str]) -> list[list[Line]]:
    """The pages without what stands at the same place of many of them, but for its numbers."""
    usual = _usual_height(pages)
    found = Counter(key for page in pages for key in {_key(line) for line in _edges(page)})
    least = max(2, round(LEAST_SHARE * len(pages)))
    kept = []
    for page in pages:
        running = set()
        for line in _edges(page):
            numbered = PAGE_NUMBER.fullmatch(_key(line)[0]) is not None
            if line.height < HEADING_RATIO * usual and (numbered or _times(_key(line), found) >= least):
                removed["page number" if numbered else "running line"] += 1
                running.add(line)
        kept.append([line for line in page if line not in running])
    return kept


def blocks_of(pages: list[list[Line]], removed: Counter[str]) -> list[str]:
    """Paragraphs, headings and code in the order they are drawn; counts joined words as `line-end hyphen`."""
    usual = _usual(pages)
    groups: list[list[Line]] = []
    for page in pages:
        for at, line in enumerate(_with_margins(page)):
            if groups and _goes_on(groups[-1][-1], line, usual, new_page=at == 0):
                groups[-1].append(line)
            else:
                groups.append([line])
    return [_block(group, usual, removed) for group in groups]


def _with_margins(page: list[Line]) -> list[Line]:
    """The lines, each with where most of the longer lines that begin about where it does end."""
    margins: dict[int, float] = {}
    for start in {round(line.left) for line in page}:
        ends = sorted(line.right for line in page if abs(line.left - start) < COLUMN_POINTS)
        margins[start] = ends[int(LONGER_SHARE * (len(ends) - 1))]
    return [replace(line, margin=margins[round(line.left)]) for line in page]


def _edges(page: list[Line]) -> list[Line]:
    ordered = sorted(page, key=lambda line: -line.bottom)
    return ordered if len(ordered) <= 2 * EDGE_LINES else ordered[:EDGE_LINES] + ordered[-EDGE_LINES:]


def _key(line: Line) -> tuple[str, int]:
    return NUMBER.sub("#", line.text.lower()), round(line.bottom / SAME_HEIGHT)


def _times(key: tuple[str, int], found: Counter[tuple[str, int]]) -> int:
    return sum(found[key[0], key[1] + off] for off in (-1, 0, 1))


def _usual_height(pages: list[list[Line]]) -> float:
    heights: Counter[float] = Counter()
    for page in pages:
        for line in page:
            heights[round(line.height, 1)] += len(line.text)
    return heights.most_common(1)[0][0] if heights else 0.0


def _usual(pages: list[list[Line]]) -> Print:
    height = _usual_height(pages)
    distances = [
        above.bottom - below.bottom
        for page in pages
        for above, below in pairwise(page)
        if 0.5 * height < above.bottom - below.bottom < 3 * height
    ]
    words = {word for page in pages for line in page for word in re.findall(r"\w+(?:-\w+)*", line.text.lower())}
    return Print(height, median(distances) if distances else 1.2 * height, frozenset(words))


def _goes_on(above: Line, line: Line, usual: Print, *, new_page: bool) -> bool:
    """Whether a line is of the same block as the one drawn before it."""
    if above.fixed != line.fixed or abs(above.height - line.height) > 0.1 * usual.height:
        return False
    distance = above.bottom - line.bottom
    if new_page or distance < -usual.height:  # another page, or the next column
        return not ENDED.search(above.text) and not ITEM.match(line.text) and not _is_heading(above, usual)
    if line.fixed:
        return distance < FIXED_GAP * usual.distance
    if distance > WIDE_GAP * max(usual.distance, line.height) or ITEM.match(line.text):
        return False
    indented = line.left - above.left > line.letter and line.left - above.left < 8 * line.letter
    return not (indented and ENDED.search(above.text) and above.margin - above.right > 2 * line.letter)


def _is_heading(line: Line, usual: Print) -> bool:
    return line.height > HEADING_RATIO * usual.height


def _block(lines: list[Line], usual: Print, removed: Counter[str]) -> str:
    if lines[0].fixed:
        return fenced("\n".join(_code(lines, usual)))
    text = lines[0].text
    widest = max(max(line.right, line.margin) for line in lines)
    for above, line in pairwise(lines):
        text = _joined(text, line.text, usual, removed, broken=_broken_early(above, line, widest))
    text = text.translate(dict.fromkeys(map(ord, "\x02\ufffe"), "-"))
    if _is_heading(lines[0], usual) and len(text) <= HEADING_CHARACTERS:
        ratio = lines[0].height / usual.height
        return next(mark for least, mark in LEVELS if ratio >= least) + text.replace("\n", " ")
    return text


def _code(lines: list[Line], usual: Print) -> Iterator[str]:
    left = min(line.left for line in lines)
    for above, line in zip([lines[0], *lines], lines, strict=False):
        if above.bottom - line.bottom > WIDE_GAP * usual.distance:
            yield ""
        yield " " * round((line.left - left) / max(0.1, line.letter)) + line.text


def _broken_early(above: Line, line: Line, widest: float) -> bool:
    """Whether the next word would have fitted: the line was meant to end there, as rows and verses do."""
    word = line.text.split(maxsplit=1)[0]
    return widest - above.right > (len(word) + 4) * line.letter and widest - above.right > 0.12 * (widest - line.left)


def _joined(text: str, more: str, usual: Print, removed: Counter[str], *, broken: bool) -> str:
    if not text.endswith(BREAKS) or not more[:1].islower():
        return f"{text}{chr(10) if broken else ' '}{more}"
    before, after = LAST_PIECE.search(text[:-1]), FIRST_PIECE.search(more)
    if before is None or after is None:
        return f"{text} {more}"
    if f"{before[1]}-{after[1]}".lower() in usual.words and (before[1] + after[1]).lower() not in usual.words:
        return f"{text[:-1]}-{more}"
    removed["line-end hyphen"] += 1
    return text[:-1] + more
