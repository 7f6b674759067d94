"""Blocks of bytes cut into the rows of a CSV file."""

from __future__ import annotations

import csv
from collections import Counter, deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tasks.data.cutting import KEPT_BYTES, Fault, cut_lines
from tasks.data.wording import not_utf8

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tasks.data.cutting import Cut

DELIMITERS = ",;\t|"


def cut_table(blocks: Iterable[bytes], most_bytes: int) -> Iterator[tuple[int, dict[str, Any]] | Fault]:
    """The rows of a CSV file under the names of its first line, with the line that each begins on."""
    csv.field_size_limit(most_bytes)
    lines = _Lines(cut_lines(blocks, most_bytes, blank=True))
    delimiter = max(DELIMITERS, key=lines.peek().count)
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    names = _names(lines, rows)
    if isinstance(names, Fault):
        yield names
        return
    while True:
        lines.begin()
        try:
            cells = next(rows, None)
        except csv.Error as error:
            yield lines.broken(error)
            continue
        if lines.fault is not None:
            yield lines.fault
        elif cells and len(cells) != len(names):
            problem = f"{len(cells)} cells where the first line names {len(names)}"
            yield Fault(lines.number, "columns", problem, "repair the row, or its quotes", lines.raw)
        elif cells:
            found = zip(names, cells, strict=True)
            yield lines.number, {name or f"column {n}": cell for n, (name, cell) in enumerate(found, 1) if name or cell}
        if cells is None:
            return


def _names(lines: _Lines, rows: Iterator[list[str]]) -> list[str] | Fault:
    """The columns; without their names no row can be read."""
    lines.begin()
    try:
        names = next(rows, [])
    except csv.Error as error:
        repair = "repair its quotes, and save the table with one kind of line end"
        return Fault(lines.number, "csv", f"the line of names: {error}", repair, lines.raw)
    if lines.fault is not None:
        return replace(lines.fault, problem=f"the line of names: {lines.fault.problem}, so no row can be read")
    if twice := [name for name, count in Counter(names).items() if name and count > 1]:
        problem = f'the line of names: the column "{twice[0]}" is there twice, so no row can be read'
        return Fault(lines.number, "columns", problem, "rename one of them", lines.raw)
    return names


class _Lines:
    """Lines as text, for `csv`; what is wrong with one is left for the reader of the row."""

    def __init__(self, lines: Iterator[Cut]) -> None:
        self._lines = lines
        self._again: deque[Cut] = deque()
        self._taken: list[Cut] = []  # since the row began
        self.fault: Fault | None = None

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        found = self._again.popleft() if self._again else next(self._lines)
        self._taken.append(found)
        if isinstance(found, Fault):
            self.fault = found
            return "\n"
        number, line = found
        try:
            return line.decode() + "\n"
        except UnicodeDecodeError:
            self.fault = Fault(number, "encoding", not_utf8(line), "save the file as UTF-8", line)
            return line.decode("utf-8", "surrogateescape") + "\n"

    def begin(self) -> None:
        """Forget the row before."""
        self._taken.clear()
        self.fault = None

    def peek(self) -> str:
        """The first line that is not blank, which comes again."""
        text = next((line for line in self if not line.isspace()), "")
        self._again.extend(self._taken[-1:])
        return text

    def broken(self, error: csv.Error) -> Fault:
        """What is wrong with the row's first line; those that its quotes have swallowed come again."""
        several = len(self._taken) > 1
        self._again.extendleft(reversed(self._taken[1:]))
        del self._taken[1:]
        if self.fault is not None and not several:
            return self.fault
        problem = f"a quote in it does not close where it should ({error})" if several else str(error)
        return Fault(self.number, "csv", problem, "repair the quotes of the row", self.raw)

    @property
    def number(self) -> int:
        """The line that the row begins on."""
        first = self._taken[0]
        return first.number if isinstance(first, Fault) else first[0]

    @property
    def raw(self) -> bytes:
        """The row's bytes."""
        return b"\n".join(line.raw if isinstance(line, Fault) else line[1] for line in self._taken)[:KEPT_BYTES]
