"""Watching jobs: a table that moves on a terminal, a line a change elsewhere."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from queue_app.cli import context
from queue_app.cli.metrics import falling_loss
from queue_app.cli.output import as_dict, console, hint, progress_text, state_text, took, write_json_line
from queue_app.lifecycle import FINAL, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.table import Table
    from rich.text import Text

    from queue_app.store import Job

LOOK_SECONDS = 0.5
IDLE_SECONDS = 10.0  # a due job that nobody has taken for so long deserves a word


def watch(job_ids: Sequence[str], *, as_json: bool = False) -> list[Job]:
    """Show jobs until all have ended, and return them as they ended. Ctrl-C only stops the watching."""
    try:
        if as_json:
            return _watch_lines(job_ids, lambda job: write_json_line(as_dict(job)))
        return _watch_live(job_ids) if sys.stdout.isatty() else _watch_lines(job_ids, _tell)
    except KeyboardInterrupt:
        hint("\nstopped watching; the jobs go on: `tuneyard jobs ls` shows them, `tuneyard jobs cancel` ends them")
        raise


def _read(job_ids: Sequence[str]) -> list[Job]:
    read = context.read()
    return [read.job(job_id) for job_id in job_ids]


def _watch_live(job_ids: Sequence[str]) -> list[Job]:
    from rich.console import Group
    from rich.live import Live

    with Live(console=console(), refresh_per_second=4, transient=False) as live:
        while True:
            found = _read(job_ids)
            live.update(Group(_picture(found), falling_loss(found)))
            if all(job.state in FINAL for job in found):
                return found
            time.sleep(LOOK_SECONDS)


def _picture(found: Sequence[Job]) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("ID", "STEP", "STATE", "", "PROGRESS", "TOOK"):
        grid.add_column(column, no_wrap=True, overflow="ellipsis")
    for job in found:
        told = job.progress or {}
        done = float(told.get("step", 0) or 0) / float(told.get("steps", 0) or 1)
        share = 1.0 if job.state == "succeeded" else min(1.0, done)
        bar = ProgressBar(total=1.0, completed=share, width=12) if job.attempt else ""
        grid.add_row(job.id, job.step or job.kind, state_text(job), bar, progress_text(job), took(job))
    grid.caption = "\n".join(_words_on(found)) or None
    return grid


def _tell(job: Job) -> None:
    failure = f"  {job.failure}" if job.failure and job.state in FINAL else ""
    console().print(_line(job).append(f"  {progress_text(job)}{failure}"), soft_wrap=True)


def _line(job: Job) -> Text:
    from rich.text import Text

    return Text.assemble(f"{job.id}  {job.step or job.kind:<14} ", state_text(job))


def _watch_lines(job_ids: Sequence[str], tell: Callable[[Job], None]) -> list[Job]:
    """Tell of each change: a state, its reason, a request, or a tenth of the way."""
    told: dict[str, str] = {}
    said: set[str] = set()
    while True:
        found = _read(job_ids)
        for job in found:
            tenth = int(
                10 * float((job.progress or {}).get("step", 0) or 0) / float((job.progress or {}).get("steps", 0) or 1)
            )
            line = _line(job).plain
            if told.get(job.id) != f"{line}{tenth}" and not _is_poll(told.get(job.id, ""), line):
                told[job.id] = f"{line}{tenth}"
                tell(job)
        if all(job.state in FINAL for job in found):
            return found
        say_once(found, said)
        time.sleep(LOOK_SECONDS)


def _is_poll(before: str, line: str) -> bool:
    """Whether a remote job is only looked at once more."""
    return "remote" in before and "running" in line


def say_once(found: Sequence[Job], said: set[str]) -> None:
    """Say what a person may have to do before jobs go on, unless it is in `said`; it is then."""
    for word in _words_on(found):
        if word not in said:
            hint(word)
        said.add(word)


def _words_on(found: Sequence[Job]) -> list[str]:
    costly = [job.id for job in found if job.reason == Reason.APPROVAL]
    words = [f"waiting for your approval: `tuneyard approve {' '.join(costly)}`"] if costly else []
    for account in sorted({job.account for job in found if job.reason == Reason.BUDGET and job.account}):
        words.append(f"{account} is left alone for want of money or quota; then: `tuneyard providers resume {account}`")
    return words + _idle_words(found)


def _idle_words(found: Sequence[Job]) -> list[str]:
    if any(job.state == "running" for job in found):
        return []
    since = datetime.now(UTC) - timedelta(seconds=IDLE_SECONDS)
    idle = sorted({job.queue for job in found if job.state == "queued" and job.due_at and job.due_at < since})
    if not idle:
        return []
    return [f"no worker has taken the jobs on {', '.join(idle)} for {IDLE_SECONDS:.0f} s; is `tuneyard up` running?"]
