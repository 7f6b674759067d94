"""The yard's processes: `tuneyard up` runs them all, and each is a command of its own for the Procfile."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from queue_app.cli import context
from queue_app.cli.output import AsJson, hint, next_commands, size_text, write, write_json
from queue_app.errors import Invalid
from queue_app.job_type import QUEUES, nearest

if TYPE_CHECKING:
    from settings import Settings


def register(app: typer.Typer) -> None:
    """Add the commands to the tree."""
    app.command()(up)
    app.command()(demo)
    app.command()(doctor)
    app.command()(chat)
    app.command()(gc)
    for process in (broker, sweeper, worker, metrics, flower):
        app.command(rich_help_panel="Processes of the yard")(process)
    passes_on = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(rich_help_panel="Processes of the yard", context_settings=passes_on, add_help_option=False)(sandbox)


def up(
    only: Annotated[
        list[str] | None, typer.Option(metavar="LINE", help="A line of the Procfile (gpu, cpu, …); repeatable.")
    ] = None,
) -> None:
    """Start the yard: broker, sweeper, workers, sandbox, metrics, Flower. Ctrl-C stops it; nothing queued is lost."""
    from queue_app.broker import ping
    from queue_app.cards import VISIBLE, share_out
    from queue_app.doctor import taken_ports
    from queue_app.shipped import find_shipped
    from queue_app.supervisor import run_yard
    from queue_app.yard import Yard
    from queue_app.yard_home import runs_in

    settings = context.settings()
    context.store()  # its tables, before anybody needs them
    home = settings.home.absolute()
    # a yard that runs here has its ports, and is told of below
    if not only and not runs_in(home) and (taken := list(taken_ports(settings))):
        raise Invalid("\n       ".join(taken))
    cards = share_out(settings.workers, os.environ.get(VISIBLE))
    counts = {"cpu": settings.workers.cpu, "api": settings.workers.api, "gpu": len(cards)}
    if settings.broker.url is not None:
        counts["broker"] = 0
    monitors = (
        f"; Flower on http://127.0.0.1:{settings.monitors.flower_port}, metrics on "
        f"http://127.0.0.1:{settings.monitors.metrics_port}/metrics"
    )
    hint(f"the yard is in {settings.home}{'' if only else monitors}; Ctrl-C stops everything")
    yard = Yard(
        procfile=find_shipped("Procfile"),
        home=home,
        ready=lambda: ping(settings.broker_url),
        counts=counts,
        only=only or None,
        own_env={f"gpu.{place}": {VISIBLE: card} for place, card in enumerate(cards, start=1) if card is not None},
    )
    code = run_yard(yard)
    raise typer.Exit(code)


def broker() -> None:
    """Become the embedded broker."""
    from queue_app.broker import serve

    settings = context.settings()
    if settings.broker.url is not None:
        raise Invalid("TUNEYARD_BROKER__URL names a broker of yours; the embedded one is not needed")
    serve(settings.home.absolute(), settings.broker_socket)


def sweeper() -> None:
    """Sweep: expired leases, unmet needs, rings nobody heard."""
    from queue_app.celery_app import Doorbell
    from queue_app.sweeper import Sweeper

    settings = context.settings()
    bell = Doorbell(settings.broker_url)
    _log_to_stderr(settings)
    Sweeper(context.store(), settings, bell.ring, bell.depth).run(_stopping())


def worker(queue: Annotated[str, typer.Argument(help="cpu, api or gpu")]) -> None:
    """Work on a queue."""
    import socket

    from queue_app.celery_app import work
    from queue_app.presence import present

    if queue not in QUEUES:
        raise Invalid(f'there is no queue "{queue}"{nearest(queue, list(QUEUES))}; there are {", ".join(QUEUES)}')
    settings = context.settings()
    _log_to_stderr(settings)
    host = socket.gethostname()
    runner = context.runner(f"{queue}:{host}:{os.getpid()}")
    threads = settings.workers.api_threads if queue == "api" else 1
    every_seconds = settings.queue.lease_seconds / 3
    with present(runner.store, runner.worker, queue=queue, host=host, every_seconds=every_seconds):
        work(runner, settings.broker_url, queue=queue, threads=threads)


def sandbox(ctx: typer.Context) -> None:
    """Run the sandbox: a local server that speaks the providers' APIs. `--help` lists its limits and faults."""
    settings = context.settings()
    state = settings.home.absolute() / "sandbox"
    given = ["--host", settings.sandbox.host, "--port", str(settings.sandbox.port), "--state", str(state), *ctx.args]
    os.execv(sys.executable, [sys.executable, "-m", "api_worker.sandbox", *given])


def metrics() -> None:
    """Serve metrics for Prometheus."""
    from queue_app.metrics import serve_metrics

    serve_metrics(context.store(), port=context.settings().monitors.metrics_port, stopping=_stopping())


def flower() -> None:
    """Serve Flower's UI on loopback."""
    from queue_app.celery_app import show_flower
    from queue_app.doctor import taken_ports

    settings = context.settings()
    for said in taken_ports(settings, only="TUNEYARD_MONITORS__FLOWER_PORT"):
        raise Invalid(said)
    show_flower(settings.broker_url, port=settings.monitors.flower_port)


def doctor(as_json: AsJson = False) -> None:
    """Check what a run depends on; the exit code is 1 if something stands in its way."""
    from rich.text import Text

    from queue_app.cli.output import table
    from queue_app.doctor import examine

    findings = examine(context.settings())
    if as_json:
        write_json([finding._asdict() for finding in findings])
    else:
        styles = {"ok": "green", "note": "yellow", "blocking": "bold red"}
        rows = [[f.check, Text(f.grade, styles[f.grade]), f.finding] for f in findings]
        table(["CHECK", "", "FINDING"], rows, wrap=True)
    if any(finding.grade == "blocking" for finding in findings):
        raise typer.Exit(1)


def chat(
    model: Annotated[str, typer.Argument(help="A model's id, unique prefix, name or folder.")],
    prompt: Annotated[str | None, typer.Option(help="Ask once and leave.")] = None,
) -> None:
    """Talk to a model on this machine."""
    from queue_app.artifacts import JobArtifacts

    artifacts = JobArtifacts(context.runner("chat").artifacts, "chat")
    reference = str(Path(model).resolve()) if Path(model).is_dir() else model
    folder = artifacts.resolve(reference)
    given = ["--model", str(folder), *(["--prompt", prompt] if prompt is not None else [])]
    os.execv(sys.executable, [sys.executable, "-m", "gpu_worker.chat", *given])


def gc(
    delete: Annotated[bool, typer.Option("--delete", help="Delete; without it, only say what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find what nothing needs: half-published artifacts, and work folders and checkpoints of jobs that succeeded."""
    from queue_app.garbage import collect

    garbage = collect(context.store(), context.runner("gc").artifacts, context.settings().home, delete=delete)
    if as_json:
        write_json([piece._asdict() for piece in garbage])
        return
    for piece in garbage:
        write(f"{size_text(piece.size_bytes):>10}  {piece.what:<11} {piece.path}")
    total = size_text(sum(piece.size_bytes for piece in garbage))
    hint(f"{len(garbage)} pieces, {total} {'deleted' if delete else 'to delete'}")
    if garbage and not delete:
        next_commands("tuneyard gc --delete")


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the yard running afterwards.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start the yard, run the demo recipe on real text, show what was measured, and stop the yard."""
    from queue_app.cli.demo import run_demo

    run_demo(keep=keep, as_json=as_json)


def _stopping() -> threading.Event:
    """An event that the first SIGTERM or SIGINT sets."""
    event = threading.Event()

    def stop(*_: Any) -> None:
        event.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return event


def _log_to_stderr(settings: Settings) -> None:
    import logging

    from queue_app.job_log import Redacting

    handler = logging.StreamHandler()
    handler.setFormatter(Redacting(settings))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("tuneyard").setLevel(logging.INFO)
