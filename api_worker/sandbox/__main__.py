"""`python -m api_worker.sandbox`: serve until told to stop."""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn

from api_worker.sandbox import faults as faults_module
from api_worker.sandbox.app import Sandbox, open_desks
from api_worker.sandbox.connections import Connections
from api_worker.sandbox.faults import ROUTES, Fault, Faults, parse_fault
from api_worker.sandbox.rehearsals import REHEARSALS
from api_worker.sandbox.remote_job import Pace
from api_worker.sandbox.rules import Rules
from api_worker.sandbox.vendor import vendors

COMMON = "openai"  # whose URL is the sandbox's, where no other is asked for
PHASES = ("validate", "queue", "run", "finish", "cancel")


def main(argv: list[str] | None = None) -> int:
    """Serve a state folder and return the exit code."""
    options = _parser().parse_args(argv)
    try:
        line = listen(options.host, options.port)
        desks = open_desks(options.state, _rules(options), Faults(_faults(options), options.seed))
    except OSError as error:
        sys.stderr.write(f"the sandbox cannot start on {options.host}:{options.port} in {options.state}: {error}\n")
        return 1
    sandbox = Sandbox(desks, Connections())
    with contextlib.suppress(KeyboardInterrupt):
        server_of(sandbox, f"http://{options.host}:{line.getsockname()[1]}").run(sockets=[line])
    sandbox.close()
    return 0


def listen(host: str, port: int) -> socket.socket:
    """A socket whose connections send at once: asyncio sees to that only where the socket names its protocol.

    Without it each answer in two parts waits for the client's delayed acknowledgement, about 40 ms.
    """
    line = socket.create_server((host, port))
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return line


class Server(uvicorn.Server):
    """uvicorn's own, that tells where it is once it can be asked, and stopped."""

    def __init__(self, config: uvicorn.Config, root: str | None) -> None:
        super().__init__(config)
        self._root = root

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._root is not None:
            sys.stdout.write(f"sandbox: {self._root}{vendors()[COMMON].prefix}\n")
            sys.stdout.writelines(
                f"  as {vendor.name}: {self._root}{vendor.prefix}\n"
                for vendor in vendors().values()
                if vendor.name != COMMON
            )
            sys.stdout.flush()


def server_of(sandbox: Sandbox, root: str | None = None) -> Server:
    """The server, to be run on a socket that listens; it tells its `root`. It logs no request: they carry keys."""
    config = uvicorn.Config(
        sandbox.app(),
        http=sandbox.connections.protocol(),
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    return Server(config, root)


def _parser() -> argparse.ArgumentParser:
    days = "\n".join(f"    {name:16}{day.told}" for name, day in REHEARSALS.items())
    parser = argparse.ArgumentParser(
        prog="tuneyard sandbox",
        description=f"A local server that speaks the APIs of {', '.join(vendors())}. It trains nothing.",
        epilog=f"{faults_module.__doc__}\nROUTEs: {' '.join(ROUTES)}\n\nBad days to rehearse:\n\n{days}\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    pace, rules = Pace(), Rules()
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=8791, help="0: any free one; the first line of the output names it")
    add("--state", type=Path, required=True, metavar="FOLDER", help="where files and jobs are kept")
    for name in PHASES:
        default = getattr(pace, f"{name}_seconds")
        add(f"--{name}-seconds", type=_seconds, default=default, metavar="S", help="default: %(default)s")
    several: dict[str, Any] = {"type": _limit, "action": "append", "default": [], "metavar": "[VENDOR=]N"}
    add("--max-concurrent", **several, help="unfinished jobs at once, at a vendor or at each; default: no limit")
    add("--max-jobs-a-day", **several, help="jobs of a model within 24 hours; default: no limit")
    add("--min-examples", **several, help="default: the vendor's own least number")
    add("--max-file-mib", type=float, default=rules.max_file_mib, metavar="MIB", help="default: %(default)s")
    add("--model", action="append", default=[], metavar="NAME", help="a base model of every vendor; default: its own")
    faults: dict[str, Any] = {"type": _fault, "nargs": "+", "action": "extend", "default": []}
    add("--faults", "--fault", **faults, metavar="FAULT", help="see below")
    add("--rehearse", choices=list(REHEARSALS), action="append", default=[], help="a bad day; see below")
    add("--seed", type=int, default=0, help="of the faults that come by chance")
    return parser


def _faults(options: argparse.Namespace) -> list[Fault]:
    rehearsed = [parse_fault(text) for name in options.rehearse for text in REHEARSALS[name].faults]
    return [*options.faults, *rehearsed]


def _rules(options: argparse.Namespace) -> dict[str, Rules]:
    pace = Pace(*(getattr(options, f"{name}_seconds") for name in PHASES))
    rehearsed = [(None, limit) for name in options.rehearse if (limit := REHEARSALS[name].max_concurrent) is not None]
    return {
        vendor: Rules(
            pace=pace,
            max_concurrent=_limit_at(vendor, [*rehearsed, *options.max_concurrent]),
            max_jobs_a_day=_limit_at(vendor, options.max_jobs_a_day),
            min_examples=_limit_at(vendor, options.min_examples),
            max_file_mib=options.max_file_mib,
            models=tuple(options.model),
        )
        for vendor in vendors()
    }


def _limit_at(vendor: str, given: list[tuple[str | None, int]]) -> int | None:
    """The vendor's own limit, or everybody's; the last one given counts."""
    own = [number for name, number in given if name == vendor]
    all_of_them = [number for name, number in given if name is None]
    return [*all_of_them, *own][-1] if own or all_of_them else None


def _limit(text: str) -> tuple[str | None, int]:
    vendor, equals, number = text.rpartition("=")
    if not number.isdecimal() or (equals and vendor not in vendors()):
        raise argparse.ArgumentTypeError(f'"{text}" is no limit; write N or VENDOR=N, of {", ".join(vendors())}')
    return vendor or None, int(number)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds")
    return value


def _fault(text: str) -> Fault:
    try:
        fault = parse_fault(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if fault.vendor is not None and fault.vendor not in vendors():
        raise argparse.ArgumentTypeError(f'"{text}": there is no "{fault.vendor}"; there are {", ".join(vendors())}')
    if fault.vendor is not None and fault.what == "restart" and not vendors()[fault.vendor].restarts:
        raise argparse.ArgumentTypeError(f'"{text}": {fault.vendor} restarts no job under another id')
    return fault


if __name__ == "__main__":
    sys.exit(main())
