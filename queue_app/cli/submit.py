"""`tuneyard jobs submit KIND …`: one command a job type, its options made from the spec."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from queue_app.cli import context
from queue_app.cli.kinds import default_text, fields
from queue_app.cli.output import AsJson, Quiet, as_dict, hint, next_commands, write, write_json
from queue_app.errors import Invalid
from queue_app.job_type import JobType, find_job_type, kinds, nearest
from queue_app.store.new_job import NewJob

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from queue_app.store import Job

# Options every job has, whatever its type.
COMMON: dict[str, Any] = {
    "queue": Annotated[str | None, typer.Option(help="Queue, if not the job type's first.")],
    "priority": Annotated[int, typer.Option(min=-1000, max=1000, help="Higher goes first.")],
    "timeout": Annotated[str | None, typer.Option(help="Deadline from the first start: 90s, 30m, 8h, 2d.")],
    "reuse": Annotated[bool, typer.Option(help="Take an equal job's result instead of doing it again.")],
    "here": Annotated[bool, typer.Option("--here", help="Run it in this process, without a worker.")],
    "as_json": AsJson,
    "quiet": Quiet,
}
DEFAULTS: dict[str, Any] = {"priority": 0, "reuse": True, "here": False, "as_json": False, "quiet": False}


class KindGroup(TyperGroup):
    """A group whose commands are the job types that are found."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The kinds."""
        return kinds()

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command that submits one kind."""
        job_type = find_job_type(cmd_name)
        app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
        app.command(cmd_name, help=job_type.summary)(_command(job_type))
        return typer.main.get_command(app)


def _command(job_type: JobType[Any, Any]) -> Callable[..., None]:
    """A function whose signature is the spec, so that Typer makes the options of it."""

    def submit_kind(**given: Any) -> None:
        common = {name: given.pop(name) for name in COMMON}
        pairs = _pairs(given.pop("pairs") or [])
        values = {name: value for name, value in given.items() if value is not None}
        submit(job_type, {**values, **pairs}, common)

    keyword = inspect.Parameter.KEYWORD_ONLY
    extra = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Fields, as in a recipe.")]
    parameters = [inspect.Parameter("pairs", keyword, default=None, annotation=extra)]
    for name, field in fields(job_type.spec):
        flag = f"--{name.replace('_', '-')}"
        text = f"{field.description or ''} [{default_text(field)}]"
        parameters.append(
            inspect.Parameter(
                name, keyword, default=None, annotation=Annotated[str | None, typer.Option(flag, help=text)]
            )
        )
    for name, annotation in COMMON.items():
        parameters.append(inspect.Parameter(name, keyword, default=DEFAULTS.get(name), annotation=annotation))
    signature = inspect.Signature(parameters)
    submit_kind.__signature__ = signature  # type: ignore[attr-defined]
    submit_kind.__annotations__ = {p.name: p.annotation for p in parameters}
    return submit_kind


def _pairs(words: list[str]) -> dict[str, str]:
    pairs = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise Invalid(f'"{word}" is no key=value')
        pairs[name.replace("-", "_")] = value
    return pairs


def submit(job_type: JobType[Any, Any], values: Mapping[str, str], common: Mapping[str, Any]) -> None:
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
    )
    [job_id] = context.dispatcher().submit(new)
    if common["here"]:
        finish_here(job_id)
    _tell(context.store().read.job(job_id), common)


def typed(job_type: JobType[Any, Any], values: Mapping[str, str]) -> dict[str, Any]:
    """What was typed, as the spec's types; relative paths are taken from where the user stands.

    Raises:
        Invalid: names every option that is wrong or missing
    """
    from queue_app.recipe.fields import find_faults, make_absolute

    spec = {name: _value(job_type.spec.model_fields[name], text) for name, text in values.items()}
    faults = find_faults(job_type.spec, spec, Path.cwd())
    if faults:
        raise Invalid(f"{job_type.kind}: " + "\n       ".join(said for _, said in faults))
    return {name: make_absolute(job_type.spec.model_fields[name], value, Path.cwd()) for name, value in spec.items()}


def _value(field: FieldInfo, text: str) -> Any:
    """The text as a YAML value where the field takes it as such, else as it stands."""
    from pydantic import TypeAdapter, ValidationError
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    from queue_app.recipe.fields import annotation_of

    try:
        value = YAML(typ="safe", pure=True).load(text)
        TypeAdapter(annotation_of(field)).validate_python(value, context={"base": Path.cwd()})
    except (YAMLError, ValidationError):
        return text
    return value


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


def finish_here(job_id: str) -> None:
    """Run a job in this process, through the same claim a worker makes, until it has ended or waits."""
    import os

    from queue_app.cli.live import watch_here

    try:
        watch_here(context.runner(f"here-{os.getpid()}"), job_id)
    except KeyboardInterrupt:
        hint(f"\njob {job_id} was interrupted and stays in the queue; a yard goes on with it, or end it:")
        next_commands("tuneyard up", f"tuneyard jobs cancel {job_id}")
        raise


def _tell(job: Job, common: Mapping[str, Any]) -> None:
    if common["quiet"]:
        write(job.id)
    elif common["as_json"]:
        write_json(as_dict(job))
    else:
        write(f"{job.id}  {job.kind}  {job.state}")
        if common["here"]:
            next_commands(f"tuneyard jobs show {job.id}")
        else:
            if job.timeout_seconds is None:
                hint("no deadline; set one with --timeout")
            next_commands(*(f"tuneyard jobs {verb} {job.id}" for verb in ("logs -f", "wait", "cancel")))
    if common["here"] and job.state != "succeeded":
        raise typer.Exit(exit_code_of(job))


def exit_code_of(job: Job) -> int:
    """The exit code that stands for how a job ended: 0 succeeded, 2 a gate said no, 1 anything else."""
    if job.state == "succeeded":
        return 0
    return 2 if job.cause == "gate" else 1
