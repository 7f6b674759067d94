"""A long text into pieces of a wanted size, cut where a reader would pause.

The pieces, put together again, are the text: every character is in exactly one of them.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

Count = Callable[[Sequence[str]], list[int]]

# Where a text may be cut, the best places first; each pattern ends where the cut is, before the white space. So a word
# keeps the space before it, as tokenizers have it, and the parts' counts add up to the whole's.
PARAGRAPH = re.compile(r"\S(?=[^\S\n]*\n[^\S\n]*\n)")
SENTENCE = re.compile(
    r"(?<![.!?…])(?<!\bMr)(?<!\bMrs)(?<!\bDr)(?<!\bSt)(?<!\b[A-Z])[.!?…]++[\"'”’»)\]_]*+(?=\s+[^\sa-z])"
    r"|[。！？]++[」』”’）]*+"
)
LINE = re.compile(r"\S(?=[^\S\n]*\n)")
WORD = re.compile(r"\S(?=\s)|[、，；：]")
HEADING = re.compile(r"\s*#{1,6}\s[^\n]*\s*")
FENCE = re.compile(r"^[ \t]{0,3}(?:```|~~~)", re.MULTILINE)
GRAINS = (PARAGRAPH, SENTENCE, LINE, WORD)

LONG = 50_000  # characters; what is longer will be cut in any case, and would take hundreds of MiB to count


@dataclass(frozen=True)
class Bounds:
    """Sizes in tokens that a piece shall have; `most` is never passed, `least` only where a text ends."""

    least: int
    most: int


@dataclass(frozen=True)
class Piece:
    """A stretch of a text. One that does not fit is a single word longer than the bounds allow."""

    text: str
    tokens: int  # the sum over its parts: a token or two off the count of the whole
    fits: bool = True


class Atom(NamedTuple):
    """A part that is not cut further unless it has to be."""

    text: str
    tokens: int
    grain: int  # index of the pattern that cut it
    heading: bool = False  # of Markdown's; a piece rather begins with it


def cut(text: str, bounds: Bounds, count: Count) -> list[Piece]:
    """Cut a text into pieces within bounds: short paragraphs merged, long ones cut at sentences, lines, words."""
    groups = list(_fill(deque(_marked(_measure(parts(text, PARAGRAPH), 0, count))), bounds, count))
    if len(groups) > 1 and _size(groups[-1]) < bounds.least:
        groups[-2:] = _balance(groups[-2], groups[-1], bounds, count)
    return [Piece("".join(atom.text for atom in group), _size(group), _size(group) <= bounds.most) for group in groups]


def parts(text: str, border: re.Pattern[str]) -> list[str]:
    """The text cut at every border of one kind, losing nothing."""
    cuts = [0, *(found.end() for found in border.finditer(text)), len(text)]
    return [text[start:end] for start, end in pairwise(cuts) if end > start]


def trim(text: str) -> str:
    """A piece as it is shown: without blank lines and spaces around it, but with its first line's indentation."""
    body = text.lstrip()
    lead = text[: len(text) - len(body)]
    return (lead.rpartition("\n")[2] if "\n" in lead else "") + body.rstrip()


def _measure(texts: list[str], grain: int, count: Count) -> list[Atom]:
    counted = iter(count([text for text in texts if len(text) <= LONG]))
    return [Atom(text, next(counted) if len(text) <= LONG else len(text), grain) for text in texts]


def _marked(paragraphs: list[Atom]) -> Iterator[Atom]:
    """The paragraphs, told which are headings; in a fence, a # begins a comment."""
    fenced = False
    for atom in paragraphs:
        yield atom._replace(heading=not fenced and HEADING.fullmatch(atom.text) is not None)
        fenced ^= len(FENCE.findall(atom.text)) % 2 == 1


def _part_at_heading(group: list[Atom], bounds: Bounds) -> tuple[list[Atom], list[Atom]]:
    """A full group up to its last heading, and from there; whole where too little would stand before it."""
    sizes = list(accumulate(atom.tokens for atom in group))
    for index in range(len(group) - 1, 0, -1):
        if sizes[index - 1] < bounds.least:
            break
        if group[index].heading and not group[index - 1].heading:
            return group[:index], group[index:]
    return group, []


def _refine(atom: Atom, count: Count) -> list[Atom]:
    """The atom's parts by the coarsest grain that cuts it; none if it is a single word."""
    for grain in range(atom.grain + 1, len(GRAINS)):
        texts = parts(atom.text, GRAINS[grain])
        if len(texts) > 1:
            return _measure(texts, grain, count)
    return []


def _fill(waiting: deque[Atom], bounds: Bounds, count: Count) -> Iterator[list[Atom]]:
    """Groups filled one after the other. What does not fit opens the next, or is refined to fill a group too small."""
    group: list[Atom] = []
    size = 0
    while waiting:
        atom = waiting.popleft()
        if size + atom.tokens <= bounds.most:
            group.append(atom)
            size += atom.tokens
        elif (size < bounds.least or atom.tokens > bounds.most) and (finer := _refine(atom, count)):
            waiting.extendleft(reversed(finer))
        else:
            full, begun = _part_at_heading(group, bounds)
            if full:
                yield full
            group, size = begun, _size(begun)
            if begun:
                waiting.appendleft(atom)
            else:
                group, size = [atom], atom.tokens
    if group:
        yield group


def _balance(left: list[Atom], right: list[Atom], bounds: Bounds, count: Count) -> list[list[Atom]]:
    """The last two groups divided anew, so that neither is too small; as they are where that cannot be."""
    atoms = left + right
    while True:
        sizes = list(accumulate(atom.tokens for atom in atoms))
        total = sizes[-1]
        if total < 2 * bounds.least or total > 2 * bounds.most:
            return [left, right]
        border = min(range(len(atoms)), key=lambda index: abs(2 * sizes[index] - total))
        smaller, larger = sorted((sizes[border], total - sizes[border]))
        if smaller >= bounds.least and larger <= bounds.most:
            return [atoms[: border + 1], atoms[border + 1 :]]
        middle = next(index for index, size in enumerate(sizes) if 2 * size >= total)
        finer = _refine(atoms[middle], count)
        if not finer:
            return [left, right]
        atoms[middle : middle + 1] = finer


def _size(group: list[Atom]) -> int:
    return sum(atom.tokens for atom in group)
