"""Loads what one side's worker loads, does one job, and then forks a worker for every line that comes in.

python -m benchmarks.hosted.forks ours|obvious
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import signal
import sys
from collections.abc import Callable

from benchmarks.hosted.obvious_side import load_obvious
from benchmarks.hosted.tuneyard_side import load_ours

LOADS = {"ours": load_ours, "obvious": load_obvious}


def fork_workers(serve: Callable[[], None]) -> None:
    """Fork a worker for every line that comes in, and tell its process id."""
    for _ in sys.stdin:
        bury()
        child = os.fork()
        if child == 0:
            faulthandler.enable()
            os.dup2(os.open(os.devnull, os.O_RDWR), 1)
            serve()
            os._exit(0)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


def bury() -> None:
    """Take note of the dead; one that was not killed is told of."""
    while True:
        try:
            child, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if child == 0:
            return
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            sys.stderr.write(f"worker {child} ended by itself: {os.waitstatus_to_exitcode(status)}\n")


def load_celery() -> None:
    """Load what a Celery worker loads when it starts."""
    for name in ("bin.celery", "apps.worker", "worker.components", "concurrency.thread"):
        importlib.import_module(f"celery.{name}")
    importlib.import_module("kombu.transport.redis")


if __name__ == "__main__":
    load_celery()
    fork_workers(LOADS[sys.argv[1]]())
