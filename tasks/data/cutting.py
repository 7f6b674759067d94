"""Blocks of bytes cut into rows: lines, the elements of a JSON array, the lines of a CSV file."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tasks.data.opening import Damaged, foreign_encoding

MARK = b"\xef\xbb\xbf"
KEPT_BYTES = 4096  # of a row that is too long to be kept whole
DELIMITERS = ",;\t|"
_DEPTHS = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}
_GAP = re.compile(rb"[\s,]*+")
# up to the next bracket outside a text, or to a text that does not end
_BRACKET = re.compile(rb'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+")*+(["\[\]{}])', re.DOTALL)
_SCALAR = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[^,\]\s]++', re.DOTALL)


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
        for block in _checked(blocks):
            if isinstance(block, Fault):
                yield block
                return
            lines = (rest + block).split(b"\n")
            last = lines.pop()
            for line in lines:
                number += 1
                if lost + len(line) > most_bytes:
                    yield _too_long(number, lost + len(line), line)
                    lost = 0
                elif blank or (line and not line.isspace()):
                    yield number, line
            rest = last
            if lost + len(rest) > most_bytes:
                lost, rest = lost + max(0, len(rest) - KEPT_BYTES), rest[:KEPT_BYTES]
    except Damaged as error:
        yield _cut_short(number + 1, error, rest)
        return
    if lost + len(rest) > most_bytes:
        yield _too_long(number + 1, lost + len(rest), rest)
    elif rest and not rest.isspace():
        yield number + 1, rest


def cut_objects(blocks: Iterable[bytes], most_bytes: int) -> Iterator[Cut]:
    """The elements of an array, or objects one after the other, numbered from 1."""
    buffer, number, opened = b"", 0, False
    try:
        for block in _checked(blocks):
            if isinstance(block, Fault):
                yield block
                return
            buffer, at = buffer + block, 0
            while (start := _GAP.match(buffer, at).end()) < len(buffer):  # type: ignore[union-attr]  # matches nothing
                if buffer[start] in b"[]" and (buffer[start] == 0x5D) == opened:
                    opened, at = not opened, start + 1
                    continue
                end = _end(buffer, start)
                if end is None:
                    break
                number, at = number + 1, end
                yield number, buffer[start:end]
            buffer = buffer[start:]
            if len(buffer) > most_bytes:
                yield _too_long(number + 1, len(buffer), buffer, "what follows it is not read; save as JSON Lines")
                return
    except Damaged as error:
        yield _cut_short(number + 1, error, buffer)
        return
    if buffer:
        problem = "the file ends within this row"
        yield Fault(number + 1, "cut", problem, "get the file again, or repair its end", buffer[:KEPT_BYTES])


def cut_table(blocks: Iterable[bytes], most_bytes: int) -> Iterator[tuple[int, dict[str, Any]] | Fault]:
    """The rows of a CSV file under the names of its first line, with the line that each ends on."""
    lines = _Lines(cut_lines(blocks, most_bytes, blank=True))
    csv.field_size_limit(most_bytes)
    first = next(lines, "")
    delimiter = max(DELIMITERS, key=first.count)
    try:
        names = next(csv.reader([first], delimiter=delimiter), [])
    except csv.Error as error:
        raw = first.encode("utf-8", "surrogateescape")[:KEPT_BYTES]
        yield Fault(1, "csv", f"the line of names: {error}", "save the table with one kind of line end", raw)
        return
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        try:
            cells = next(rows, None)
        except csv.Error as error:
            cells = []
            lines.fault = lines.fault or Fault(lines.number, "csv", str(error), "repair the quotes of the row", b"")
        raw = delimiter.join(cells or ()).encode("utf-8", "surrogateescape")[:KEPT_BYTES]
        if lines.fault is not None:
            fault, lines.fault = lines.fault, None
            yield Fault(fault.number, fault.rule, fault.problem, fault.repair, fault.raw or raw)
        elif cells and len(cells) != len(names):
            problem = f"{len(cells)} cells where the first line names {len(names)}"
            yield Fault(lines.number, "columns", problem, "repair the row, or its quotes", raw)
        elif cells:
            yield lines.number, dict(zip(names, cells, strict=True))
        if cells is None:
            return


class _Lines:
    """Lines as text, for `csv`; what is wrong with one is left for the reader of the row."""

    def __init__(self, lines: Iterator[Cut]) -> None:
        self._lines = lines
        self.number = 0
        self.fault: Fault | None = None

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        found = next(self._lines)
        if isinstance(found, Fault):
            self.fault = found
            return "\n"
        self.number, line = found
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            self.fault = Fault(
                self.number, "encoding", f"byte {error.start + 1} is not UTF-8", "save it as UTF-8", line
            )
            text = line.decode("utf-8", "surrogateescape")
        return text + "\n"


def _checked(blocks: Iterable[bytes]) -> Iterator[bytes | Fault]:
    """The blocks without a mark of UTF-8; a fault instead where they are in another encoding."""
    first = True
    for block in blocks:
        if first and (name := foreign_encoding(block)):
            repair = f"save it as UTF-8, such as with `iconv -f {name.partition(' ')[0]} -t UTF-8`"
            yield Fault(1, "encoding", f"the file is in {name}", repair, block[:KEPT_BYTES])
            return
        yield block.removeprefix(MARK) if first else block
        first = False


def _end(buffer: bytes, start: int) -> int | None:
    """Where the value that begins at `start` ends; None if that cannot be told yet."""
    if buffer[start] not in b"{[":
        found = _SCALAR.match(buffer, start)
        end = found.end() if found else start + 1
        return end if end < len(buffer) else None
    depth = 0
    for bracket in _BRACKET.finditer(buffer, start):
        depth += _DEPTHS.get(bracket[1], -depth)
        if depth <= 0:
            return bracket.end() if bracket[1] != b'"' else None
    return None


def _too_long(number: int, size: int, raw: bytes, repair: str = "split it, or leave it out") -> Fault:
    problem = f"the row has {size:,} bytes, which is too long; only its first {KEPT_BYTES:,} are kept here"
    return Fault(number, "length", problem, repair, raw[:KEPT_BYTES])


def _cut_short(number: int, error: Damaged, raw: bytes) -> Fault:
    return Fault(number, "cut", str(error), "the rows before are good; get the file again", raw[:KEPT_BYTES])
