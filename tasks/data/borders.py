"""Where one printed paragraph ends and the next begins: by distances, indents, margins and the ends of sentences."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise

COLUMN_POINTS = 60  # lines that begin nearer than this stand in one column
LONGER_SHARE = 0.8  # of a column's lines end before its margin
COMMON_SHARE = 0.15  # of a column's lines at least begin at its left edge
NEAR_SHARE = 0.25  # of all distances are less than the usual one, for many paragraphs have but a line
JUSTIFIED_SHARE = 0.6  # of all lines end at the margin
SAME_PLACE = 1.5  # points
HEADING_RATIO = 1.15  # of the height of most text
WIDE_GAP = 1.35  # of the usual distance of lines
FIXED_GAP = 2.5  # of code, whose empty lines are not drawn
SLIGHT_GAP, SLIGHT_POINTS = 1.12, 1.0  # more than lines are off by where a renderer rounds their places
LEAST_INDENT, MOST_INDENT = 1.0, 8.0  # letters
LEAST_FIRST_LINES = 2  # that begin at one indent, and it is the document's
SHORT_LETTERS = 2  # that a line lacks to its margin
ENDED = re.compile(r"[.!?:;…][\"'”’»)\]]*$")
ITEM = re.compile(r"(?:[•‣◦▪–*-]|\(?\d{1,3}[.)]|\(?[a-z][.)])\s")


@dataclass(frozen=True)
class Line:
    """A line as it is drawn; places in points from the page's lower left corner."""

    text: str
    left: float
    right: float
    bottom: float  # where its letters stand
    height: float
    fixed: bool = False  # each letter as wide as the other: code
    bold: bool = False  # from its first letter to its last
    start: float = 0.0  # where the lines of its column begin
    margin: float = 0.0  # where they end

    @property
    def letter(self) -> float:
        """How wide its letters are."""
        return (self.right - self.left) / max(1, len(self.text))

    @property
    def indent(self) -> float:
        return self.left - self.start


@dataclass(frozen=True)
class Print:
    """What is usual in a document."""

    height: float  # of most letters
    distances: dict[float, float]  # from line to line, by the height of their letters
    words: frozenset[str]  # that stand within lines, with their hyphens
    justified: bool
    indent: float | None  # of a paragraph's first line, where paragraphs have one

    def distance(self, line: Line) -> float:
        """How far below another a line of this height stands as a rule."""
        most = self.distances.get(round(self.height), 1.2 * self.height)
        if self.is_heading(line):  # they stand alone more often than not, and far from one another
            return max(most, line.height)
        return self.distances.get(round(line.height), most)

    def is_heading(self, line: Line) -> bool:
        return line.height > HEADING_RATIO * self.height


def with_margins(page: list[Line]) -> list[Line]:
    """The lines, each with where those that begin about where it does begin and end as a rule."""
    places = {}
    for at, fixed in {(round(line.left), line.fixed) for line in page}:
        near = [line for line in page if abs(line.left - at) < COLUMN_POINTS and line.fixed == fixed]
        ends = sorted(line.right for line in near)
        starts = Counter(round(line.left) for line in near)
        common = [start for start in starts if starts[start] + starts[start + 1] >= max(2, COMMON_SHARE * len(near))]
        places[at, fixed] = float(min(common, default=min(starts))), ends[int(LONGER_SHARE * (len(ends) - 1))]
    return [
        replace(line, start=start, margin=margin)
        for line in page
        for start, margin in [places[round(line.left), line.fixed]]
    ]


def usual_height(pages: list[list[Line]]) -> float:
    """The height of most letters; code counts only where there is nothing else."""
    prose, code = Counter[float](), Counter[float]()
    for page in pages:
        for line in page:
            (code if line.fixed else prose)[round(line.height, 1)] += len(line.text)
    heights = prose or code
    return heights.most_common(1)[0][0] if heights else 0.0


def usual_of(pages: list[list[Line]]) -> Print:
    """What is usual in a document whose lines know their margins."""
    height = usual_height(pages)
    found = defaultdict(list)
    for page in pages:
        for above, below in pairwise(page):
            distance = above.bottom - below.bottom
            if round(above.height) == round(below.height) and 0.5 * below.height < distance < 3 * below.height:
                found[float(round(below.height))].append(distance)
    words = {word for page in pages for line in page for word in re.findall(r"\w+(?:-\w+)*", line.text.lower())}
    prose = [line for page in pages for line in page if not line.fixed and abs(line.height - height) < 1]
    ending = sum(abs(line.right - line.margin) < SAME_PLACE for line in prose)
    return Print(
        height,
        {each: sorted(distances)[int(NEAR_SHARE * len(distances))] for each, distances in found.items()},
        frozenset(words),
        ending >= JUSTIFIED_SHARE * max(1, len(prose)),
        _usual_indent(pages, height),
    )


def _usual_indent(pages: list[list[Line]], height: float) -> float | None:
    """Of lines between others that begin at the column's edge, or above one at least."""
    seen: Counter[int] = Counter()
    for page in pages:
        for line, below in pairwise(page):
            same = line.fixed == below.fixed and 0 < line.bottom - below.bottom < 3 * height
            if same and not line.fixed and abs(below.indent) < SAME_PLACE and _may_be_first(line):
                seen[round(line.indent)] += 1
    if not seen:
        return None
    indent, times = seen.most_common(1)[0]
    return float(indent) if times >= LEAST_FIRST_LINES else None


def _may_be_first(line: Line) -> bool:
    return LEAST_INDENT * line.letter < line.indent < MOST_INDENT * line.letter and not ITEM.match(line.text)


def goes_on(block: list[Line], line: Line, usual: Print, *, new_page: bool) -> bool:
    """Whether a line is of the same block as those drawn before it."""
    above = block[-1]
    if above.fixed != line.fixed or abs(above.height - line.height) > 0.1 * usual.height:
        return False
    distance = above.bottom - line.bottom
    if new_page or distance < -usual.height:  # another page, or the next column
        return not usual.is_heading(above) and _goes_over(above, line, usual)
    if line.fixed:
        return distance < FIXED_GAP * usual.distance(line)
    if abs(distance) < 0.5 * line.height:  # of one row
        return True
    return distance <= WIDE_GAP * max(usual.distance(line), line.height) and not _is_next(block, line, usual)


def _goes_over(above: Line, line: Line, usual: Print) -> bool:
    """Whether a block goes on where a page or column begins."""
    if line.fixed or line.text[:1].islower():
        return True
    if ITEM.match(line.text) or _is_first(line, usual) or above.bold != line.bold:
        return False
    ended = ENDED.search(above.text) is not None
    return not (ended and is_short(above, line, usual))


def _is_next(block: list[Line], line: Line, usual: Print) -> bool:
    """Whether a line begins a block, though it stands no further below than others do."""
    above = block[-1]
    ended, short = ENDED.search(above.text) is not None, is_short(above, line, usual)
    if not ended and not short:
        return False
    if ITEM.match(line.text) or above.bold != line.bold:
        return True
    slight = max(SLIGHT_GAP * usual.distance(line), usual.distance(line) + SLIGHT_POINTS)
    if above.bottom - line.bottom > slight or (_is_first(line, usual) and not _hangs(block, line)):
        return True
    moved = abs(line.left - above.left) > LEAST_INDENT * line.letter
    if moved and len(block) > 1 and ended and short:
        return True
    return ended and short and not line.text[:1].islower()


def _is_first(line: Line, usual: Print) -> bool:
    return usual.indent is not None and abs(line.indent - usual.indent) < SAME_PLACE


def _hangs(block: list[Line], line: Line) -> bool:
    """Whether a line is below the text of a list's item."""
    return ITEM.match(block[0].text) is not None and line.left > block[0].left + SAME_PLACE


def is_short(above: Line, line: Line, usual: Print) -> bool:
    """Whether a line was meant to end where it does: it lacks something to the margin, or the next word had fitted."""
    lacking = max(above.margin, line.margin) - above.right
    word = 0 if usual.justified else len(line.text.split(maxsplit=1)[0])
    return lacking > (word + SHORT_LETTERS) * line.letter
