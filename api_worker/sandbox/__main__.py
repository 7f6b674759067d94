"""`python -m api_worker.sandbox`: serve until told to stop."""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
from pathlib import Path

import uvicorn

from api_worker.sandbox import faults as faults_module
from api_worker.sandbox.app import Sandbox
from api_worker.sandbox.connections import Connections
from api_worker.sandbox.faults import Fault, Faults, parse_fault
from api_worker.sandbox.openai_routes import Rules
from api_worker.sandbox.orders import DEFAULT_MODELS
from api_worker.sandbox.remote_job import Pace
from api_worker.sandbox.state import SandboxState


def main(argv: list[str] | None = None) -> int:
    """Serve a state folder and return the exit code."""
    options = _parser().parse_args(argv)
    try:
        line = socket.create_server((options.host, options.port))
        state = SandboxState(options.state)
    except OSError as error:
        sys.stderr.write(f"the sandbox cannot start on {options.host}:{options.port} in {options.state}: {error}\n")
        return 1
    url = f"http://{options.host}:{line.getsockname()[1]}/v1"
    with contextlib.suppress(KeyboardInterrupt):
        server_of(state, _rules(options), Faults(options.fault, options.seed), url).run(sockets=[line])
    state.close()
    return 0


class Server(uvicorn.Server):
    """uvicorn's own, that tells where it is once it can be asked, and stopped."""

    def __init__(self, config: uvicorn.Config, url: str | None) -> None:
        super().__init__(config)
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._url is not None:
            sys.stdout.write(f"sandbox: {self._url}\n")
            sys.stdout.flush()


def server_of(state: SandboxState, rules: Rules, faults: Faults, url: str | None = None) -> Server:
    """The server, to be run on a socket that listens; it tells its `url`. It logs no request: they carry keys."""
    connections = Connections()
    config = uvicorn.Config(
        Sandbox(state, rules, faults, connections).app(),
        http=connections.protocol(),
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    return Server(config, url)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tuneyard sandbox",
        description="A local server that speaks OpenAI's files and fine-tuning API. It trains nothing.",
        epilog=faults_module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    pace, rules = Pace(), Rules()
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=8791, help="0: any free one; the first line of the output names it")
    add("--state", type=Path, required=True, metavar="FOLDER", help="where files and jobs are kept")
    add("--validate-seconds", type=_seconds, default=pace.validate_seconds, metavar="S", help="default: %(default)s")
    add("--queue-seconds", type=_seconds, default=pace.queue_seconds, metavar="S", help="default: %(default)s")
    add("--run-seconds", type=_seconds, default=pace.run_seconds, metavar="S", help="default: %(default)s")
    add("--max-concurrent", type=int, metavar="N", help="unfinished jobs; one more is refused (429); default: no limit")
    add("--min-examples", type=int, default=rules.min_examples, metavar="N", help="default: %(default)s")
    add("--max-file-mib", type=float, default=rules.max_file_mib, metavar="MIB", help="default: %(default)s")
    add("--model", action="append", metavar="NAME", help=f"a base model; default: {', '.join(DEFAULT_MODELS)}")
    add("--fault", action="append", type=_fault, default=[], metavar="FAULT", help="see below; may be repeated")
    add("--seed", type=int, default=0, help="of the faults that come by chance")
    return parser


def _rules(options: argparse.Namespace) -> Rules:
    return Rules(
        pace=Pace(options.validate_seconds, options.queue_seconds, options.run_seconds),
        max_concurrent=options.max_concurrent,
        min_examples=options.min_examples,
        max_file_mib=options.max_file_mib,
        models=tuple(options.model or DEFAULT_MODELS),
    )


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds")
    return value


def _fault(text: str) -> Fault:
    try:
        return parse_fault(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
