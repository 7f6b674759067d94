"""What came of jobs: their table, what was measured, where the files lie, and how to go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from queue_app.cli import context
from queue_app.cli.output import duration, hint, next_commands, state_text, table, took, write
from queue_app.errors import Invalid, NotFound
from queue_app.job_type import Result, find_job_type

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from queue_app.store import Job

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
INTERMEDIATE = ("dataset", "base-model", "adapter")  # kinds of artifacts of no interest once another step went on


def show_outcome(found: list[Job]) -> None:
    """A table of the steps, then what was measured, then how to go on."""
    write("")
    rows = [
        [job.step or job.kind, job.id, state_text(job), "reused" if job.reused_from else took(job), _row(job)]
        for job in found
    ]
    table(["STEP", "JOB", "STATE", "TOOK", "MEASURED"], rows)
    write("")
    _show_words(found)
    _show_total(found)
    nexts = _show_files(found)
    failed = [job for job in found if job.state == "failed"]
    for job in failed:
        hint(f"{job.step or job.id} failed ({job.cause}): {job.failure}")
    hint("")
    if failed:
        next_commands(f"tuneyard jobs explain {failed[0].id}", f"tuneyard jobs retry {failed[0].id}")
    elif nexts:
        next_commands(*nexts)
    elif found and found[0].run_id:
        next_commands(f"tuneyard jobs ls --run {found[0].run_id}")


def _row(job: Job) -> str:
    return job.failure if job.failure and job.state != "succeeded" else figures(job)


def figures(job: Job) -> str:
    """The figures of a job's result that have a name everybody knows."""
    result = job.result or {}
    known = {name: value for name, value in result.items() if isinstance(value, int | float)}
    words = [form.format(known[name]) for name, form in FIGURES.items() if name in known]
    if "remote_job" in result:  # the model is at a provider, and its name is what it is called by
        words.append(f"{result['model']} at {result['provider']}")
    return " · ".join(words)


def told_of(job: Job) -> list[tuple[str, str]]:
    """What a job's result says of itself, title by title."""
    try:
        made = find_job_type(job.kind).result
        if job.result is None or made.told is Result.told:
            return []
        return list(made.model_validate(job.result).told().items())
    except (ValidationError, Invalid):
        return [("result", f"of another version of {job.kind}; `tuneyard jobs show {job.id}` has its figures")]


def _show_words(found: list[Job]) -> None:
    told = [(job.step or job.id, job.kind, title, words) for job in found for title, words in told_of(job)]
    kinds = [kind for _, kind in {(step, kind) for step, kind, _, _ in told}]
    for step, kind, title, words in told:
        write(f"{title:<14} {words}" + (f"   [{step}]" if kinds.count(kind) > 1 else ""))


def _show_total(found: list[Job]) -> None:
    ends = [job.finished_at for job in found if job.finished_at]
    begins = [job.submitted_at for job in found]
    if ends:
        write(f"all in all     {duration((max(ends) - min(begins)).total_seconds())}")


def _show_files(found: list[Job]) -> list[str]:
    """Where lies what was made and not only gone on with; the commands that lead on from there."""
    index = context.read().artifacts
    made = {
        artifact: (name, job)
        for job in reversed(found)  # an artifact is its first step's
        for name, artifact in _artifacts_in(job.result)
    }
    went_on = {parent for artifact in made for parent in index.parents(artifact)}
    nexts = []
    for artifact, (name, job) in reversed(made.items()):
        try:
            kind = index.find(artifact).kind
            if kind in INTERMEDIATE and artifact in went_on:
                continue
            place = _file_in(context.runner("cli").artifacts.fetch(artifact), job.result or {})
        except NotFound as error:
            hint(str(error))
            continue
        write(f"{name:<14} {place}   [{job.step or job.id}]")
        nexts += {"model": [f"tuneyard chat {artifact[7:19]}"], "gguf": [f"llama-cli -m {place}"]}.get(kind, [])
    return nexts


def _artifacts_in(result: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every artifact of a result, under the name that it has there."""
    if isinstance(result, dict):
        for key, value in result.items():
            yield from _artifacts_in(value, str(key))
    elif isinstance(result, str) and result.startswith("sha256:"):
        yield name, result


def _file_in(folder: Path, result: dict[str, Any]) -> Path:
    """The file that the result names, or the only one; else the folder."""
    inside = list(folder.iterdir())
    named = folder / str(result.get("file", ""))
    return inside[0] if len(inside) == 1 else named if named.is_file() else folder
