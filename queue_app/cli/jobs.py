"""`tuneyard jobs …`: submit, list, show, follow, wait for, and steer jobs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from queue_app.cli import context
from queue_app.cli.explain import explain, next_steps
from queue_app.cli.output import (
    AsJson,
    Quiet,
    ago,
    as_dict,
    complain,
    console,
    hint,
    next_commands,
    progress_text,
    show_values,
    state_text,
    table,
    took,
    write,
    write_json,
    write_json_line,
)
from queue_app.cli.submit import KindGroup, exit_code_of, seconds_of
from queue_app.errors import Invalid, NotFound, TuneyardError
from queue_app.lifecycle import FINAL, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from queue_app.store import Job, JobEvent

app = typer.Typer(help="Submit, list, follow and steer jobs.", no_args_is_help=True)
app.add_typer(
    typer.Typer(help="Submit a job: `tuneyard jobs submit KIND --help` lists its options.", no_args_is_help=True),
    name="submit",
    cls=KindGroup,
)

app.command()(explain)

Id = Annotated[str, typer.Argument(metavar="ID", help="Id or unique prefix of one.")]
Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids or unique prefixes of them.")]
TIMEOUT_EXIT = 124
T = TypeVar("T")


@app.command("ls")
def list_jobs(
    state: Annotated[list[State] | None, typer.Option(help="Only these states; may be given several times.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only this job type.")] = None,
    run: Annotated[str | None, typer.Option(help="Only this run.")] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="At most so many, newest first.")] = 30,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List jobs, newest first."""
    run_id = context.read().run(run).id if run is not None else None
    found = context.read().ls(states=state or (), kind=kind, run_id=run_id, limit=limit)
    if quiet:
        for job in found:
            write(job.id)
    elif as_json:
        write_json([as_dict(job) for job in found])
    elif not found:
        hint("no jobs; `tuneyard kinds` lists what can be submitted, `tuneyard demo` shows a whole recipe")
    else:
        rows = [[j.id, j.step or j.kind, state_text(j), progress_text(j), took(j), ago(j.submitted_at)] for j in found]
        table(["ID", "STEP", "STATE", "PROGRESS", "TOOK", "SUBMITTED"], rows)
        next_commands(f"tuneyard jobs show {found[0].id}")


@app.command()
def show(job_id: Id, as_json: AsJson = False) -> None:
    """Show all there is to know of a job."""
    read = context.read()
    job = read.find(job_id)
    if as_json:
        write_json(as_dict(job) | {"needs": [need.id for need in read.needs(job.id)]})
        return
    lines = {
        "kind": f"{job.kind}  on queue {job.queue}" + (f", step {job.step} of run {job.run_id}" if job.run_id else ""),
        "state": state_text(job),
        "submitted": f"{job.submitted_at:%Y-%m-%d %H:%M:%S} UTC, {ago(job.submitted_at)}",
        "took": f"{took(job)} in {job.attempt} attempt(s), {job.failures} failure(s)",
        "progress": progress_text(job),
        "deadline": f"{job.deadline_at:%Y-%m-%d %H:%M:%S} UTC" if job.deadline_at else "",
        "reused": f"the result of job {job.reused_from}" if job.reused_from else "",
        "failure": job.failure or "",
        "needs": ", ".join(f"{need.step or need.kind} ({need.id}, {need.state})" for need in read.needs(job.id)),
    }
    out = console()
    out.print(job.id, style="bold")
    for name, text in lines.items():
        if text:
            out.print(f"  {name:<10}", text, soft_wrap=True)
    show_values("spec", job.spec)
    show_values("result", job.result or {})
    next_commands(f"tuneyard jobs explain {job.id}", *next_steps(job))


@app.command()
def events(job_id: Id, as_json: AsJson = False) -> None:
    """Show everything that happened to a job, and who did it."""
    read = context.read()
    history = read.history(read.find(job_id).id)
    if as_json:
        write_json([as_dict(event) for event in history])
        return
    rows = [
        [f"{e.at:%m-%d %H:%M:%S}", e.name, e.state, str(e.attempt), e.actor, _detail(e, times)]
        for e, times in _folded(history)
    ]
    table(["AT (UTC)", "EVENT", "STATE", "ATTEMPT", "BY", "DETAIL"], rows)


def _folded(history: list[JobEvent]) -> list[tuple[JobEvent, int]]:
    """Polls that follow one another, as one line."""
    folded: list[tuple[JobEvent, int]] = []
    for event in history:
        if (
            len(folded) > 1
            and folded[-2][0].name == event.name
            and "poll_scheduled" in (event.name, folded[-1][0].name)
        ):
            folded[-2] = (event, folded[-2][1] + 1)
            folded[-2], folded[-1] = folded[-1], folded[-2]
        else:
            folded.append((event, 1))
    return folded


def _detail(event: JobEvent, times: int) -> str:
    words = [f"×{times}"] if times > 1 else []
    words += [f"{name}: {value}" for name, value in event.detail.items() if name != "traceback"]
    return " ".join(words)


@app.command()
def logs(
    job_id: Id,
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
        hint(f"job {job.id} has no {source or ''} log on this machine yet; it is {job.state}")


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


@app.command()
def wait(
    job_ids: Ids,
    timeout: Annotated[str | None, typer.Option(help="Give up after so long: 90s, 30m, 8h.")] = None,
    as_json: AsJson = False,
) -> None:
    """Wait until jobs have ended; the exit code says how: 0 all succeeded, 1 one did not, 124 it took too long."""
    read = context.read()
    waiting = [read.find(job_id).id for job_id in job_ids]
    seconds = seconds_of("--timeout", timeout)
    deadline = time.monotonic() + seconds if seconds is not None else None
    while True:
        found = [read.job(job_id) for job_id in waiting]
        if all(job.state in FINAL for job in found):
            break
        if deadline is not None and time.monotonic() > deadline:
            if as_json:
                write_json([as_dict(job) for job in found])
            hint("still going: " + ", ".join(f"{job.id} {job.state}" for job in found if job.state not in FINAL))
            raise typer.Exit(TIMEOUT_EXIT)
        time.sleep(0.3)
    if as_json:
        write_json([as_dict(job) for job in found])
    for job in found:
        hint(f"{job.id}  {job.step or job.kind}  {job.state}" + (f": {job.failure}" if job.failure else ""))
    raise typer.Exit(max(exit_code_of(job) for job in found))


@app.command()
def watch(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="A job or a run.")], as_json: AsJson = False
) -> None:
    """Watch a job, or all jobs of a run, until they end. Ctrl-C stops watching; the jobs go on.

    With --json, each change is a line: the job as it is then.
    """
    from queue_app.cli.live import watch as watch_jobs

    found = watch_jobs(_ids_behind(job_id), as_json=as_json)
    raise typer.Exit(max(exit_code_of(job) for job in found))


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


@app.command()
def cancel(job_ids: Ids, as_json: AsJson = False) -> None:
    """Cancel jobs; what runs is stopped, at a provider too."""
    _steer(job_ids, context.dispatcher().cancel, as_json)


@app.command()
def pause(job_ids: Ids, as_json: AsJson = False) -> None:
    """Pause jobs: a training finishes its step, saves a checkpoint and frees the card."""
    _steer(job_ids, context.dispatcher().pause, as_json)


@app.command()
def resume(job_ids: Ids, as_json: AsJson = False) -> None:
    """Let paused jobs go on where they stood."""
    _steer(job_ids, context.dispatcher().resume, as_json)


@app.command()
def retry(job_ids: Ids, as_json: AsJson = False) -> None:
    """Send failed or cancelled jobs again, and the steps that were cancelled for want of them."""
    _steer(job_ids, context.dispatcher().retry, as_json)
