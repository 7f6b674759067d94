"""The sandbox on a free port: in a thread of the test's process, or in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
from pydantic import SecretStr

from api_worker.sandbox.__main__ import listen, server_of
from api_worker.sandbox.app import Sandbox, open_desks
from api_worker.sandbox.connections import Connections
from api_worker.sandbox.faults import Faults, parse_fault
from api_worker.sandbox.remote_job import Pace
from api_worker.sandbox.rules import Rules
from api_worker.sandbox.vendor import vendors
from settings import ProviderSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
FAST = Pace(validate_seconds=0.05, queue_seconds=0.05, run_seconds=0.1)
ENDLESS = Pace(validate_seconds=0.0, queue_seconds=0.0, run_seconds=3600.0)
ORGANIZATION = "sandbox"  # whose account it is, where a vendor's paths name it
SECRET = "canary-5f0c9a-secret"


@dataclass(frozen=True)
class Served:
    """A sandbox that answers at `url`, which is OpenAI's part of it."""

    url: str

    def base_url(self, vendor: str) -> str:
        """Where a vendor's part is."""
        return self.url.removesuffix("/v1") + vendors()[vendor].prefix

    def ledger(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.url.replace("/v1", "/sandbox/ledger")) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def account(self, vendor: str = "openai", *, listing_lag_seconds: float = 0.0) -> ProviderSettings:
        return ProviderSettings(
            api=vendor,
            base_url=self.base_url(vendor),
            api_key=SecretStr(SECRET),
            organization=ORGANIZATION,
            listing_lag_seconds=listing_lag_seconds,
            answer_seconds=0.0,
            poll_seconds=0.05,
        )

    def client(self, vendor: str = "openai", **options: Any) -> openai.OpenAI:
        """OpenAI's SDK, at a part that speaks OpenAI's API."""
        return openai.OpenAI(api_key=SECRET, base_url=self.base_url(vendor), max_retries=0, **options)


class Running:
    """A sandbox in a thread; `rules` are everybody's, or by vendor."""

    def __init__(self, folder: Path, faults: tuple[str, ...], rules: Rules | Mapping[str, Rules], seed: int) -> None:
        armed = Faults([parse_fault(fault) for fault in faults], seed)
        self._sandbox = Sandbox(open_desks(folder, rules, armed), Connections())
        self._server, self._line = server_of(self._sandbox), listen("127.0.0.1", 0)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._line]})
        self._thread.start()
        self.served = Served(f"http://127.0.0.1:{self._line.getsockname()[1]}/v1")

    def ask_to_stop(self) -> None:
        self._server.should_exit = True

    def close(self) -> None:
        self.ask_to_stop()
        self._thread.join()
        self._line.close()
        self._sandbox.close()


@contextmanager
def serve(
    folder: Path, *faults: str, rules: Rules | Mapping[str, Rules] | None = None, seed: int = 0
) -> Iterator[Served]:
    """A sandbox in a thread, for a while."""
    with closing(Running(folder, faults, rules or Rules(pace=FAST), seed)) as running:
        yield running.served


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


class Sandboxes:
    """Sandboxes that several tests use one after another, one for each set of faults and rules."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[object, Running] = {}

    def at(self, *faults: str, rules: Rules, of: str = "") -> Served:
        """The one with these faults and rules; `of` tells those apart whose faults come only so many times."""
        wanted = (faults, rules, of)
        if wanted not in self._open:
            self._open[wanted] = Running(self._folder / str(len(self._open)), faults, rules, seed=0)
        return self._open[wanted].served

    def close(self) -> None:
        for running in self._open.values():
            running.ask_to_stop()
        for running in self._open.values():
            running.close()


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


def preferences_file(path: Path, count: int = 12) -> Path:
    """A file of preferences, of the kind that OpenAI made known."""
    rows = [
        {
            "input": {"messages": [{"role": "user", "content": f"What is {n}?"}]},
            "preferred_output": [{"role": "assistant", "content": f"It is {n}."}],
            "non_preferred_output": [{"role": "assistant", "content": "No idea."}],
        }
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
