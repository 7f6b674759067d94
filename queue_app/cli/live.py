"""Watching jobs: what happens is told line by line; on a terminal, a table that moves stands below."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from queue_app.cli import context
from queue_app.cli.explain import standing
from queue_app.cli.metrics import falling_loss
from queue_app.cli.news import News
from queue_app.cli.output import LEAST_LEFT, as_dict, console, hint, state_text, took, write, write_json_line
from queue_app.cli.progress import brief
from queue_app.lifecycle import FINAL, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.table import Table

    from queue_app.cli.news import Item
    from queue_app.store import Job

BAR = 12  # characters
LOOK_SECONDS = 0.5
CURVE_SECONDS = 3.0  # it takes reading all that a training has told
IDLE_SECONDS = 10.0  # a due job that nobody has taken for so long deserves a word


def watch(job_ids: Sequence[str], *, as_json: bool = False) -> list[Job]:
    """Show jobs until all have ended, and return them as they ended. Ctrl-C only stops the watching."""
    try:
        if as_json:
            return _watch_lines(job_ids, lambda job, _: write_json_line(as_dict(job)))
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

    news, curve, drawn_at = News(), "", 0.0
    with Live(console=console(), refresh_per_second=4, transient=True) as live:
        while True:
            found = _read(job_ids)
            for job in found:
                for line in _lines(job, news.of(job)):
                    live.console.print(line, soft_wrap=True)
            if time.monotonic() - drawn_at > CURVE_SECONDS:
                curve, drawn_at = falling_loss(found), time.monotonic()
            live.update(Group(_picture(found), curve))
            if all(job.state in FINAL for job in found):
                return found
            time.sleep(LOOK_SECONDS)


def _picture(found: Sequence[Job]) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    around = [(job.id, job.step or job.kind, state_text(job).plain, " " * BAR, took(job)) for job in found]
    taken = sum(max(len(cells[place]) for cells in around) + 2 for place in range(5))
    for column in ("ID", "STEP", "STATE", "", "PROGRESS", "TOOK"):
        most = max(LEAST_LEFT, console().width - taken) if column == "PROGRESS" else None  # it alone gives way
        grid.add_column(column, no_wrap=True, overflow="ellipsis", max_width=most)
    for job in found:
        told = job.progress or {}
        done = float(told.get("step", 0) or 0) / float(told.get("steps", 0) or 1)
        share = 1.0 if job.state == "succeeded" else min(1.0, done)
        bar = ProgressBar(total=1.0, completed=share, width=BAR) if job.attempt else ""
        grid.add_row(job.id, job.step or job.kind, state_text(job), bar, brief(job), took(job))
    grid.caption = "\n".join(_words_on(found)) or None
    return grid


def _tell(job: Job, items: Sequence[Item]) -> None:
    for line in _lines(job, items):
        write(line)


def _lines(job: Job, items: Sequence[Item]) -> Iterator[str]:
    """Each piece of news with its time in UTC and whose it is."""
    for item in items:
        if not item.is_routine:
            yield f"{item.at:%m-%d %H:%M:%S}  {job.id}  {job.step or job.kind:<8} {item.text}"


def _watch_lines(job_ids: Sequence[str], tell: Callable[[Job, Sequence[Item]], None]) -> list[Job]:
    """Tell of each job of which there is news."""
    news = News()
    said: set[str] = set()
    while True:
        found = _read(job_ids)
        for job in found:
            if items := news.of(job):
                tell(job, items)
        if all(job.state in FINAL for job in found):
            return found
        say_once(found, said)
        time.sleep(LOOK_SECONDS)


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
    idle = [job for job in found if job.state == "queued" and job.due_at and job.due_at < since]
    words = [f"{job.id}: {said}" for job in idle if job.cards > 1 for said in standing(job)]
    if queues := sorted({job.queue for job in idle if job.cards == 1}):
        words.append(
            f"no worker has taken the jobs on {', '.join(queues)} for {IDLE_SECONDS:.0f} s; is `tuneyard up` running?"
        )
    return words
