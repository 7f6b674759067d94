"""`tuneyard jobs …`: the tree of its commands, and those that list and show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from queue_app.cli import context, following, metrics, steering
from queue_app.cli.explain import explain, next_steps
from queue_app.cli.output import (
    AsJson,
    JobId,
    Quiet,
    ago,
    as_dict,
    console,
    hint,
    next_commands,
    show_values,
    state_text,
    table,
    took,
    write,
    write_json,
)
from queue_app.cli.progress import brief, course
from queue_app.cli.submit import KindGroup
from queue_app.lifecycle import State

if TYPE_CHECKING:
    from queue_app.store import JobEvent

app = typer.Typer(help="Submit, list, follow and steer jobs.", no_args_is_help=True)
app.add_typer(
    typer.Typer(help="Submit a job: `tuneyard jobs submit KIND --help` lists its options.", no_args_is_help=True),
    name="submit",
    cls=KindGroup,
)

app.command()(explain)


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
    elif not found and (state or kind or run):
        hint("no job is like that; `tuneyard jobs ls` lists all of them")
    elif not found:
        hint("no jobs yet; `tuneyard kinds` lists what can be submitted, `tuneyard demo` shows a whole recipe")
    else:
        rows = [[j.id, j.step or j.kind, state_text(j), brief(j), took(j), ago(j.submitted_at)] for j in found]
        table(["ID", "STEP", "STATE", "PROGRESS", "TOOK", "SUBMITTED"], rows)
        next_commands(f"tuneyard jobs show {found[0].id}")


@app.command()
def show(job_id: JobId, as_json: AsJson = False) -> None:
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
        "progress": course(job),
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
    show_values("spec", {name: str(value) if isinstance(value, int) else value for name, value in job.spec.items()})
    show_values("result", job.result or {})
    next_commands(f"tuneyard jobs explain {job.id}", *next_steps(job))


@app.command()
def events(job_id: JobId, as_json: AsJson = False) -> None:
    """Show everything that happened to a job, and who did it."""
    read = context.read()
    job = read.find(job_id)
    history = read.history(job.id)
    if as_json:
        write_json([as_dict(event) for event in history])
        return
    rows = [
        [f"{e.at:%m-%d %H:%M:%S}", e.name, e.state, str(e.attempt), e.actor, _detail(e, times)]
        for e, times in _folded(history)
    ]
    table(["AT (UTC)", "EVENT", "STATE", "ATTEMPT", "BY", "DETAIL"], rows)
    next_commands(f"tuneyard jobs explain {job.id}")


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


app.command()(metrics.metrics)
for command in (following.logs, following.wait, following.watch):
    app.command()(command)
for steer in (steering.cancel, steering.pause, steering.resume, steering.retry):
    app.command()(steer)
