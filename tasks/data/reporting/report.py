"""What an audit tells, whatever it is written as: sections of figures, bars and samples."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from tasks.data.gates import Check

SCHEMA = 1  # of report.json; grows when a field goes or changes its meaning

Level = Literal["plain", "good", "notice", "problem"]


class Figure(msgspec.Struct, frozen=True):
    """One number with its name; `note` is what it is a number of."""

    label: str
    value: int | float | str
    level: Level = "plain"
    note: str = ""


class Bar(msgspec.Struct, frozen=True):
    """One bar of a chart; `lines` are the first of the file that it stands for."""

    label: str
    value: int
    lines: list[int] = []


class Chart(msgspec.Struct, frozen=True):
    """Bars side by side: sizes in their order, or values ranked by how often they occur."""

    title: str
    kind: Literal["histogram", "ranking"]
    bars: list[Bar]
    note: str = ""


class Sample(msgspec.Struct, frozen=True):
    """Where a finding is, and what it looks like, with everything personal masked."""

    lines: list[int]
    text: str
    label: str = ""


class Section(msgspec.Struct, frozen=True):
    """One part of the audit. `skipped` says why it was not done, `limits` what it cannot see."""

    key: str
    title: str
    summary: str = ""
    figures: list[Figure] = []
    charts: list[Chart] = []
    samples: list[Sample] = []
    limits: str = ""
    skipped: str = ""


class Report(msgspec.Struct, frozen=True):
    """An audit as it is published; `data` are the findings as they were measured."""

    title: str
    source: str
    created: str  # ISO 8601, UTC
    examples: int
    passed: bool | None  # None where no threshold was given
    checks: list[Check]
    headline: list[Figure]
    sections: list[Section]
    seconds: dict[str, float]  # by part
    data: dict[str, Any]
    schema: int = SCHEMA


def number(value: int | float | str) -> str:
    """A figure as people read it."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.1f}" if isinstance(value, float) else value


def placed(lines: list[int]) -> str:
    """`line 3` or `lines 3, 17, 90`."""
    return f"line{'s' if len(lines) > 1 else ''} {', '.join(map(str, lines))}" if lines else ""


def level_of(count: int, *, problem: bool = False) -> Level:
    """Good where nothing was found; otherwise a notice, or a problem."""
    if not count:
        return "good"
    return "problem" if problem else "notice"
