"""The tree of commands, and what becomes of an error: one message and an exit code, no traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from typer.exceptions import TyperException

from queue_app.cli import data, jobs, kinds, money, recipes, workers, yard
from queue_app.cli.output import complain
from queue_app.cli.root import RootGroup
from queue_app.errors import Invalid, NotFound, Permanent, TuneyardError
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from collections.abc import Sequence

OK, FAILED, REFUSED, USAGE, MISSING, TIMEOUT, INTERRUPTED = 0, 1, 2, 3, 4, 124, 130

app = typer.Typer(
    name="tuneyard",
    help="One queue for every LLM fine-tune: on your own GPUs and at every hosted provider.",
    no_args_is_help=True,
    cls=RootGroup,
    pretty_exceptions_enable=False,
)
app.add_typer(jobs.app, name="jobs")
app.add_typer(data.app, name="data")
app.add_typer(workers.app, name="workers")
kinds.register(app)
recipes.register(app)
money.register(app)
yard.register(app)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    try:
        code = app(list(arguments), prog_name="tuneyard", standalone_mode=False)
    except TyperException as error:
        message = getattr(error, "format_message", error.__str__)()
        if message:  # it is empty where the help has been shown instead
            context = getattr(error, "ctx", None)
            path = context.command_path if context is not None else "tuneyard"
            joint = "" if message.endswith("?") else ";"
            complain(f"{message.rstrip('.')}{joint} `{path} --help` lists what it takes")
        return USAGE
    except TuneyardError as error:
        complain(str(error))
        return exit_code(error)
    except OSError as error:
        complain(f"{_said(error)}; `tuneyard doctor` looks at the disk and all else that commands depend on")
        return FAILED
    except typer.Abort:
        return INTERRUPTED
    except KeyboardInterrupt:
        return INTERRUPTED
    return code if isinstance(code, int) else OK


def _said(error: OSError) -> str:
    if error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def exit_code(error: TuneyardError) -> int:
    """The exit code that stands for an error."""
    if isinstance(error, Invalid):
        return USAGE
    if isinstance(error, NotFound):
        return MISSING
    if isinstance(error, Permanent) and error.cause == Cause.GATE:
        return REFUSED
    return FAILED
