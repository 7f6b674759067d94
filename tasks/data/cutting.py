"""Blocks of bytes cut into lines; what is no line of text is a fault."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tasks.data.opening import Damaged, foreign

MARK = b"\xef\xbb\xbf"
KEPT_BYTES = 4096  # of a row that is too long to be kept whole


@dataclass(frozen=True)
class Fault:
    """A row that did not come out of its file, and why."""

    number: int
    rule: str
    problem: str
    repair: str
    raw: bytes


Cut = tuple[int, bytes] | Fault


def cut_lines(blocks: Iterable[bytes], most_bytes: int, *, blank: bool = False) -> Iterator[Cut]:
    """Every line, with its number from 1; a longer one is a fault, and is not read whole."""
    rest, number, lost = b"", 0, 0  # lost: bytes of the current line that are not kept
    try:
        for block in unpacked(blocks):
            if isinstance(block, Fault):
                yield block
                return
            lines = (rest + block).split(b"\n")
            last = lines.pop()
            for line in lines:
                number += 1
                if lost + len(line) > most_bytes:
                    yield too_long(number, lost + len(line), line)
                    lost = 0
                elif blank or (line and not line.isspace()):
                    yield number, line
            rest = last
            if lost + len(rest) > most_bytes:
                lost, rest = lost + max(0, len(rest) - KEPT_BYTES), rest[:KEPT_BYTES]
    except Damaged as error:
        yield cut_short(number + 1, error, rest)
        return
    if lost + len(rest) > most_bytes:
        yield too_long(number + 1, lost + len(rest), rest)
    elif rest and not rest.isspace():
        yield number + 1, rest


def unpacked(blocks: Iterable[bytes]) -> Iterator[bytes | Fault]:
    """The blocks without a mark of UTF-8; a fault instead where they are in another encoding, or packed."""
    first = True
    for block in blocks:
        if first and (told := foreign(block)):
            yield Fault(1, *told, block[:KEPT_BYTES])
            return
        yield block.removeprefix(MARK) if first else block
        first = False


def too_long(number: int, size: int, raw: bytes) -> Fault:
    problem = f"the row has {size:,} bytes, which is too long; only its first {KEPT_BYTES:,} are kept here"
    return Fault(number, "length", problem, "split it, or leave it out", raw[:KEPT_BYTES])


def cut_short(number: int, error: Damaged, raw: bytes) -> Fault:
    return Fault(number, "cut", str(error), "the rows before are good; get the file again", raw[:KEPT_BYTES])
