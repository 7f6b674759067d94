"""The report for a terminal: tables and bars that fit 100 columns, in colours where there are any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from tasks.data.reporting.report import number, placed

if TYPE_CHECKING:
    from tasks.data.reporting.report import Chart, Figure, Level, Report, Section

STYLES: dict[Level, str] = {"plain": "bold", "good": "bold green", "notice": "bold yellow", "problem": "bold red"}
BAR = 32  # cells of the longest
LABEL = 26
SAMPLES = 3  # shown of each section; the files hold all
RANKS = 8


def summary(report: Report) -> Group:
    """What is worth seeing at once; the published files hold the rest."""
    parts: list[RenderableType] = [
        Text(report.title, style="bold"),
        Text(report.source, style="dim"),
        _figures(report.headline),
    ]
    if report.checks:
        parts += [Rule("Gate", align="left"), _checks(report)]
    for section in report.sections:
        parts += _section(section)
    return Group(*parts)


def _section(section: Section) -> list[RenderableType]:
    parts: list[RenderableType] = [Rule(Text(section.title), align="left", style="dim")]
    if section.skipped:
        return [*parts, Text(f"not done: {section.skipped}", style="dim")]
    if section.summary:
        parts.append(Text(section.summary))
    if section.figures:
        parts.append(_figures(section.figures))
    parts += [_chart(chart) for chart in section.charts]
    for sample in section.samples[:SAMPLES]:
        parts.append(Text.assemble((f"{placed(sample.lines)} ", "cyan"), (f"{sample.label} ", "dim"), sample.text))
    if len(section.samples) > SAMPLES:
        parts.append(Text(f"… {len(section.samples) - SAMPLES} more in the report", style="dim"))
    return parts


def _figures(figures: list[Figure]) -> Table:
    table = Table.grid(padding=(0, 2))
    for figure in figures:
        value = Text(number(figure.value), style=STYLES[figure.level], justify="right")
        table.add_row(Text(figure.label), value, Text(figure.note, style="dim"))
    return table


def _checks(report: Report) -> Table:
    table = Table.grid(padding=(0, 2))
    for check in report.checks:
        share = "" if check.share is None else f" ({check.share:.2%})"
        verdict = Text("passed", style=STYLES["good"]) if check.passed else Text("failed", style=STYLES["problem"])
        table.add_row(Text(check.name), f"{check.limit:g}", f"{check.measured:,}{share}", verdict)
    return table


def _chart(chart: Chart) -> Padding:
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", width=LABEL, no_wrap=True)
    table.add_column(width=BAR)
    table.add_column(justify="right")
    most = max((bar.value for bar in chart.bars), default=0) or 1
    shown = chart.bars if chart.kind == "histogram" else chart.bars[:RANKS]
    for bar in shown:
        table.add_row(Text(bar.label), Text(_blocks(bar.value / most), style="blue"), number(bar.value))
    title = Text.assemble((chart.title, "bold"), (f"  {chart.note}", "dim"))
    hidden = len(chart.bars) - len(shown)
    rest = [Text(f"… {hidden} more in the report", style="dim")] if hidden else []
    return Padding(Group(title, table, *rest), (1, 0, 0, 0))


def _blocks(share: float) -> str:
    """A bar in eighths of a cell; what is there is seen."""
    eighths = max(1, round(share * BAR * 8)) if share else 0
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
