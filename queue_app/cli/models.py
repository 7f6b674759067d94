"""`tuneyard models …`: pull base models, list what there is."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from queue_app.cli import context
from queue_app.cli.output import AsJson, Quiet, ago, as_dict, hint, next_commands, table, write, write_json

app = typer.Typer(help="Base models, adapters and merged models.", no_args_is_help=True)

MODEL_KINDS = ("base-model", "adapter", "model")


@app.command()
def pull(
    model: Annotated[str, typer.Argument(help="smollm2-135m, a Hugging Face name (org/name), or a folder.")],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Get a base model, converted and checked, into the artifact store. Needs no worker."""
    from queue_app.cli.submit import submit
    from queue_app.job_type import find_job_type

    common: dict[str, Any] = {"queue": None, "priority": 0, "timeout": None, "reuse": True}
    submit(find_job_type("model.pull"), {"model": model}, common | {"here": True, "as_json": as_json, "quiet": quiet})


@app.command("ls")
def list_models(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """List base models, adapters and merged models, newest first."""
    found = context.store().artifacts.ls(MODEL_KINDS)
    if quiet:
        for artifact in found:
            write(artifact.id)
    elif as_json:
        write_json([as_dict(artifact) for artifact in found])
    elif not found:
        hint("no models yet; `tuneyard models pull smollm2-135m` gets a small real one")
    else:
        rows = [
            [a.id[7:19], a.name or "–", a.kind, f"{a.size_bytes / 2**20:.0f} MiB", a.job_id or "–", ago(a.created_at)]
            for a in found
        ]
        table(["ID", "NAME", "KIND", "SIZE", "MADE BY", "CREATED"], rows)
        next_commands(f"tuneyard chat {found[0].name or found[0].id[7:19]}")
