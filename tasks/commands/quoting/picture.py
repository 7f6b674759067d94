"""A quote as a table, with what is to be said of each line below it, and of several lines below them all."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from queue_app.cli.output import WIDTH, duration, usd, usd_range

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tasks.commands.quoting.line import Line

COLUMNS = (" ", "WHERE", "MODEL", "TRAINED ON", "PRICE", "TIME")
WIDTHS = (1, 14, 34, 12, 23, 9)
CHOSEN = "→"
LEGEND = (
    "TRAINED ON: tokens, all epochs together",
    "~ an estimate: the model's own vocabulary is not at hand",
    "– not known",
)


def picture(lines: Sequence[Line]) -> Iterator[str]:
    """The lines of the table, step by step; the first of a step is the one that the recipe chose."""
    yield _row(COLUMNS)
    for step in dict.fromkeys(line.step for line in lines):
        yield f"{step}:"
        of_step = sorted((line for line in lines if line.step == step), key=lambda line: line.rank)
        shared = _shared(of_step)
        for line in of_step:
            yield _row(_cells(line))
            own = (phrase for phrase in said(line) if line.place not in shared.get(phrase, ()))
            yield from _wrapped(" · ".join(own), " " * 5)
        everywhere = {line.place for line in of_step}
        for phrase, places in shared.items():
            yield from _wrapped(f"{'all' if set(places) == everywhere else ', '.join(places)}: {phrase}", "  ")
    yield ""
    yield from _wrapped(" · ".join(LEGEND), "")


def _cells(line: Line) -> tuple[str, ...]:
    price = "impossible" if line.impossible else usd_range(line.low_usd, line.high_usd)
    time = "–" if line.run_seconds is None else duration(line.run_seconds)
    mark = CHOSEN if line.chosen else " "
    return mark, line.place, line.model.rpartition("/")[2], _tokens(line), price, time


def _row(cells: Sequence[str]) -> str:
    cut = (cell if len(cell) <= width else f"{cell[: width - 1]}…" for cell, width in zip(cells, WIDTHS, strict=True))
    return " ".join(cell.ljust(width) for cell, width in zip(cut, WIDTHS, strict=True)).rstrip()


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _shared(lines: Sequence[Line]) -> dict[str, list[str]]:
    """What holds of every line of several places: the sentence, and the places."""
    phrases = {id(line): set(said(line)) for line in lines}
    found: dict[str, list[str]] = {}
    for place in dict.fromkeys(line.place for line in lines):
        of_place = [line for line in lines if line.place == place]
        for phrase in said(of_place[0]):
            if all(phrase in phrases[id(line)] for line in of_place):
                found.setdefault(phrase, []).append(place)
    return {phrase: places for phrase, places in found.items() if len(places) > 1}


def _tokens(line: Line) -> str:
    if line.tokens is None or line.epochs is None:
        return "–"
    about = "" if line.exact else "~"
    return f"{about}{_short(round(line.tokens * line.epochs))}"


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
    if line.tokens is not None and line.epochs not in (None, 1.0):
        yield _passes(line.epochs or 1.0)
    if line.minimum_usd is not None:
        yield f"at least {usd(line.minimum_usd)}"
    if line.estimate_usd is not None:
        more = "" if line.high_usd is None else f", {usd(abs(line.estimate_usd - line.high_usd))} from our high end"
        yield f"its own estimate {usd(line.estimate_usd)}{more}"
    if line.machine:
        yield line.machine
    yield from _serving(line)
    if line.slots:
        yield f"{line.slots}{_wait(line)}"
    if line.run_seconds_by:
        yield line.run_seconds_by
    yield from line.notes


def _wait(line: Line) -> str:
    if not line.turns:
        return ""
    known = "how long is not known" if line.wait_seconds is None else f"about {duration(line.wait_seconds)}"
    return f": it would wait for one, {known}"


def _serving(line: Line) -> Iterator[str]:
    if line.hosting_usd_per_hour is not None:
        yield f"its answers need an endpoint at {usd(line.hosting_usd_per_hour)} an hour"
    elif "endpoint" in line.serving and not line.serving.startswith("by "):
        yield f"its answers need {line.serving}, price unknown"
    if line.storage_usd_per_month is not None:
        yield f"{usd(line.storage_usd_per_month)} a month to keep the model"


def _passes(epochs: float) -> str:
    if epochs < 1:
        return f"reads {epochs:.0%} of the examples"
    return f"{epochs:.0f} epochs" if epochs == round(epochs) else f"{epochs:.1f} passes over the examples"
