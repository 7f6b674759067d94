"""`tuneyard jobs metrics`: what a job told of its steps, as a curve, a picture or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from queue_app.cli import context
from queue_app.cli.curve import MARGIN, drawn, png, svg
from queue_app.cli.output import AsJson, JobId, console, hint, table, write, write_json_line
from queue_app.cli.progress import course
from queue_app.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from queue_app.cli.curve import Point
    from queue_app.store import Job

COLUMNS, ROWS, WATCHED_ROWS = 78, 14, 8  # characters of a curve, where the terminal has room for them
SHOWN = (
    "loss",
    "holdout_loss",
    "learning_rate",
    "grad_norm",
    "tokens_per_second",
    "gpu_percent",
    "vram_mib",
    "gpu_watts",
)


def metrics(
    job_id: JobId,
    plot: Annotated[
        Path | None, typer.Option(help="Write the losses as a picture: a file that ends in .png or .svg.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a job's loss as it fell, over all its attempts, and what else it told of its steps."""
    if plot is not None and plot.suffix not in (".png", ".svg"):
        raise Invalid(f"--plot {plot}: a picture is written as .png or .svg")
    read = context.read()
    told = unbroken(read.series(read.find(job_id).id))
    if as_json:
        for row in told:
            write_json_line(row)
    curves = {name: found for name in ("loss", "holdout_loss") if (found := curve_of(told, name))}
    if not curves and (plot is not None or not as_json):
        raise Invalid(f"job {job_id} has told no loss; `tuneyard jobs events {job_id}` shows what it did")
    if not as_json:
        _show(told, curves)
    if plot is not None:
        plot.write_bytes(png(curves) if plot.suffix == ".png" else svg(curves).encode())
        hint(f"wrote {plot}")


def unbroken(series: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The steps in order: those that a later attempt did again count as it told them."""
    kept: list[dict[str, Any]] = []
    for row in (row for row in series if "step" in row):
        while kept and kept[-1]["step"] >= row["step"]:
            kept.pop()
        kept.append(row)
    return kept


def curve_of(told: Iterable[dict[str, Any]], name: str) -> list[Point]:
    """The values of a name over the steps; the holdout's where it was looked at, not where it was told again."""
    where = "holdout_step" if name == "holdout_loss" else "step"
    points = {row.get(where, row["step"]): row[name] for row in told if isinstance(row.get(name), int | float)}
    return [(float(step), float(value)) for step, value in points.items()]


def falling_loss(found: Sequence[Job]) -> str:
    """The loss of the first of some jobs that trains at this moment, as a curve; nothing before it has two steps."""
    training = [job for job in found if job.state == "running" and "loss" in (job.progress or {})]
    if not training:
        return ""
    curve = curve_of(unbroken(context.read().series(training[0].id)), "loss")
    if len(curve) < 2:
        return ""
    title = f"loss of {training[0].id}"
    return "\n".join(["", title, *drawn(curve, _columns(), WATCHED_ROWS), course(training[0])])


def _columns() -> int:
    """As wide as a curve may be without being broken at the edge."""
    return max(MARGIN, min(COLUMNS, console().width - MARGIN))


def _show(told: list[dict[str, Any]], curves: dict[str, list[Point]]) -> None:
    for name, curve in curves.items():
        write(f"{name} at {len(curve)} steps")
        for line in drawn(curve, _columns(), ROWS):
            write(line)
    named = [(name, [row[name] for row in told if isinstance(row.get(name), int | float)]) for name in SHOWN]
    rows = [
        [name, f"{values[0]:.4g}", f"{values[-1]:.4g}", f"{min(values):.4g}", f"{max(values):.4g}"]
        for name, values in named
        if values
    ]
    table(["", "FIRST", "LAST", "LEAST", "MOST"], rows)
