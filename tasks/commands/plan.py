"""`tuneyard plan RECIPE`: its steps, checked, and what its fine-tunes are priced by."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from queue_app.cli import context, output, recipes

if TYPE_CHECKING:
    from pathlib import Path

    from queue_app.recipe import Recipe
    from tasks.commands.quoting.line import Line

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command("plan")
def plan(recipe: recipes.RecipePath, overrides: recipes.Overrides = None, as_json: output.AsJson = False) -> None:
    """Check a recipe and show its steps and what they are priced by, without running anything."""
    read = recipes.read_recipe(recipe, overrides)
    prices = _prices(read)
    if as_json:
        steps = [asdict(step) for step in read.steps]
        told = [asdict(line) for line in prices]
        output.write_json({"name": read.name, "cap_usd": read.cap_usd, "steps": steps, "prices": told})
        return
    output.write(f"{read.name}: {len(read.steps)} steps\n")
    rows = [
        [str(number), step.name, step.kind, step.queue, ", ".join(step.needs) or "–", _short(step.spec)]
        for number, step in enumerate(read.steps, 1)
    ]
    output.table(["#", "STEP", "JOB", "QUEUE", "NEEDS", "SPEC"], rows)
    words = recipes.as_typed(recipe, overrides)
    if prices:
        _show_prices(prices, read.cap_usd, words)
    output.next_commands(f"tuneyard run {words}")


def _short(spec: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in spec.items())


def _prices(recipe: Recipe) -> list[Line]:
    """What the catalogue says of every hosted fine-tune, where the recipe sends it."""
    from tasks.commands.accounts.known import find_known
    from tasks.commands.quoting.hosted import listed_line
    from tasks.commands.quoting.work import works

    today = datetime.now(UTC).date()
    hosted = [work for work in works(recipe, {}, _unread, "") if work.account is not None]
    return [
        listed_line(work, find_known(context.settings(), work.account or ""), work.base_model, today) for work in hosted
    ]


def _unread(ref: str) -> Path:
    from pathlib import Path

    return Path(ref)


def _show_prices(prices: list[Line], cap_usd: float | None, words: str) -> None:
    output.write("\ncost:")
    for line in prices:
        output.console().print(f"  {line.step} at {line.place}: {_said(line)}")
    if cap_usd is not None:
        output.write(f"  all together at the most {output.usd(cap_usd)}; more waits for `tuneyard approve`")
    output.write(f"  `tuneyard quote {words}` counts the tokens and compares all providers")


def _said(line: Line) -> str:
    from tasks.commands.quoting.picture import said

    if line.impossible:
        return f"impossible: {line.impossible}"
    price = "price unknown" if line.usd_per_million is None else f"{output.usd(line.usd_per_million)} per 1M tokens"
    price = "" if line.free else f"{price} × {line.epochs:g} epochs"
    return " · ".join(filter(None, [price, *said(line)]))
