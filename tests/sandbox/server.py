"""The sandbox on a free port: in a thread of the test's process, or in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
from pydantic import SecretStr

from api_worker.sandbox.__main__ import server_of
from api_worker.sandbox.faults import Faults, parse_fault
from api_worker.sandbox.openai_routes import Rules
from api_worker.sandbox.remote_job import Pace
from api_worker.sandbox.state import SandboxState
from settings import ProviderSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
FAST = Pace(validate_seconds=0.05, queue_seconds=0.05, run_seconds=0.1)
ENDLESS = Pace(validate_seconds=0.0, queue_seconds=0.0, run_seconds=3600.0)
SECRET = "canary-5f0c9a-secret"


@dataclass(frozen=True)
class Served:
    """A sandbox that answers at `url`."""

    url: str

    def ledger(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.url.replace("/v1", "/sandbox/ledger")) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def account(self, *, listing_lag_seconds: float = 0.0) -> ProviderSettings:
        return ProviderSettings(
            base_url=self.url,
            api_key=SecretStr(SECRET),
            listing_lag_seconds=listing_lag_seconds,
            poll_seconds=0.05,
        )

    def client(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(api_key=SECRET, base_url=self.url, max_retries=0, **options)


@contextmanager
def serve(folder: Path, *faults: str, rules: Rules | None = None, seed: int = 0) -> Iterator[Served]:
    """A sandbox in a thread."""
    state = SandboxState(folder)
    armed = Faults([parse_fault(fault) for fault in faults], seed)
    server = server_of(state, rules or Rules(pace=FAST), armed)
    line = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [line]})
    thread.start()
    try:
        yield Served(f"http://127.0.0.1:{line.getsockname()[1]}/v1")
    finally:
        server.should_exit = True
        thread.join()
        line.close()
        state.close()


@contextmanager
def serve_in_process(folder: Path, *options: str) -> Iterator[tuple[Served, subprocess.Popen[str]]]:
    """A sandbox in a process of its own, killed at the end if it still lives."""
    command = [sys.executable, "-m", "api_worker.sandbox", "--port", "0", "--state", str(folder), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().removeprefix("sandbox: ").strip()
        yield Served(url), process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def examples_file(path: Path, count: int = 12, *, last_line: str | None = None) -> Path:
    """A file of chat examples, with one more line of any kind at its end."""
    rows = [
        {"messages": [{"role": "user", "content": f"What is {n}?"}, {"role": "assistant", "content": f"It is {n}."}]}
        for n in range(count)
    ]
    lines = [json.dumps(row) for row in rows] + ([last_line] if last_line else [])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
