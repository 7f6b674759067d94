"""A source read from its first row to its last, for a body that must hear a request to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from queue_app.errors import Permanent
from queue_app.lifecycle import Cause
from tasks.data.reading import BadRow, read_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tasks.data.reading import Row

LOOK_EXAMPLES = 1000  # between two reports


def follow_rows(source: Path, report: Callable[..., None]) -> Iterator[Row]:
    """Every row with its place, in order; how many there were so far is told to `Attempt.report` on the way.

    Raises:
        Permanent: as `read_rows`, or a row is bad; names file, line, field and repair
    """
    for number, row in enumerate(read_rows(source)):
        if number % LOOK_EXAMPLES == 0:
            report(examples=number)
        if isinstance(row, BadRow):
            raise Permanent(str(row), cause=Cause.DATA)
        yield row


def unfit(row: Row, problem: str) -> Permanent:
    """The error that a row is none for this job; `problem` begins with the field and says what to do."""
    return Permanent(f"{row.file} line {row.line}: {problem}", cause=Cause.DATA)
