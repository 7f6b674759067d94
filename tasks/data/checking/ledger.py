"""The book of a check: every finding counted, the first of each rule written down."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from tasks.data.writing import JsonlWriter

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from tasks.data.checking.finding import Finding, Severity

FINDINGS = "findings.jsonl"
FIRST = 20  # findings that a result shows
_INDEX = re.compile(r"\[\d+\]")


class Ledger:
    """Counts findings by rule, and writes at most `listed` of each to `findings.jsonl`; `unlisted` counts the rest."""

    def __init__(self, folder: Path, listed: int) -> None:
        self._writer = JsonlWriter(folder / FINDINGS)
        self._listed = listed
        self.found: Counter[str] = Counter()
        self.fixed: Counter[str] = Counter()
        self.left: Counter[str] = Counter()  # by severity, without what was repaired or set aside
        self.fixable: Counter[str] = Counter()  # of those left, by severity
        self.unlisted: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()  # by field, wherever in its list it stands
        self._first: dict[str, list[Finding]] = {"blocking": [], "warning": []}

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._writer.__exit__(kind, error, at)

    def add(self, rule: str, severity: Severity, *, fixed: bool, set_aside: bool) -> bool:
        """Count a finding; whether it is one that is told as well.

        One of a row that was set aside stands in nobody's way.
        """
        self.found[rule] += 1
        if fixed:
            self.fixed[rule] += 1
        elif not set_aside:
            self.left[severity] += 1
            if len(self._first[severity]) < FIRST:
                return True
        if self.found[rule] <= self._listed:
            return True
        self.unlisted[rule] += 1
        return False

    def drop(self, field: str) -> None:
        """Count what a repair took out."""
        self.dropped[_INDEX.sub("[]", field)] += 1

    def tell(self, finding: Finding, *, set_aside: bool) -> None:
        """Write down a finding that was counted just now."""
        first = self._first[finding.severity]
        if not finding.fixed and not set_aside and len(first) < FIRST:
            first.append(finding)
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
            "fixable": dict(sorted(self.fixable.items())),
            "fixed": dict(sorted(self.fixed.items())),
            "unlisted": dict(sorted(self.unlisted.items())),
        }
