"""`--here`: a job run in the command's own process, which holds it from its birth; if that dies, a worker goes on."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from queue_app.cli import context
from queue_app.cli.explain import standing
from queue_app.cli.output import hint, next_commands, state_text
from queue_app.cli.progress import course
from queue_app.errors import StaleTransition
from queue_app.lifecycle import FINAL, NEEDS_A_PERSON, Event, Reason, State
from queue_app.sweeper import Sweeper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from queue_app.runner import Runner
    from queue_app.store import Job, NewJob

LOOK_SECONDS = 0.5
LEAST_PAUSE_SECONDS = 0.02
MOST_PAUSE_SECONDS = 1.0  # it may be cancelled from elsewhere, and what is waited for ends when it ends


def submit_here(new: NewJob) -> Job:
    """Submit a job and run it in this process, until it has ended or stands still for a person to act."""
    runner = _hands()
    lease_seconds = runner.settings.queue.lease_seconds
    held = runner.store.submit_held(new, actor=context.actor(), worker=runner.worker, lease_seconds=lease_seconds)
    return _finish(runner, held)


def finish_here(job_id: str) -> Job:
    """The same for a job that is in the queue already: a worker that is quicker is waited for."""
    return _finish(_hands(), context.read().job(job_id))


def _hands() -> Runner:
    return context.runner(f"here-{os.getpid()}")


def _finish(runner: Runner, job: Job) -> Job:
    try:
        with _shown(runner, job.id) as say:
            if job.worker == runner.worker:
                runner.work_on(job)
            job = _attend(runner, job.id, say)
    except KeyboardInterrupt:
        _hand_back(runner, job.id)
        hint(f"\njob {job.id} was interrupted and stays in the queue; a yard goes on with it, or end it:")
        next_commands("tuneyard up", f"tuneyard jobs cancel {job.id}")
        raise
    if job.state == State.WAITING:
        for line in standing(job):
            hint(f"{job.id}  {line}")
        hint("it stays in the queue, and a yard goes on with it once you have acted")
    elif job.failure:
        hint(f"{job.id}  {job.state}: {job.failure}")
    return job


@contextmanager
def _shown(runner: Runner, job_id: str) -> Iterator[Callable[[str], None]]:
    """The job's state and progress on stderr, as long as the block runs; what it is given is said above them."""
    from rich.console import Console
    from rich.status import Status
    from rich.text import Text

    done = threading.Event()
    out = Console(stderr=True, highlight=False, markup=False)

    def show(status: Status) -> None:
        while not done.wait(LOOK_SECONDS):
            job = runner.store.read.job(job_id)
            status.update(Text.assemble(f"{job.kind}  ", state_text(job), f"  {course(job)}"))

    with Status(job_id, console=out) as status:
        shower = threading.Thread(target=show, args=(status,), daemon=True)
        shower.start()
        try:
            yield lambda text: out.print(text, soft_wrap=True)
        except KeyboardInterrupt:
            runner.stopping.set()
            raise
        finally:
            done.set()
            shower.join()


def _attend(runner: Runner, job_id: str, say: Callable[[str], None]) -> Job:
    """Take the job up whenever it is due, and say what it waits for; returns where waiting is over, or in vain."""
    said: tuple[Reason | None, str | None] | None = None
    while True:
        job = runner.store.read.job(job_id)
        if job.state in (*FINAL, State.PAUSED) or job.reason in NEEDS_A_PERSON:
            return job
        if job.state == State.WAITING and job.reason != Reason.REMOTE and said != (job.reason, job.failure):
            said = (job.reason, job.failure)
            for line in standing(job):
                say(f"{job.id}  {line}")
        _go_on(runner, job)


def _go_on(runner: Runner, job: Job) -> None:
    """Run a job that is due, or pause until it may be."""
    if job.due_at is None:  # another worker has it, or another job: there may be no sweeper that sees them die, or end
        Sweeper(runner.store, runner.settings, lambda _: None, lambda _: 0, actor=runner.worker).sweep()
        time.sleep(MOST_PAUSE_SECONDS)
        return
    pause = min(MOST_PAUSE_SECONDS, max(0.0, (job.due_at - datetime.now(UTC)).total_seconds()))
    if pause > 0 or not runner.run(job_id=job.id):  # another worker may have been quicker
        time.sleep(max(pause, LEAST_PAUSE_SECONDS))


def _hand_back(runner: Runner, job_id: str) -> None:
    """Let a job go that is held here, for nobody else knows that it is not run any more."""
    job = runner.store.read.job(job_id)
    if job.state == State.RUNNING and job.worker == runner.worker:
        with suppress(StaleTransition):  # it was taken away in this very moment
            runner.store.record(job_id, Event.RELEASED, actor=runner.worker, fence=job.attempt)
