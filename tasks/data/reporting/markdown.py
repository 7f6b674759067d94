"""The report as Markdown, with bars of block characters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tasks.data.reporting.report import number, placed

if TYPE_CHECKING:
    from tasks.data.reporting.report import Chart, Figure, Report, Section

BAR = 30  # characters of the longest
_MEANT = re.compile(r"([\\`*_{}\[\]<>#|~&!])")


def markdown(report: Report) -> str:
    """The report as GitHub-flavoured Markdown."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"# {plain(report.title)}"
    yield f"\n{plain(report.source)} · {report.created}"
    yield from _figures(report.headline)
    if report.checks:
        yield f"\n## Gate: {'passed' if report.passed else 'said no'}\n"
        yield "| threshold | limit | measured | |\n|---|---:|---:|---|"
        for check in report.checks:
            share = "" if check.share is None else f" ({check.share:.2%})"
            verdict = "passed" if check.passed else "**failed**"
            yield f"| {check.name} | {check.limit:g} | {check.measured:,}{share} | {verdict} |"
    for section in report.sections:
        yield from _section(section)


def _section(section: Section) -> Iterator[str]:
    yield f"\n## {plain(section.title)}"
    if section.skipped:
        yield f"\nNot done: {plain(section.skipped)}."
    if section.summary:
        yield f"\n{plain(section.summary)}"
    yield from _figures(section.figures)
    for chart in section.charts:
        yield from _chart(chart)
    if section.samples:
        yield "\n| where | | what |\n|---|---|---|"
        for sample in section.samples:
            yield f"| {placed(sample.lines)} | {plain(sample.label)} | {plain(sample.text)} |"
    if section.limits:
        yield f"\n_{plain(section.limits)}_"


def _figures(figures: list[Figure]) -> Iterator[str]:
    if figures:
        yield "\n| | | |\n|---|---:|---|"
    for figure in figures:
        yield f"| {plain(figure.label)} | {plain(number(figure.value))} | {plain(figure.note)} |"


def _chart(chart: Chart) -> Iterator[str]:
    yield f"\n**{plain(chart.title)}** {plain(chart.note)}".rstrip()
    if not chart.bars:
        return
    most = max(bar.value for bar in chart.bars) or 1
    width = min(28, max(len(bar.label) for bar in chart.bars))
    yield "\n```text"
    for bar in chart.bars:
        label = " ".join(bar.label.replace("`", "'").split())[:width]
        yield f"{label:>{width}}  {'█' * round(BAR * bar.value / most):{BAR}}  {bar.value:,}"
    yield "```"


def plain(text: str) -> str:
    """Text that stands in Markdown as it is: on one line, with nothing in it that means something there."""
    return _MEANT.sub(r"\\\1", " ".join(text.split()))
