"""`tuneyard kinds`: the job types there are, and the options each of them takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from queue_app.cli.output import AsJson, hint, next_commands, table, write, write_json
from queue_app.job_type import JobType, Spec, find_job_type
from queue_app.job_type import kinds as all_kinds

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


def register(app: typer.Typer) -> None:
    """Add the command to the tree."""
    app.command()(kinds)


def kinds(
    kind: Annotated[str | None, typer.Argument(help="One of them, in detail.")] = None, as_json: AsJson = False
) -> None:
    """List the job types, or the options of one."""
    if kind is not None:
        _detail(find_job_type(kind), as_json)
        return
    found = [find_job_type(name) for name in all_kinds()]
    if as_json:
        write_json([{"kind": t.kind, "queues": t.queues, "summary": t.summary} for t in found])
        return
    table(["KIND", "QUEUE", "WHAT IT DOES"], [[t.kind, " or ".join(t.queues), t.summary] for t in found])
    hint(
        "\n  tuneyard kinds KIND                 its options"
        "\n  tuneyard jobs submit KIND --help    the same, as a command"
    )


def _detail(job_type: JobType[Any, Any], as_json: bool) -> None:
    if as_json:
        write_json(
            {
                "kind": job_type.kind,
                "queues": job_type.queues,
                "summary": job_type.summary,
                "spec": job_type.spec.model_json_schema(),
                "result": job_type.result.model_json_schema(),
            }
        )
        return
    write(f"{job_type.kind}  ({' or '.join(job_type.queues)})  {job_type.summary}\n")
    rows = [[name, default_text(field), field.description or ""] for name, field in fields(job_type.spec)]
    table(["OPTION", "DEFAULT", "MEANING"], rows, wrap=True)
    made = [[name, "", field.description or ""] for name, field in job_type.result.model_fields.items()]
    write("")
    table(["RESULT", "", "MEANING"], made, wrap=True)
    needed = [f"--{name.replace('_', '-')} …" for name, field in fields(job_type.spec) if field.is_required()]
    next_commands(" ".join(["tuneyard jobs submit", job_type.kind, *needed]))


def fields(spec: type[Spec]) -> list[tuple[str, FieldInfo]]:
    """A spec's fields in their order."""
    return list(spec.model_fields.items())


def default_text(field: FieldInfo) -> str:
    """A field's default as a reader sees it."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "–" if value is None else str(value)
