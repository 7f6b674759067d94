"""What a job tells of its course (`Attempt.report`), in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from queue_app.store import Job

Forms = tuple[str, ...]  # the first of which all names were told, as numbers where they are written as such, is taken

MATERIAL = (
    "{examples:,} examples ({truncated_examples:,} cut, {dropped_examples:,} too long, {weightless_examples:,} of no "
    "weight)"
)
BRIEF: tuple[Forms, ...] = (
    ("{step}/{steps}", "step {step}"),
    ("loss {loss:.3f}",),
    ("{tokens_per_second:.0f} tok/s",),
    ("{left} left",),
)
COURSE: tuple[Forms, ...] = (
    ("epoch {epoch}/{epochs}",),
    ("step {step}/{steps}", "step {step}"),
    ("{done_mib:,} of {total_mib:,} MiB", "{done_tensors} of {tensors} tensors"),
    ("loss {first_loss:.3f} → {loss:.3f}", "loss {loss:.3f}"),
    ("holdout {first_holdout_loss:.3f} → {holdout_loss:.3f} (best: step {best_step})", "holdout {holdout_loss:.3f}"),
    ("{tokens_per_second:.0f} tok/s",),
    ("card {gpu_percent:.0f} %",),
    ("{left} left",),
)
# What is told as soon as its name has another value.
MOMENTS: dict[str, Forms] = {
    "phase": ("{phase}",),
    "truncated_examples": (f"{MATERIAL}, {{holdout_examples:,}} held out", MATERIAL),
    "remote": ("at the provider: {remote}",),
    "resumed_from": ("goes on from the checkpoint of step {resumed_from}",),
    "checkpoint_step": ("checkpoint of step {checkpoint_step} is complete",),
}
MARKS = ("epoch", "holdout_step")  # a new value of which is a good moment to tell the course


def brief(job: Job) -> str:
    """Where a job is, for a cell of a table."""
    return " · ".join(_parts(BRIEF, _with_time_left(job))) or str((job.progress or {}).get("phase", ""))


def course(job: Job) -> str:
    """Where a job is, as fully as it tells."""
    return " · ".join(_parts(COURSE, _with_time_left(job))) or str((job.progress or {}).get("phase", ""))


def moments(told: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """What has happened since the progress was `before`."""
    fresh = [forms for name, forms in MOMENTS.items() if told.get(name) != before.get(name)]
    return list(_parts(fresh, told))


def _with_time_left(job: Job) -> dict[str, Any]:
    from queue_app.cli.output import duration

    told = dict(job.progress or {})
    if told.get("eta_seconds") is not None and job.state == "running":
        told["left"] = duration(float(told["eta_seconds"]))
    return told


def _parts(slots: Sequence[Forms], told: Mapping[str, Any]) -> list[str]:
    return [said for forms in slots if (said := next(filter(None, (_filled(form, told) for form in forms)), None))]


def _filled(form: str, told: Mapping[str, Any]) -> str | None:
    """The form with what was told; None: a name is missing, or has no value of its kind."""
    try:
        return form.format_map(told)
    except (KeyError, TypeError, ValueError):
        return None
