"""`tuneyard jobs submit KIND …`: one command a job type, its options made from the spec."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from queue_app.cli import context
from queue_app.cli.explain import next_steps
from queue_app.cli.here import submit_here
from queue_app.cli.kinds import default_text, fields
from queue_app.cli.output import (
    AsJson,
    Quiet,
    as_dict,
    console,
    hint,
    next_commands,
    show_values,
    state_text,
    write,
    write_json,
)
from queue_app.errors import Invalid
from queue_app.job_type import JobType, find_job_type, kinds, nearest
from queue_app.lifecycle import NEEDS_A_PERSON
from queue_app.store.new_job import NewJob

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from queue_app.store import Job


def option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """An option as a parameter of a command."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


# Options every job has, whatever its type.
COMMON = (
    option("queue", Annotated[str | None, typer.Option(help="Queue, if not the job type's first.")], None),
    option("priority", Annotated[int, typer.Option(min=-1000, max=1000, help="Higher goes first.")], 0),
    option("timeout", Annotated[str | None, typer.Option(help="Deadline from first start: 90s, 30m, 8h, 2d.")], None),
    option("reuse", Annotated[bool, typer.Option(help="Take an equal job's result instead of doing it again.")], True),
    option("here", Annotated[bool, typer.Option("--here", help="Run it in this process, without a worker.")], False),
    option("as_json", AsJson, False),
    option("quiet", Quiet, False),
)


class KindGroup(TyperGroup):
    """A group whose commands are the job types that are found."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The kinds."""
        return kinds()

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command that submits one kind."""
        return command_of(find_job_type(cmd_name), cmd_name, COMMON)


def command_of(
    job_type: JobType[Any, Any],
    name: str,
    common: Sequence[inspect.Parameter],
    first: inspect.Parameter | None = None,
) -> Any:
    """The command `name` that submits a job type; `first` is a field given without its option's name."""
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command(name, help=job_type.summary)(_submitter(job_type, common, first))
    return typer.main.get_command(app)


def _submitter(
    job_type: JobType[Any, Any], common: Sequence[inspect.Parameter], first: inspect.Parameter | None
) -> Callable[..., None]:
    """A function whose signature is the spec, so that Typer makes the options of it."""

    def submit_kind(**given: Any) -> None:
        chosen = {each.name: given.pop(each.name) for each in common}
        pairs = _pairs(given.pop("pairs") or [])
        values = {name: value for name, value in given.items() if value is not None}
        submit(job_type, {**values, **pairs}, chosen)

    extra = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Fields, as in a recipe.")]
    parameters = [*([first] if first else []), option("pairs", extra, None)]
    for name, field in fields(job_type.spec):
        if first is not None and name == first.name:
            continue
        parameters.append(_field_option(name, field))
    parameters += common
    signature = inspect.Signature(parameters)
    submit_kind.__signature__ = signature  # type: ignore[attr-defined]
    submit_kind.__annotations__ = {p.name: p.annotation for p in parameters}
    return submit_kind


def _field_option(name: str, field: FieldInfo) -> inspect.Parameter:
    """The option of a field: a flag for yes or no, else a text that `typed` reads."""
    from queue_app.recipe.fields import annotation_of, shapes

    word = name.replace("_", "-")
    text = f"{field.description or ''} [{default_text(field)}]"
    if shapes(annotation_of(field)) == {"true or false"}:
        return option(name, Annotated[bool | None, typer.Option(f"--{word}/--no-{word}", help=text)], None)
    return option(name, Annotated[str | None, typer.Option(f"--{word}", help=text)], None)


def _pairs(words: list[str]) -> dict[str, str]:
    pairs = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise Invalid(f'"{word}" is no key=value; a field is written as its name, = and its value')
        pairs[name.replace("-", "_")] = value
    return pairs


def submit(job_type: JobType[Any, Any], values: Mapping[str, str | bool], common: Mapping[str, Any]) -> None:
    """Check what was typed, submit it, and say what to do next."""
    unknown = [name for name in values if name not in job_type.spec.model_fields]
    if unknown:
        raise Invalid(
            f'{job_type.kind} has no option "{unknown[0]}"{nearest(unknown[0], list(job_type.spec.model_fields))}'
        )
    spec = typed(job_type, values)
    queue = common["queue"] or job_type.queues[0]
    if queue not in job_type.queues:
        raise Invalid(f'{job_type.kind} does not run on queue "{queue}", but on {" or ".join(job_type.queues)}')
    seconds = seconds_of("--timeout", common["timeout"])
    new = NewJob(
        kind=job_type.kind,
        queue=queue,
        spec=spec,
        priority=common["priority"],
        timeout_seconds=seconds,
        reuse=common["reuse"],
        cards=job_type.spec.cards_needed(spec),
    )
    if common["here"]:
        _tell(submit_here(new), common)
    else:
        [job_id] = context.dispatcher().submit(new)
        _tell(context.read().job(job_id), common)


def typed(job_type: JobType[Any, Any], values: Mapping[str, str | bool]) -> dict[str, Any]:
    """What was typed, as the spec's types; relative paths are taken from where the user stands.

    Raises:
        Invalid: names every option that is wrong or missing
    """
    from queue_app.recipe.fields import Surroundings, find_faults, make_absolute

    spec = {name: _value(name, job_type.spec.model_fields[name], text) for name, text in values.items()}
    faults = find_faults(job_type.spec, spec, Surroundings(Path.cwd(), context.settings()))
    if faults:
        raise Invalid(f"{job_type.kind}: " + "\n       ".join(said for _, said in faults))
    return {name: make_absolute(job_type.spec.model_fields[name], value, Path.cwd()) for name, value in spec.items()}


def _value(name: str, field: FieldInfo, text: str | bool) -> Any:
    """What was typed for a field: a text as it stands where the field takes one, else the YAML value that it is.

    Raises:
        Invalid: it is no YAML value
    """
    from queue_app.recipe.fields import annotation_of, shapes
    from queue_app.recipe.yaml import read_value

    taken = shapes(annotation_of(field))
    if isinstance(text, bool) or taken == {"a text"}:
        return text
    value = read_value(text, f"--{name.replace('_', '-')}")
    return text if isinstance(value, str) and "a text" in taken else value


def seconds_of(option: str, text: str | None) -> float | None:
    """A duration option in seconds.

    Raises:
        Invalid: it is no duration
    """
    from queue_app.recipe import duration_seconds

    if text is None:
        return None
    try:
        return duration_seconds(text)
    except ValueError as error:
        raise Invalid(f"{option} {text}: {error}") from error


def _tell(job: Job, common: Mapping[str, Any]) -> None:
    if common["quiet"]:
        write(job.id)
    elif common["as_json"]:
        write_json(as_dict(job))
    else:
        write(f"{job.id}  {job.kind}  {state_text(job)}")
        if common["here"]:
            _show_result(job)
            next_commands(f"tuneyard jobs show {job.id}", *(next_steps(job) if job.state != "succeeded" else ()))
        else:
            if job.timeout_seconds is None:
                hint("no deadline; set one with --timeout")
            next_commands(*(f"tuneyard jobs {verb} {job.id}" for verb in ("logs -f", "wait", "cancel")))
    if common["here"] and job.state != "succeeded":
        raise typer.Exit(exit_code_of(job))


def _show_result(job: Job) -> None:
    """A result's report where it has one to read, and its figures."""
    result = job.result or {}
    if "report" in result:
        from rich.markdown import Markdown

        folder = context.runner("cli").artifacts.fetch(result["report"])
        if (folder / "report.md").is_file():
            console().print(Markdown((folder / "report.md").read_text(encoding="utf-8")))
        if (folder / "report.html").is_file():
            write(f"  report     {folder / 'report.html'}")
    show_values("result", result)


def exit_code_of(job: Job) -> int:
    """The exit code that stands for how a job ended.

    0 succeeded, 2 a gate, a cap or an account said no, 4 an input is missing, else 1.
    """
    if job.state == "succeeded":
        return 0
    if job.cause == "gate" or job.reason in NEEDS_A_PERSON:
        return 2
    failed = [event for event in context.read().history(job.id) if event.name == "failed"]
    return 4 if failed and failed[-1].detail.get("error") == "NotFound" else 1
