"""Accounts to fine-tune at, each at a sandbox of its own that answers late, wrong or not at all by chance."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api_worker.sandbox.__main__ import listen, server_of
from api_worker.sandbox.app import Sandbox, open_desks
from api_worker.sandbox.connections import Connections
from api_worker.sandbox.faults import Faults, parse_fault
from api_worker.sandbox.ledger import ledger_of
from api_worker.sandbox.remote_job import Pace
from api_worker.sandbox.rules import Rules
from api_worker.sandbox.vendor import vendors

SLOTS = (2, 3, 4, 5)
PACE = Pace(validate_seconds=0.3, queue_seconds=0.3, run_seconds=2.4)
POLL_SECONDS, LAG_SECONDS = 0.5, 1.0
ANSWER_SECONDS = 1.0  # these accounts answer sooner, or not at all
FAULTS = (
    "upload:503@0.1",
    "create:500@0.05",
    "create:500-after@0.1",
    "create:drop-after@0.1",
    "create:drop@0.05",
    "create:429@0.05",
    "create:429=0.5@0.05",
    "create:slow=0.4@0.2",
    "retrieve:500@0.03",
    "retrieve:drop@0.03",
    f"list:lag={LAG_SECONDS:g}",
    "list:503@0.05",
    "job:odd-word=1@0.1",
    "job:restart@0.1",  # where a vendor does so
)
FILES = 10  # data sets, which the jobs share
KEY = "benchmark-key"


@dataclass(frozen=True)
class Account:
    """An account at a sandbox of its own."""

    name: str
    vendor: str
    slots: int
    url: str
    sandbox: Sandbox

    def ledger(self) -> dict[str, Any]:
        part: dict[str, Any] = ledger_of(self.sandbox.desks, time.time())["vendors"][self.vendor]
        return part


@contextmanager
def accounts(folder: Path, chosen: Sequence[str], seed: int) -> Iterator[list[Account]]:
    """A sandbox for each account, in threads of this process."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(_account(folder / f"sandbox-{place}", vendor, slots, seed + place))
            for place, (vendor, slots) in enumerate(zip(chosen, SLOTS, strict=True))
        ]


@contextmanager
def _account(folder: Path, vendor: str, slots: int, seed: int) -> Iterator[Account]:
    faults = Faults([parse_fault(text) for text in FAULTS], seed)
    sandbox = Sandbox(open_desks(folder, Rules(pace=PACE), faults), Connections())
    server, line = server_of(sandbox), listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [line]})
    thread.start()
    url = f"http://127.0.0.1:{line.getsockname()[1]}{vendors()[vendor].prefix}"
    try:
        yield Account(f"account{slots}", vendor, slots, url, sandbox)
    finally:
        server.should_exit = True
        thread.join()
        line.close()
        sandbox.close()


def datasets(folder: Path) -> list[Path]:
    """Files of chat examples, no two alike."""
    folder.mkdir()
    made = []
    for number in range(FILES):
        asked = [(f"What is {number} + {n}?", f"It is {number + n}.") for n in range(16)]
        rows = [
            {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
            for question, answer in asked
        ]
        made.append(folder / f"{number}.jsonl")
        made[-1].write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


@contextmanager
def rehearsal() -> Iterator[tuple[str, Path]]:
    """A sandbox in a process of its own, and a file: for a job that is done before workers are forked.

    A worker lives for days, and here for seconds: most of it would go into what only a first job costs.
    """
    command = [sys.executable, "-m", "api_worker.sandbox", "--port", "0", "--validate-seconds", "0"]
    command += ["--queue-seconds", "0", "--run-seconds", "0.1", "--state"]
    with tempfile.TemporaryDirectory() as place:
        process = subprocess.Popen([*command, f"{place}/state"], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            yield process.stdout.readline().removeprefix("sandbox: ").strip(), datasets(Path(place, "data"))[0]
        finally:
            process.kill()
            process.communicate()
