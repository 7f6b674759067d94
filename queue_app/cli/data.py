"""`tuneyard data …`: the job types of data sets as commands that need no worker, and what is known of a data set."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from queue_app.cli import context
from queue_app.cli.output import (
    AsJson,
    Quiet,
    ago,
    as_dict,
    console,
    hint,
    next_commands,
    size_text,
    table,
    write,
    write_json,
)
from queue_app.cli.submit import COMMON, command_of, option
from queue_app.errors import NotFound
from queue_app.job_type import find_job_type, kinds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.tree import Tree

    from queue_app.store import Artifact, Job

NOUN = "dataset."
HERE = Annotated[bool, typer.Option("--here/--enqueue", help="Run it in this process, or leave it to a worker.")]
OPTIONS = (option("here", HERE, True), *(each for each in COMMON if each.name != "here"))
SOURCE = Annotated[str, typer.Argument(metavar="SOURCE", help="A data set: a file, a folder, or an artifact.")]
SHOWN_FIELDS = 8  # of a spec, in the tree
SHOWN_FILES = 6
# Under which name a data set stands in the result of the job that made it → where its examples are counted there.
COUNTED = {"repaired": "kept", "train": "train_examples", "holdout": "holdout_examples", "dataset": "examples"}


class DataGroup(TyperGroup):
    """The commands of this module, and one for every job type whose noun is `dataset`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        verbs = [kind.removeprefix(NOUN) for kind in kinds() if kind.startswith(NOUN)]
        return sorted([*super().list_commands(ctx), *verbs])

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One of them."""
        if found := super().get_command(ctx, cmd_name):
            return found
        if NOUN + cmd_name not in kinds():
            return None
        job_type = find_job_type(NOUN + cmd_name)
        first = None
        if "source" in job_type.spec.model_fields:
            first = option("source", SOURCE, inspect.Parameter.empty)
        return command_of(job_type, cmd_name, OPTIONS, first)


app = typer.Typer(help="Prepare, check and look at data sets.", no_args_is_help=True, cls=DataGroup)


@app.command("ls")
def list_datasets(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """List the data sets that jobs have made, newest first."""
    found = context.read().artifacts.ls(("dataset",))
    if quiet:
        for artifact in found:
            write(artifact.id)
    elif as_json:
        write_json([as_dict(artifact) for artifact in found])
    elif not found:
        hint("no data sets yet; `tuneyard data prepare FOLDER --base-model MODEL` makes one out of text")
    else:
        made = {artifact.id: _maker(artifact) for artifact in found}
        rows = [
            [
                a.id[7:19],
                _count_text(_examples(a, made[a.id])),
                size_text(a.size_bytes),
                getattr(made[a.id], "kind", "–"),
                ago(a.created_at),
            ]
            for a in found
        ]
        table(["ID", "EXAMPLES", "SIZE", "MADE BY", "CREATED"], rows)
        next_commands(f"tuneyard data show {found[0].id[7:19]}")


@app.command()
def show(
    ref: Annotated[str, typer.Argument(metavar="ID", help="Artifact id, unique prefix of one, or name.")],
    as_json: AsJson = False,
) -> None:
    """Show what a data set holds, and the jobs and data sets it was made from."""
    artifact = context.read().artifacts.find(ref)
    place = context.runner("cli").artifacts.fetch(artifact.id)
    statistics = _read(place / "statistics.json") or _figures_of(_read(place / "report.json"))
    files = [place] if place.is_file() else sorted(place.iterdir())
    if as_json:
        told = {"lineage": _lineage(artifact), "statistics": statistics, "files": [str(file) for file in files]}
        write_json({**as_dict(artifact), **told})
        return
    console().print(_tree(artifact))
    maker = _maker(artifact)
    if not statistics and (count := _examples(artifact, maker)) is not None:
        statistics = {**((maker.result if maker is not None else None) or {}), "examples": count}
        statistics = {name: value for name, value in statistics.items() if isinstance(value, int | dict)}
    figures = {name: value for name, value in statistics.items() if isinstance(value, int | float | str)}
    if figures:
        write("")
        table(
            ["FIGURE", "VALUE"],
            [[name, f"{value:,}" if isinstance(value, int) else str(value)] for name, value in figures.items()],
        )
    for columns, rows in _counts(statistics):
        write("")
        table(columns, rows)
    if "histogram" in statistics:
        _draw(statistics["histogram"])
    write("")
    for file in files[:SHOWN_FILES]:
        write(str(file))
    if len(files) > SHOWN_FILES:
        write(f"… {len(files) - SHOWN_FILES} more in {place}")
    if artifact.kind == "dataset":
        next_commands(f"tuneyard data audit {artifact.id[7:19]}")
    elif artifact.job_id is not None:
        next_commands(f"tuneyard jobs show {artifact.job_id}")


def _maker(artifact: Artifact) -> Job | None:
    if artifact.job_id is None:
        return None
    try:
        return context.read().job(artifact.job_id)
    except NotFound:
        return None


def _read(path: Path) -> dict[str, Any]:
    """What stands in a JSON file of an artifact; empty where it has none."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _figures_of(report: dict[str, Any]) -> dict[str, Any]:
    """The main figures of an audit, and what its gate said."""
    figures = {f"{each['label']} {each['note']}".strip(): each["value"] for each in report.get("headline", ())}
    for check in report.get("checks", ()):
        figures[f"{check['name']}={check['limit']:g}"] = "passed" if check["passed"] else "failed"
    return figures


def _counts(statistics: dict[str, Any]) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Columns and rows of what is counted by name: one number for each, or several of like meaning."""
    for name, part in statistics.items():
        parts = part if isinstance(part, dict) else {}
        each = {key: value if isinstance(value, dict) else {"count": value} for key, value in parts.items()}
        heads = list(next(iter(each.values()), ()))
        numbers = [list(counts.values()) for counts in each.values() if list(counts) == heads]
        if heads and len(numbers) == len(each) and all(type(count) is int for row in numbers for count in row):
            rows = [[key, *map(_count_text, row)] for key, row in zip(each, numbers, strict=True)]
            yield [name.upper().replace("_", " "), *map(str.upper, heads)], rows


def _examples(artifact: Artifact, maker: Job | None) -> int | None:
    """How many examples there are, by the job that counted them: the content may lie far away, or be gone."""
    result = (maker.result if maker is not None else None) or {}
    for name, counted in COUNTED.items():
        if result.get(name) == artifact.id:
            return result.get(counted)
    for agent, made in (result.get("datasets") or {}).items():
        if made == artifact.id:
            return (result.get("targets") or {}).get(agent)
    return None


def _count_text(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"


def _lineage(artifact: Artifact) -> dict[str, Any]:
    """The job and the spec that made an artifact, and the same of every parent."""
    index = context.read().artifacts
    job = _maker(artifact)
    return {
        "id": artifact.id,
        "kind": artifact.kind,
        "job": None if job is None else {"id": job.id, "kind": job.kind, "spec": job.spec},
        "parents": [_lineage(index.find(parent)) for parent in index.parents(artifact.id)],
    }


def _tree(artifact: Artifact, above: Tree | None = None) -> Tree:
    """The artifact with its parents below it."""
    from rich.text import Text
    from rich.tree import Tree

    job = _maker(artifact)
    size = size_text(artifact.size_bytes)
    label = Text.assemble((artifact.id[7:19], "bold"), f"  {artifact.kind}  {size}  {ago(artifact.created_at)}")
    if job is not None:
        label.append_text(Text.assemble("\n", (job.kind, "dim"), f" {job.id}  {_spec(job)}"))
    tree = Tree(label) if above is None else above.add(label)
    index = context.read().artifacts
    for parent in index.parents(artifact.id):
        _tree(index.find(parent), tree)
    return tree


def _spec(job: Job) -> str:
    given = [f"{name}={_short(value)}" for name, value in job.spec.items() if value is not None]
    return " ".join(given[:SHOWN_FIELDS]) + (" …" if len(given) > SHOWN_FIELDS else "")


def _short(value: Any) -> str:
    text = str(value)
    if text.startswith("sha256:"):
        return text[7:19]
    return Path(text).name if text.startswith("/") else text[:40]


def _draw(histogram: list[dict[str, Any]]) -> None:
    """Examples by tokens, as bars; the last one of a histogram may have no end."""
    from rich.bar import Bar
    from rich.table import Table

    most = max(bar["examples"] for bar in histogram)
    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    grid.add_column("TOKENS", justify="right")
    grid.add_column("EXAMPLES", justify="right")
    grid.add_column("", width=50)
    for bar in histogram:
        sizes = f"≥ {bar['from']:,}" if bar["below"] is None else f"{bar['from']:,} …"
        grid.add_row(sizes, f"{bar['examples']:,}", Bar(most, 0, bar["examples"], width=50))
    write("")
    console().print(grid)
