"""The book of a check: every finding counted, the first of each rule written down."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from tasks.data.writing import JsonlWriter

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from tasks.data.checking.finding import Finding

FINDINGS = "findings.jsonl"
FIRST = 20  # findings that a result shows


class Ledger:
    """Counts findings by rule, and writes at most `listed` of each to `findings.jsonl`; `unlisted` counts the rest."""

    def __init__(self, folder: Path, listed: int) -> None:
        self._writer = JsonlWriter(folder / FINDINGS)
        self._listed = listed
        self.found: Counter[str] = Counter()
        self.fixed: Counter[str] = Counter()
        self.left: Counter[str] = Counter()  # by severity, without what was repaired or set aside
        self.unlisted: Counter[str] = Counter()
        self._first: dict[str, list[Finding]] = {"blocking": [], "warning": []}

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._writer.__exit__(kind, error, at)

    def add(self, finding: Finding, *, set_aside: bool = False) -> None:
        """Note a finding; one of a row that was set aside is told, and stands in nobody's way."""
        self.found[finding.rule] += 1
        if finding.fixed:
            self.fixed[finding.rule] += 1
        elif not set_aside:
            self.left[finding.severity] += 1
            if len(self._first[finding.severity]) < FIRST:
                self._first[finding.severity].append(finding)
        if self.found[finding.rule] <= self._listed:
            self._writer.write(finding)
        else:
            self.unlisted[finding.rule] += 1

    @property
    def first(self) -> list[Finding]:
        """The first findings that are left, the blocking ones before the warnings."""
        return (self._first["blocking"] + self._first["warning"])[:FIRST]

    def figures(self) -> dict[str, Any]:
        """What was counted."""
        return {
            "blocking": self.left["blocking"],
            "warnings": self.left["warning"],
            "found": dict(sorted(self.found.items())),
            "fixed": dict(sorted(self.fixed.items())),
            "unlisted": dict(sorted(self.unlisted.items())),
        }
