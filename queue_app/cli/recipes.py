"""`tuneyard run` and `demo`: whole recipes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from queue_app.cli import context
from queue_app.cli.output import (
    AsJson,
    Quiet,
    as_dict,
    duration,
    hint,
    next_commands,
    state_text,
    table,
    took,
    write,
    write_json,
)
from queue_app.cli.submit import exit_code_of
from queue_app.errors import Invalid, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    return load_recipe(path, pairs)


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


def show_outcome(found: list[Job]) -> None:
    """A table of the steps, then what was measured, then how to go on."""
    write("")
    rows = [
        [job.step or job.kind, job.id, state_text(job), "reused" if job.reused_from else took(job), _figures(job)]
        for job in found
    ]
    table(["STEP", "JOB", "STATE", "TOOK", "MEASURED"], rows)
    _show_measured(found)
    failed = [job for job in found if job.state == "failed"]
    for job in failed:
        hint(f"{job.step or job.id} failed ({job.cause}): {job.failure}")
    if failed:
        next_commands(f"tuneyard jobs explain {failed[0].id}", f"tuneyard jobs retry {failed[0].id}")
    elif found and found[0].run_id and all(job.kind != "adapter.merge" for job in found):
        next_commands(f"tuneyard jobs ls --run {found[0].run_id}")


# What a step's row shows of its result: field → how it is written.
FIGURES: dict[str, str] = {
    "examples": "{:,} examples",
    "tokens": "{:,} tokens",
    "train_examples": "{:,} to train on",
    "holdout_examples": "{:,} held out",
    "steps": "{} steps",
    "tokens_per_second": "{:.0f} tok/s",
    "effect_kept": "{:.0%} of the adapter's effect kept",
    "base_loss": "loss {:.3f}",
    "tuned_loss": "→ {:.3f}",
}


def _figures(job: Job) -> str:
    if job.failure and job.state != "succeeded":
        return job.failure
    result = job.result or {}
    known = {name: value for name, value in result.items() if isinstance(value, int | float)}
    figures = [form.format(known[name]) for name, form in FIGURES.items() if name in known]
    if "remote_job" in result:  # the model is at a provider, and its name is what it is called by
        figures.append(f"{result['model']} at {result['provider']}")
    return " · ".join(figures)


def _show_measured(found: list[Job]) -> None:
    write("")
    for title, kind, words in (("held-out loss", "model.evaluate", _score), ("training", "adapter.train", _training)):
        done = [(job.step or job.id, job.result) for job in found if job.kind == kind and job.result]
        for step, result in done:
            beside = f"   [{step}]" if len(done) > 1 else ""
            write(f"{title:<14} {words(result)}{beside}")
    _show_total(found)
    _show_files(found)
    for merged in [job for job in found if job.kind == "adapter.merge" and job.result]:
        _show_model(merged)


def _score(result: dict[str, Any]) -> str:
    return (
        f"{result['base_loss']:.3f} before → {result['tuned_loss']:.3f} after"
        f"   (perplexity {result['base_perplexity']:.1f} → {result['tuned_perplexity']:.1f},"
        f" {result['examples']} examples)"
    )


def _training(result: dict[str, Any]) -> str:
    speed = result.get("tokens_per_second")  # a run that was resumed after its last step has measured none
    words = f"{speed:.0f} tokens/s" if speed is not None else "speed not measured"
    return f"{words} on {result['device']} by {result['engine']}"


def _show_total(found: list[Job]) -> None:
    ends = [job.finished_at for job in found if job.finished_at]
    begins = [job.submitted_at for job in found]
    if ends:
        write(f"all in all     {duration((max(ends) - min(begins)).total_seconds())}")


def _show_files(found: list[Job]) -> None:
    """Where lies what the steps on data made: exports, reports, and the data sets that no other step went on with."""
    index = context.read().artifacts
    made = {
        artifact: (name, job.step or job.id)
        for job in reversed(found)  # an artifact is its first step's
        if job.kind.startswith("dataset.")
        for name, artifact in _artifacts_in(job.result)
    }
    went_on = {parent for artifact in made for parent in index.parents(artifact)}
    for artifact, (name, step) in reversed(made.items()):
        try:
            if index.find(artifact).kind != "dataset" or artifact not in went_on:
                write(f"{name:<14} {_only_file(context.runner('cli').artifacts.fetch(artifact))}   [{step}]")
        except NotFound as error:
            hint(str(error))


def _artifacts_in(result: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every artifact of a result, under the name that it has there."""
    if isinstance(result, dict):
        for key, value in result.items():
            yield from _artifacts_in(value, str(key))
    elif isinstance(result, str) and result.startswith("sha256:"):
        yield name, result


def _only_file(folder: Path) -> Path:
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 else folder


def _show_model(job: Job) -> None:
    model = (job.result or {})["model"]
    try:
        place = context.runner("cli").artifacts.fetch(model)
    except NotFound as error:
        hint(str(error))
        return
    write(f"model          {place}")
    hint("")
    next_commands(f"tuneyard jobs show {job.id}", f"tuneyard chat {model[7:19]}")
