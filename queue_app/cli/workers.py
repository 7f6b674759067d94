"""`tuneyard workers`: who works where, on which card; and how another host joins."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from queue_app.cli import context
from queue_app.cli.output import AsJson, ago, as_dict, hint, table, write, write_json
from queue_app.errors import Invalid

if TYPE_CHECKING:
    from queue_app.store.rows import Worker
    from settings import Settings

app = typer.Typer(name="workers", help="Who works where, and how another host joins.", add_completion=False)


@app.callback(invoke_without_command=True)
def list_workers(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show every worker of every host: its queue, card and job, and how busy the card is."""
    if ctx.invoked_subcommand is not None:
        return
    found = context.read().workers()
    silent_seconds = context.settings().queue.lease_seconds
    if as_json:
        write_json([as_dict(worker) | {"jobs": jobs} for worker, jobs in found])
    elif not found:
        hint("no worker has signed on; `tuneyard up` starts some")
    else:
        columns = ["HOST", "WORKER", "QUEUE", "CARD", "VRAM", "USE", "JOB", "SEEN"]
        table(columns, [_row(worker, jobs, silent_seconds) for worker, jobs in found])


def _row(worker: Worker, jobs: list[str], silent_seconds: float) -> list[str]:
    vram = "–" if worker.vram_used_mib is None else f"{worker.vram_used_mib / 1024:.1f}"
    if worker.vram_used_mib is not None and worker.vram_mib is not None:
        vram += f"/{worker.vram_mib / 1024:.0f} GiB"
    silent = (datetime.now(UTC) - worker.seen_at).total_seconds() > silent_seconds
    return [
        worker.host,
        worker.name.rpartition(":")[2],
        worker.queue,
        _card(worker),
        vram,
        "–" if worker.gpu_percent is None else f"{worker.gpu_percent} %",
        ", ".join(jobs) or "–",
        ago(worker.seen_at) + (", silent" if silent else ""),
    ]


def _card(worker: Worker) -> str:
    if worker.card_lost:
        return f"{worker.card_name or 'a card'}, lost"
    return worker.card_name or "–"


@app.command()
def join() -> None:
    """Print the one command that starts workers on another host; secrets are left out of it."""
    settings = context.settings()
    if apart := list(_not_shared(settings)):
        raise Invalid("another host cannot join this yard yet:\n       " + "\n       ".join(apart))
    from queue_app.job_log import redact

    told: dict[str, Any] = {
        "TUNEYARD_STORE__URL": settings.store_url,
        "TUNEYARD_BROKER__URL": settings.broker_url,
        "TUNEYARD_ARTIFACTS__URL": settings.artifacts_url,
    }
    shown = {name: redact(value, settings) for name, value in told.items()}
    given = " ".join(f"{name}={shlex.quote(value)}" for name, value in shown.items())
    write(f"{given} tuneyard up --only cpu --only gpu")
    if shown != told:
        hint("put the passwords back in, or set these variables in a .env file on that host")
    hint("the same version of Tuneyard must be installed there; each of its cards gets a gpu worker")


def _not_shared(settings: Settings) -> list[str]:
    """What only this host can reach, with the setting to change."""
    said = []
    if settings.store_url.startswith("sqlite"):
        said.append("the store is a SQLite file; set TUNEYARD_STORE__URL=postgresql+psycopg://USER:PASSWORD@HOST/NAME")
    if settings.broker.url is None:
        said.append("the broker is the embedded one; set TUNEYARD_BROKER__URL=redis://:PASSWORD@HOST:6379/0")
    if "://" not in settings.artifacts_url:
        said.append(
            f"artifacts are in the folder {settings.artifacts_url}; set TUNEYARD_ARTIFACTS__URL=s3://BUCKET/FOLDER, or "
            "file:///FOLDER where a network folder is mounted alike on both"
        )
    return said
