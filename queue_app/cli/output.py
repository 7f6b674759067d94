"""How commands speak: tables and JSON on stdout, hints and complaints on stderr."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from queue_app.store.money import dollars

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pydantic import BaseModel
    from rich.console import Console
    from rich.text import Text

    from queue_app.store import Job

LEAST_LEFT = 8  # characters of the last column
MOST_KEPT = 32  # characters of a column that is not the last
WIDTH = 100  # columns a table never passes when its output is no terminal

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Ids only.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="Id or unique prefix of one.")]
JobIds = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids or unique prefixes of them.")]

STATE_STYLES = {
    "queued": "cyan",
    "running": "bold blue",
    "waiting": "yellow",
    "paused": "magenta",
    "succeeded": "green",
    "failed": "bold red",
    "cancelled": "dim",
}


def console() -> Console:
    """The console on stdout, at most as wide as the terminal.

    A text is shown as it stands, and what has a style is a `Text`: prompts, globs and the words of providers are full
    of brackets, which Rich would take for its own.
    """
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, markup=False)


def write(text: str) -> None:
    """A line on stdout."""
    typer.echo(text)


def hint(text: str) -> None:
    """A line for people, on stderr."""
    typer.echo(text, err=True)


def complain(text: str) -> None:
    """An error, on stderr."""
    typer.echo(typer.style("error: ", fg="red", bold=True) + text, err=True)


def next_commands(*commands: str) -> None:
    """What to type next, on stderr."""
    for command in commands:
        hint(f"  {command}")


def write_json(value: Any) -> None:
    """A value as JSON on stdout, times in ISO 8601."""
    typer.echo(_json(value, indent=2))


def write_json_line(value: Any) -> None:
    """A value as one line of JSON on stdout, for what comes bit by bit."""
    typer.echo(_json(value))


def _json(value: Any, indent: int | None = None) -> str:
    """A value as JSON, with its letters as they are where the terminal has them."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    return json.dumps(value, default=_plain, indent=indent, ensure_ascii=not utf8)


def as_dict(model: BaseModel) -> dict[str, Any]:
    """A row as `--json` shows it."""
    return model.model_dump(mode="json")


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, wrap: bool = False) -> None:
    """A table of texts, plain ones or `Text`.

    Its last column gives way (or wraps), so that it fits the terminal, or 100 columns without one.
    """
    from rich.table import Table

    filled = list(rows)
    out = console()
    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    room = out.width
    for number, column in enumerate(columns):
        cells = [column, *(str(row[number]) for row in filled)]
        natural = max(max(map(len, cells)), 1)
        if number == len(columns) - 1:
            width = min(natural, max(room, LEAST_LEFT))
            grid.add_column(column, overflow="fold" if wrap else "ellipsis", no_wrap=not wrap, width=width)
        else:
            width = min(natural, MOST_KEPT)
            grid.add_column(column, overflow="ellipsis", no_wrap=True, width=width)
        room -= width + 2
    for row in filled:
        grid.add_row(*row)
    out.print(grid)


def show_values(title: str, values: Mapping[str, Any]) -> None:
    """Names and values, one a line, under a title; what a value holds stands below its name."""
    out = console()
    for name, value in values.items():
        for line in _lines(name, value):
            out.print(f"  {title:<10} {line}", soft_wrap=True)
            title = ""


def _lines(name: str, value: Any) -> Iterator[str]:
    """A name and its value; the parts of a list or a mapping on lines of their own."""
    if isinstance(value, dict) and value:
        yield f"{name}:"
        for key, part in value.items():
            yield from (f"  {line}" for line in _lines(str(key), part))
    elif isinstance(value, list | tuple) and value:
        yield f"{name}:"
        yield from (f"  {part}" for part in value)
    else:
        yield f"{name} = {_value_text(value)}"


def _value_text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1000 else f"{value:,.0f}"


def state_text(job: Job) -> Text:
    """State with the reason or cause beside it."""
    from rich.text import Text

    beside = job.cause if job.state == "failed" else job.reason
    asked = f" → {job.request}" if job.request else ""
    return Text.assemble((job.state, STATE_STYLES[job.state]), f" ({beside})" if beside else "", asked)


def size_text(size_bytes: int) -> str:
    """A size in the unit that tells it from nothing."""
    if size_bytes < 2**20:
        return f"{size_bytes / 2**10:,.1f} KiB"
    return f"{size_bytes / 2**20:,.1f} MiB" if size_bytes < 2**30 else f"{size_bytes / 2**30:,.1f} GiB"


def ago(then: datetime | None) -> str:
    """How long ago something was."""
    return f"{duration((datetime.now(UTC) - then).total_seconds())} ago" if then else "–"


def took(job: Job) -> str:
    """How long a job has run, or ran."""
    if job.started_at is None:
        return "–"
    end = job.finished_at or datetime.now(UTC)
    return duration((end - job.started_at).total_seconds())


def usd(amount: float | None) -> str:
    """An amount of money; what is less than a cent keeps the digits that tell it from nothing."""
    if amount is None:
        return "unknown"
    return dollars(amount)[0]


def usd_range(low: float | None, high: float | None) -> str:
    """A price from low to high."""
    if low is None or high is None or usd(low) == usd(high):
        return usd(high)
    return f"{usd(low)} – {usd(high)}"


def duration(seconds: float) -> str:
    """A duration in its two largest units."""
    seconds = max(0.0, seconds)
    if seconds < 10:
        return f"{seconds:.1f}s"
    if seconds < 60:
        return f"{seconds:.0f}s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m" if hours < 48 else f"{hours // 24}d {hours % 24}h"
