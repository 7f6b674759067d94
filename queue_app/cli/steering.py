"""`tuneyard jobs cancel`, `pause`, `resume` and `retry`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from queue_app.cli import context
from queue_app.cli.output import AsJson, JobIds, as_dict, complain, next_commands, write, write_json
from queue_app.errors import TuneyardError
from queue_app.lifecycle import FINAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from queue_app.store import Job


def _steer(job_ids: list[str], act: Callable[[Job], Job], as_json: bool) -> None:
    """Act on each job there is, show what was moved, then complain of the others; the worst exit code counts."""
    from queue_app.cli.application import exit_code  # which imports this module

    moved: list[Job] = []
    errors: list[TuneyardError] = []
    for job_id in job_ids:
        try:
            moved.append(act(context.read().find(job_id)))
        except TuneyardError as error:
            errors.append(error)
    _show_moved(moved, as_json)
    for each in errors:
        complain(str(each))
    if errors:
        raise typer.Exit(max(map(exit_code, errors)))


def _show_moved(moved: list[Job], as_json: bool) -> None:
    if as_json:
        write_json([as_dict(job) for job in moved])
        return
    for job in moved:
        asked = f", {job.request} requested" if job.request else ""
        write(f"{job.id}  {job.state}{asked}")
    next_commands(
        *(f"tuneyard jobs wait {job.id}" for job in moved if job.state not in FINAL and job.state != "paused")
    )


def cancel(job_ids: JobIds, as_json: AsJson = False) -> None:
    """Cancel jobs; what runs is stopped, at a provider too."""
    _steer(job_ids, context.dispatcher().cancel, as_json)


def pause(job_ids: JobIds, as_json: AsJson = False) -> None:
    """Pause jobs: a training finishes its step, saves a checkpoint and frees the card."""
    _steer(job_ids, context.dispatcher().pause, as_json)


def resume(job_ids: JobIds, as_json: AsJson = False) -> None:
    """Let paused jobs go on where they stood."""
    _steer(job_ids, context.dispatcher().resume, as_json)


def retry(job_ids: JobIds, as_json: AsJson = False) -> None:
    """Send failed or cancelled jobs again, and the steps that were cancelled for want of them."""
    _steer(job_ids, context.dispatcher().retry, as_json)
