"""A quote as a table, with what is to be said of each line below it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from queue_app.cli.output import WIDTH, duration, usd, usd_range

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tasks.commands.quoting.line import Line

COLUMNS = (" ", "WHERE", "MODEL", "TOKENS", "PRICE", "RUNS")
WIDTHS = (1, 14, 30, 15, 23, 9)
CHOSEN = "→"


def picture(lines: Sequence[Line]) -> Iterator[str]:
    """The lines of the table, step by step; the first of a step is the one that the recipe chose."""
    yield _row(COLUMNS)
    for step in dict.fromkeys(line.step for line in lines):
        yield f"{step}:"
        for line in sorted((line for line in lines if line.step == step), key=lambda line: line.rank):
            price = "impossible" if line.impossible else usd_range(line.low_usd, line.high_usd)
            runs = "unknown" if line.run_seconds is None else duration(line.run_seconds)
            mark = CHOSEN if line.chosen else " "
            yield _row((mark, line.place, line.model.rpartition("/")[2], _tokens(line), price, runs))
            yield from textwrap.wrap(
                " · ".join(said(line)),
                WIDTH,
                initial_indent=" " * 5,
                subsequent_indent=" " * 5,
                break_on_hyphens=False,
            )


def _row(cells: Sequence[str]) -> str:
    cut = (cell if len(cell) <= width else f"{cell[: width - 1]}…" for cell, width in zip(cells, WIDTHS, strict=True))
    return " ".join(cell.ljust(width) for cell, width in zip(cut, WIDTHS, strict=True)).rstrip()


def _tokens(line: Line) -> str:
    if line.tokens is None:
        return "–" if line.impossible else "unknown"
    about = "" if line.exact else "~"
    return f"{about}{_short(line.tokens)} × {line.epochs:.3g}"


def _short(tokens: int) -> str:
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if tokens >= size:
            return f"{tokens / size:.1f}{letter}"
    return str(tokens)


def said(line: Line) -> Iterator[str]:
    """What is to be known of a line beside its figures."""
    if line.impossible:
        yield line.impossible
        return
    if line.minimum_usd is not None:
        yield f"at least {usd(line.minimum_usd)}"
    if line.estimate_usd is not None:
        more = "" if line.high_usd is None else f", {usd(abs(line.estimate_usd - line.high_usd))} from our high end"
        yield f"its own estimate {usd(line.estimate_usd)}{more}"
    if line.machine:
        yield line.machine
    yield from _serving(line)
    if line.slots:
        yield line.slots
    if line.run_seconds_by:
        yield line.run_seconds_by
    yield from line.notes


def _serving(line: Line) -> Iterator[str]:
    if line.hosting_usd_per_hour is not None:
        yield f"its answers need an endpoint at {usd(line.hosting_usd_per_hour)} an hour"
    elif "endpoint" in line.serving and not line.serving.startswith("by "):
        yield f"its answers need {line.serving}, price unknown"
    if line.storage_usd_per_month is not None:
        yield f"{usd(line.storage_usd_per_month)} a month to keep the model"
