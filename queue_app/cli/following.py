"""`tuneyard jobs logs`, `wait` and `watch`: what goes on until it ends."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from queue_app.cli import context, live
from queue_app.cli.outcome import show_outcome
from queue_app.cli.output import AsJson, JobId, JobIds, as_dict, hint, next_commands, write, write_json, write_json_line
from queue_app.cli.submit import exit_code_of, seconds_of
from queue_app.errors import Invalid, NotFound
from queue_app.lifecycle import FINAL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from queue_app.store import Job

TIMEOUT_EXIT = 124
T = TypeVar("T")


def logs(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    tail: Annotated[int | None, typer.Option(min=0, help="Only the last so many lines.")] = None,
    source: Annotated[str | None, typer.Option(help="One of the job's logs: job, child, …")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a job's logs: what the worker wrote (job) and what the training process printed (child)."""
    say = _log_as_json if as_json else _log_as_text
    job = context.read().find(job_id)
    folder = context.settings().home.absolute() / "jobs" / job.id / "logs"
    seen: dict[Path, int] = {}
    while True:
        last = not follow or context.read().job(job.id).state in FINAL
        for file in sorted(folder.glob(f"{source or '*'}.log")):
            lines, seen[file] = _lines_from(file, seen.get(file, 0), unfinished=last)
            for line in lines if tail is None else lines[max(0, len(lines) - tail) :]:
                say(file.stem, line)
        if last:
            break
        tail = None
        time.sleep(0.5)
    if not seen:
        named = f"{source} log" if source else "log"
        hint(f"job {job.id} has no {named} on this machine yet; it is {job.state}")
    if not as_json:
        next_commands(f"tuneyard jobs explain {job.id}")


def _log_as_text(source: str, line: str) -> None:
    write(f"{source}| {line}")


def _log_as_json(source: str, line: str) -> None:
    write_json_line({"source": source, "line": line})


def _lines_from(file: Path, start: int, *, unfinished: bool) -> tuple[list[str], int]:
    """The lines from byte `start` on, and the byte behind them; one without a line end only if `unfinished`."""
    with file.open("rb") as stream:
        stream.seek(start)
        data = stream.read()
    if not unfinished:
        data = data[: data.rfind(b"\n") + 1]
    return data.decode(errors="replace").splitlines(), start + len(data)


def wait(
    job_ids: JobIds,
    timeout: Annotated[str | None, typer.Option(help="Give up after so long: 90s, 30m, 8h.")] = None,
    as_json: AsJson = False,
) -> None:
    """Wait until jobs have ended; the exit code says how: 0 all succeeded, 1 one did not, 124 it took too long."""
    read = context.read()
    waiting = [read.find(job_id).id for job_id in job_ids]
    seconds = seconds_of("--timeout", timeout)
    deadline = time.monotonic() + seconds if seconds is not None else None
    said: set[str] = set()
    while True:
        found = [read.job(job_id) for job_id in waiting]
        if all(job.state in FINAL for job in found):
            break
        if deadline is not None and time.monotonic() > deadline:
            if as_json:
                write_json([as_dict(job) for job in found])
            hint("still going: " + ", ".join(f"{job.id} {job.state}" for job in found if job.state not in FINAL))
            raise typer.Exit(TIMEOUT_EXIT)
        live.say_once(found, said)
        time.sleep(0.3)
    if as_json:
        write_json([as_dict(job) for job in found])
    for job in found:
        hint(f"{job.id}  {job.step or job.kind}  {job.state}" + (f": {job.failure}" if job.failure else ""))
    _lead_on(found)
    raise typer.Exit(max(exit_code_of(job) for job in found))


def watch(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="A job or a run.")], as_json: AsJson = False
) -> None:
    """Watch a job, or all jobs of a run, until they end, and show what came of it. Ctrl-C stops only the watching.

    With --json, each piece of news is a line: the job as it is then.
    """
    found = live.watch(_ids_behind(job_id), as_json=as_json)
    if as_json or len(found) == 1:
        _lead_on(found)
    else:
        show_outcome(found)
    raise typer.Exit(max(exit_code_of(job) for job in found))


def _lead_on(found: Sequence[Job]) -> None:
    failed = next((job for job in found if job.state != "succeeded"), None)
    next_commands(f"tuneyard jobs explain {failed.id}" if failed else f"tuneyard jobs show {found[-1].id}")


def _ids_behind(prefix: str) -> list[str]:
    """The one job, or all jobs of the one run, whose id begins so.

    Raises:
        NotFound: there is neither
        Invalid: there are several, or one of each
    """
    read = context.read()
    run, job = _or_none(read.run, prefix), _or_none(read.find, prefix)
    if run is not None and job is not None:
        raise Invalid(f'"{prefix}" fits a run ({run.id}) and a job ({job.id}); give more of the id')
    if run is not None:
        return [each.id for each in read.ls(run_id=run.id, limit=10_000)][::-1]
    if job is not None:
        return [job.id]
    raise NotFound(f'there is no job and no run "{prefix}"; `tuneyard jobs ls` lists the jobs')


def _or_none(find: Callable[[str], T], prefix: str) -> T | None:
    try:
        return find(prefix)
    except NotFound:
        return None
