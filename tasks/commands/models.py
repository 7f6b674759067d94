"""`tuneyard models …`: pull base models, list what there is."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from queue_app.cli import context, output
from tasks.commands.accounts.lives import HOSTED, life_of

if TYPE_CHECKING:
    from queue_app.store import Artifact
    from tasks.commands.accounts.lives import Life

app = typer.Typer(
    name="models", help="Base models, adapters, merged and hosted models.", no_args_is_help=True, add_completion=False
)

MODEL_KINDS = ("base-model", "adapter", "model", HOSTED)


@app.command()
def pull(
    model: Annotated[str, typer.Argument(help="smollm2-135m, a Hugging Face name (org/name), or a folder.")],
    as_json: output.AsJson = False,
    quiet: output.Quiet = False,
) -> None:
    """Get a base model, converted and checked, into the artifact store. Needs no worker."""
    from queue_app.cli.submit import submit
    from queue_app.job_type import find_job_type

    common: dict[str, Any] = {"queue": None, "priority": 0, "timeout": None, "reuse": True}
    submit(find_job_type("model.pull"), {"model": model}, common | {"here": True, "as_json": as_json, "quiet": quiet})


@app.command("ls")
def list_models(as_json: output.AsJson = False, quiet: output.Quiet = False) -> None:
    """List base models, adapters, merged and hosted models, newest first; hosted ones with the days they have left."""
    found = context.read().artifacts.ls(MODEL_KINDS)
    if quiet:
        for artifact in found:
            output.write(artifact.id)
        return
    lives = {artifact.id: life_of(artifact) for artifact in found if artifact.kind == HOSTED}
    if as_json:
        rows = [output.as_dict(artifact) for artifact in found]
        output.write_json([row | {"life": asdict(lives[row["id"]]) if row["id"] in lives else None} for row in rows])
    elif not found:
        output.hint("no models yet; `tuneyard models pull smollm2-135m` gets a small real one")
    else:
        here = [artifact for artifact in found if artifact.kind != HOSTED]
        _show_here(here)
        if here and lives:
            output.write("")
        _show_hosted([(artifact, lives[artifact.id]) for artifact in found if artifact.id in lives])


def _show_here(found: list[Artifact]) -> None:
    if not found:
        return
    rows = [
        [
            a.id[7:19],
            a.name or "–",
            a.kind,
            f"{a.size_bytes / 2**20:.0f} MiB",
            a.job_id or "–",
            output.ago(a.created_at),
        ]
        for a in found
    ]
    output.table(["ID", "NAME", "KIND", "SIZE", "MADE BY", "CREATED"], rows)
    output.next_commands(f"tuneyard chat {found[0].name or found[0].id[7:19]}")


def _show_hosted(found: list[tuple[Artifact, Life]]) -> None:
    """Models at providers; their names are the last column, for they are long and are what one calls them by."""
    from rich.text import Text

    if not found:
        return
    rows = [
        [
            a.id[7:19],
            life.provider or "unknown",
            a.job_id or "–",
            output.ago(a.created_at),
            Text(life.words, style="bold red" if life.is_short else ""),
            a.name or "–",
        ]
        for a, life in found
    ]
    output.table(["ID", "AT", "MADE BY", "CREATED", "ANSWERS UNTIL", "HOSTED MODEL"], rows, wrap=True)
