"""`tuneyard run` and `demo`: whole recipes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from queue_app.cli import context
from queue_app.cli.outcome import show_outcome
from queue_app.cli.output import AsJson, Quiet, as_dict, hint, next_commands, write, write_json
from queue_app.cli.submit import exit_code_of
from queue_app.errors import Invalid

if TYPE_CHECKING:
    from queue_app.recipe import Recipe
    from queue_app.store import Job

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="steps.STEP.FIELD=VALUE", help="Change the recipe; repeatable.")
]
RecipePath = Annotated[Path, typer.Argument(help="A recipe file (YAML).")]


def register(app: typer.Typer) -> None:
    """Add the commands to the tree."""
    app.command()(run)


def read_recipe(path: Path, overrides: list[str] | None) -> Recipe:
    """Read and check a recipe with its overrides."""
    from queue_app.recipe import load_recipe

    pairs = {}
    for word in overrides or []:
        name, equals, value = word.partition("=")
        if not equals:
            raise Invalid(f"--set {word}: write it as steps.STEP.FIELD=VALUE")
        pairs[name] = value
    return load_recipe(path, pairs, context.settings())


def as_typed(path: Path, overrides: list[str] | None) -> str:
    """A recipe with its overrides, as the words of another command."""
    return shlex.join([str(path), *(part for word in overrides or [] for part in ("--set", word))])


def run(
    recipe: RecipePath,
    overrides: Overrides = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Submit and return at once.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do every step again, also those done before.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run a recipe: submit its steps, watch them, and show what came of it. Ctrl-C detaches; the jobs go on."""
    read = read_recipe(recipe, overrides)
    run_id, ids = context.dispatcher().run(read, reuse=not fresh)
    if quiet:
        for job_id in ids.values():
            write(job_id)
    elif as_json and detach:
        write_json({"run": run_id, "jobs": ids})
    if not quiet:
        hint(f"run {run_id} of {read.name}: {len(ids)} jobs")
        next_commands(f"tuneyard jobs watch {run_id}", f"tuneyard jobs ls --run {run_id}")
    if detach or quiet:
        return
    attend(run_id, ids, as_json=as_json)


def attend(run_id: str, ids: dict[str, str], *, as_json: bool) -> None:
    """Watch a run to its end, show its table, and leave with its exit code."""
    from queue_app.cli.live import watch

    found = watch(list(ids.values())) if not as_json else _wait_silently(list(ids.values()))
    if as_json:
        write_json({"run": run_id, "jobs": [as_dict(job) for job in found]})
    else:
        show_outcome(found)
    raise typer.Exit(max(exit_code_of(job) for job in found))


def _wait_silently(job_ids: list[str]) -> list[Job]:
    import time

    from queue_app.lifecycle import FINAL

    read = context.read()
    while True:
        found = [read.job(job_id) for job_id in job_ids]
        if all(job.state in FINAL for job in found):
            return found
        time.sleep(0.3)
