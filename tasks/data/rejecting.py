"""What becomes of bad rows: the first one ends the work, or all are set aside with their reasons."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from queue_app.errors import Permanent
from queue_app.lifecycle import Cause
from tasks.data.reading import BadRow, Row
from tasks.data.writing import JsonlWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

LOOK_ROWS = 100_000  # how far behind the first bad row others are counted


class Rejected(msgspec.Struct):
    """A bad row as it is set aside; what in it is not UTF-8 stands as \\xhh."""

    file: str
    line: int
    rule: str
    field: str
    problem: str
    repair: str
    raw: str


class Rejects:
    """Refuses at the first bad row; or, where there is a file for them, writes them there and counts them by rule.

    As `with`: the file is complete or absent, and absent too where every row was good.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.by_rule: Counter[str] = Counter()
        self.first: BadRow | None = None
        self.path = path
        self._writer = JsonlWriter(path) if path else None
        self._open = False

    def good(self, rows: Iterable[Row | BadRow]) -> Iterator[Row]:
        """The good rows.

        Raises:
            Permanent: a row is bad and there is no file for it; says how many more are
        """
        every = iter(rows)
        for row in every:
            if isinstance(row, Row):
                yield row
            elif self._writer is None:
                raise self._refusal(row, _count_bad(every))
            else:
                self.add(row)

    def add(self, bad: BadRow) -> None:
        """Set one aside.

        Raises:
            Permanent: there is no file for it
        """
        if self._writer is None:
            raise self._refusal(bad, "")
        if not self._open:
            self._writer.__enter__()
            self._open = True
        self.first = self.first or bad
        self.by_rule[bad.rule] += 1
        raw = bad.raw.decode(errors="backslashreplace")
        self._writer.write(Rejected(str(bad.file), bad.line, bad.rule, bad.field, bad.problem, bad.repair, raw))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._writer is not None and self._open:
            self._writer.__exit__(kind, error, at)

    @property
    def file(self) -> Path | None:
        """Where they are, if there are any."""
        return self.path if self._open else None

    @staticmethod
    def _refusal(bad: BadRow, others: str) -> Permanent:
        return Permanent(f"{bad}{others}; or set bad rows aside with skip_bad", cause=Cause.DATA)


def _count_bad(rows: Iterator[Row | BadRow]) -> str:
    """How many bad rows follow, as the middle of a message; looks only so far."""
    bad = 0
    for number, row in enumerate(rows, 1):
        bad += isinstance(row, BadRow)
        if number == LOOK_ROWS:
            return f" ({bad} of the next {number:,} rows are bad as well)"
    return f" ({bad} of the rows after it are bad as well)" if bad else " (it is the only bad row)"
