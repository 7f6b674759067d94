"""`tuneyard quote RECIPE`: what its fine-tunes would cost at every provider and on a GPU of one's own."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from queue_app.cli import context, output, recipes

if TYPE_CHECKING:
    from queue_app.recipe import Recipe
    from tasks.commands.quoting.grounds import Grounds
    from tasks.commands.quoting.line import Line
    from tasks.commands.quoting.work import Work

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
WHY_NOT = "made by a step that is not run for a quote"


@app.command("quote")
def quote(
    recipe: recipes.RecipePath,
    overrides: recipes.Overrides = None,
    every: Annotated[bool, typer.Option("--all", help="Every model of every provider, not one each.")] = False,
    as_json: output.AsJson = False,
) -> None:
    """Say what a recipe's fine-tunes would cost at every provider and on your own GPU. Needs no key, sends nothing.

    The steps that make the data are run here, as `tuneyard data` does; what was done before is reused.
    """
    read = recipes.read_recipe(recipe, overrides)
    lines, failed = quoted(read, every=every)
    if as_json:
        output.write_json({"recipe": read.name, "cap_usd": read.cap_usd, "lines": [asdict(line) for line in lines]})
    elif not lines:
        output.hint(f"{read.name} has no fine-tune: nothing to pay for")
    else:
        _show(lines, read.cap_usd)
        output.next_commands(f"tuneyard run {recipes.as_typed(recipe, overrides)}", "tuneyard providers ls")
    if failed:
        raise typer.Exit(1)


def _show(lines: list[Line], cap_usd: float | None) -> None:
    from tasks.commands.quoting.picture import picture

    for line in picture(lines):
        output.write(line)
    output.write("")
    output.write(total_words(lines, cap_usd))


def quoted(recipe: Recipe, *, every: bool) -> tuple[list[Line], str]:
    """The lines of a quote, the free steps that make the data being run; and which of those failed, if one did."""
    from tasks.commands.quoting.hosted import hosted_lines
    from tasks.commands.quoting.own_gpu import own_gpu_line

    results, failed = _made(recipe)
    grounds = _grounds()
    lines = []
    for work in _works(recipe, results, failed, grounds):
        lines += [*hosted_lines(work, grounds, every=every), own_gpu_line(work, grounds)]
    return sorted(lines, key=lambda line: line.rank), failed


def _works(recipe: Recipe, results: dict[str, Any], failed: str, grounds: Grounds) -> list[Work]:
    from tasks.commands.quoting.own_gpu import base_artifact
    from tasks.commands.quoting.work import works

    found = works(recipe, results, grounds.resolve, failed or WHY_NOT)
    bases = [base_artifact(grounds.store.read, work.base_model) for work in found]
    return [
        work if base is None else replace(work, called=base.name or base.id[7:19])
        for work, base in zip(found, bases, strict=True)
    ]


def _grounds() -> Grounds:
    from queue_app.artifacts import JobArtifacts
    from tasks.commands.quoting.grounds import Grounds

    artifacts = JobArtifacts(context.runner("quote").artifacts, "quote")
    return Grounds(context.settings(), context.store(), artifacts.resolve, datetime.now(UTC).date())


def _made(recipe: Recipe) -> tuple[dict[str, Any], str]:
    """The results of the steps that make the data, run here; and why the others have none."""
    from queue_app.cli.here import finish_here
    from tasks.commands.quoting.work import data_steps

    steps = data_steps(recipe)
    if not steps:
        return {}, ""
    _, ids = context.dispatcher().run(replace(recipe, steps=steps))
    for job_id in ids.values():
        finish_here(job_id)
    jobs = {name: context.read().job(job_id) for name, job_id in ids.items()}
    failed = [job for job in jobs.values() if job.state == "failed"]
    why = f"{failed[0].step} failed: {failed[0].failure}" if failed else ""
    return {name: job.result for name, job in jobs.items() if job.result is not None}, why


def total_words(lines: list[Line], cap_usd: float | None) -> str:
    """What the places that the recipe chose cost all together, beside its cap."""
    chosen = [line for line in lines if line.chosen]
    known = [line for line in chosen if line.high_usd is not None]
    low, high = (sum(amounts) for amounts in ([n.low_usd or 0.0 for n in known], [n.high_usd or 0.0 for n in known]))
    text = f"as the recipe has it (→): {output.usd_range(low, high)}"
    if len(known) < len(chosen):
        text += f", and {len(chosen) - len(known)} of {len(chosen)} fine-tunes at a price that is not known"
    if cap_usd is None:
        return text
    over = high > cap_usd or len(known) < len(chosen)
    return f"{text}; its cap is {output.usd(cap_usd)}" + (
        ": what goes over it waits for `tuneyard approve`" if over else ""
    )
