"""API workers that are killed again and again, and replaced at once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROCESSES, THREADS = 4, 4  # API workers on either side, and what each does at once


@dataclass(frozen=True)
class Plan:
    """What is done to either side."""

    jobs: int = 200
    kills: int = 100
    seed: int = 7
    seconds: float = 190.0  # after which what is not done is lost
    pause_seconds: tuple[float, float] = (0.6, 1.6)  # between two kills


class Workers:
    """Worker processes, forked from one that has loaded everything, so that a new one is there at once."""

    def __init__(self, side: str, environment: Mapping[str, str], log: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.hosted.forks", side]
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        with log.open("ab") as stream:
            self._parent = subprocess.Popen(
                command,
                env={**os.environ, **environment, "PYTHONPATH": path},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                start_new_session=True,
            )
        self.pids = [self._start() for _ in range(PROCESSES)]

    def _start(self) -> int:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write("\n")
        self._parent.stdin.flush()
        return int(self._parent.stdout.readline())

    def replace(self, place: int) -> None:
        """SIGKILL one, and start another."""
        with suppress(ProcessLookupError):  # the log says why it ended by itself
            os.kill(self.pids[place], signal.SIGKILL)
        self.pids[place] = self._start()

    def stop(self) -> None:
        os.killpg(self._parent.pid, signal.SIGKILL)
        self._parent.communicate()  # and close what led there


def harass(workers: Workers, plan: Plan, results: Callable[[], int]) -> tuple[int, float]:
    """Kill workers until there are enough kills and results, or the time is up; how many, and how long it took."""
    chance, kills, began = random.Random(plan.seed), 0, time.monotonic()
    while (lived := time.monotonic() - began) < plan.seconds and (results() < plan.jobs or kills < plan.kills):
        time.sleep(chance.uniform(*plan.pause_seconds))
        place = chance.randrange(PROCESSES)
        if kills < plan.kills:
            workers.replace(place)
            kills += 1
    return kills, lived


@contextmanager
def running(arguments: Sequence[str], told: Mapping[str, str], log: Path) -> Iterator[None]:
    """A process of Python's, killed at the end with all that it started."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, **told, "PYTHONPATH": path}
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, *arguments], env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
