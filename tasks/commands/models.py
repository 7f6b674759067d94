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
    name="models",
    help="Base models, adapters, merged, exported and hosted models.",
    no_args_is_help=True,
    add_completion=False,
)

MODEL_KINDS = ("base-model", "adapter", "model", "gguf", HOSTED)


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
    """List base models, adapters, merged, exported and hosted models, newest first; hosted ones with days left."""
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
            output.size_text(a.size_bytes),
            a.job_id or "–",
            output.ago(a.created_at),
        ]
        for a in found
    ]
    output.table(["ID", "NAME", "KIND", "SIZE", "MADE BY", "CREATED"], rows)
    # an adapter needs its base model to talk, an export a program of its own
    if whole := [artifact for artifact in found if artifact.kind not in ("adapter", "gguf")]:
        output.next_commands(f"tuneyard chat {whole[0].id[7:19]}")


def _show_hosted(found: list[tuple[Artifact, Life]]) -> None:
    """Models at providers, two lines each: a name is what one calls a model by, and may be too long for a column."""
    from rich.text import Text

    if not found:
        return
    heads = ["ID", "AT", "MADE BY", "CREATED", "ANSWERS UNTIL"]
    rows = [
        [a.id[7:19], life.provider or "unknown", a.job_id or "–", output.ago(a.created_at), life.words]
        for a, life in found
    ]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    styles = ["bold", *("bold red" if life.is_short else "" for _, life in found)]
    for name, row, style in zip(
        ["HOSTED MODEL", *(a.name or "–" for a, _ in found)], [heads, *rows], styles, strict=True
    ):
        *cells, last = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        output.console().print(Text(name, style="bold" if row is heads else ""), soft_wrap=True)
        output.console().print(Text.assemble("  ", "  ".join(cells), "  ", (last.rstrip(), style)), soft_wrap=True)
    if made := [artifact.job_id for artifact, _ in found if artifact.job_id]:
        output.next_commands(f"tuneyard jobs show {made[0]}")
