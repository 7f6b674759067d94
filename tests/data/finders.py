"""The finders of an audit over examples at hand: lines are counted from 1, as those of a file are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.data.contradictions import ContradictionFinder, ContradictionOptions, ContradictionReport
from tasks.data.duplicates import DuplicateFinder, DuplicateOptions, DuplicateReport
from tasks.data.leakage import LeakFinder, LeakOptions, LeakReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tasks.data.record import Record


def find_duplicates(records: Iterable[Record], options: DuplicateOptions | None = None) -> DuplicateReport:
    with DuplicateFinder(options) as finder:
        for line, record in enumerate(records, 1):
            finder.see(record, line)
        return finder.finish()


def find_contradictions(records: Iterable[Record], options: ContradictionOptions | None = None) -> ContradictionReport:
    with ContradictionFinder(options) as finder:
        for line, record in enumerate(records, 1):
            finder.see(record, line)
        return finder.finish()


def find_leaks(
    records: Iterable[Record], against: Mapping[str, Iterable[Record]], options: LeakOptions | None = None
) -> LeakReport:
    with LeakFinder(options) as finder:
        for dataset, others in against.items():
            for line, record in enumerate(others, 1):
                finder.know(record, line, dataset)
        for line, record in enumerate(records, 1):
            finder.see(record, line)
        return finder.finish()
