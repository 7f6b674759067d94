"""One process of the yard: its command, its output in whole lines, and when it may start again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from queue_app.process_family import MARK, Family

if TYPE_CHECKING:
    from collections.abc import Mapping

CHUNK_BYTES = 64 * 1024
LINE_LIMIT_BYTES = 64 * 1024  # a longer line is cut in two, so that no process can fill the memory


@dataclass(frozen=True)
class Pace:
    """How patient the supervisor is."""

    first_pause_seconds: float = 1.0
    longest_pause_seconds: float = 30.0
    healthy_seconds: float = 60.0  # who has lived so long starts again after the first pause
    ready_seconds: float = 15.0  # for the broker to answer
    grace_seconds: float = 60.0  # from SIGTERM to SIGKILL
    last_grace_seconds: float = 10.0  # the same for the broker


@dataclass
class YardProcess:
    """A process that is alive (`popen`), about to start (`due`), or neither."""

    name: str  # cpu.1
    command: list[str]
    colour: str
    mark: str
    pace: Pace
    popen: subprocess.Popen[bytes] | None = None
    due: float | None = None  # monotonic seconds
    started: float = 0.0  # monotonic seconds
    starts: int = 0
    failures: int = 0  # in a row, without a healthy life in between
    unfinished: bytearray = field(default_factory=bytearray)  # a line whose end has not come yet

    @property
    def line(self) -> str:
        """The name of the Procfile's line."""
        return self.name.rpartition(".")[0]

    @property
    def family(self) -> Family:
        return Family(self.popen.pid if self.popen else 0, self.mark)

    @property
    def output(self) -> int:
        """The descriptor its output comes from, not blocking."""
        if self.popen is None or self.popen.stdout is None:
            raise ValueError(f"{self.name} does not run")
        return self.popen.stdout.fileno()

    def start(self, env: Mapping[str, str]) -> None:
        """Start it as the leader of a session of its own.

        Raises:
            OSError: its program cannot be run
        """
        self.due = None
        self.started = time.monotonic()
        self.starts += 1
        self.popen = subprocess.Popen(
            self.command,
            env={**env, MARK: self.mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        os.set_blocking(self.output, False)

    def read_lines(self) -> list[bytes] | None:
        """The lines that are complete by now; None when there will be no more."""
        try:
            chunk = os.read(self.output, CHUNK_BYTES)
        except BlockingIOError:
            return []
        self.unfinished += chunk
        *lines, rest = self.unfinished.split(b"\n")
        if not chunk or len(rest) > LINE_LIMIT_BYTES:
            lines, rest = [*lines, rest] if rest else lines, bytearray()
        self.unfinished = rest
        return [bytes(line) for line in lines] if chunk or lines else None

    def read_last_lines(self) -> list[bytes]:
        """What is in the pipe when it has ended; whoever else holds the pipe is not waited for."""
        lines: list[bytes] = []
        while more := self.read_lines():
            lines += more
        rest, self.unfinished = bytes(self.unfinished), bytearray()
        return [*lines, rest] if rest else lines

    def bury(self) -> str:
        """Forget the process that has ended, and say how it did."""
        if self.popen is None:
            return "could not start"
        status = self.popen.returncode
        if self.popen.stdout is not None:
            self.popen.stdout.close()
        self.popen = None
        how = f"by {signal.Signals(-status).name}" if status < 0 else f"with exit status {status}"
        return f"ended {how} after {time.monotonic() - self.started:.1f} s"

    def schedule(self) -> float:
        """Let it start again; the pause in seconds doubles with each short life in a row."""
        now = time.monotonic()
        self.failures = 1 if now - self.started >= self.pace.healthy_seconds else self.failures + 1
        doubled = self.pace.first_pause_seconds * 2.0 ** min(self.failures - 1, 30)
        pause = min(self.pace.longest_pause_seconds, doubled)
        self.due = now + pause
        return pause
