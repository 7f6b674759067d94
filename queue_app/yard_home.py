"""A yard's home folder: the lock that one yard at a time holds there, and `yard.json`, which says what runs."""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from queue_app.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

AGAIN_SECONDS = 1.0  # after yard.json could not be written


@contextmanager
def locked(home: Path) -> Iterator[int]:
    """Hold the home's lock; the descriptor that holds it, for whoever shall hold it longer.

    Raises:
        Invalid: a yard runs there
    """
    lock = os.open(home / "yard.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield lock
    except BlockingIOError as error:
        raise Invalid(_who_runs(home)) from error
    finally:
        os.close(lock)


def runs_in(home: Path) -> bool:
    """Whether a yard runs in this home: its lock is held, not only its file left behind."""
    if not (home / "yard.json").exists():
        return False
    try:
        with (home / "yard.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:  # somebody has tidied up by hand
        return False
    return False


def _who_runs(home: Path) -> str:
    try:
        pid = int(json.loads((home / "yard.json").read_text())["pid"])
        os.kill(pid, 0)
    except (OSError, ValueError):
        return f"the yard in {home} is just being ended; try again in some seconds"
    return (
        f"a yard already runs in {home} (pid {pid}); stop it with `kill {pid}`, or set TUNEYARD_HOME to another folder"
    )


class Report:
    """`yard.json`: while it cannot be written, the old one stays and is tried again."""

    def __init__(self, home: Path, say: Callable[[str], None]) -> None:
        self._path = home / "yard.json"
        self._say = say
        self.due: float | None = None  # monotonic; None: it says what runs

    def write(self, picture: Mapping[str, Any]) -> None:
        """Say what runs."""
        fresh = self._path.with_suffix(".json.new")
        try:
            fresh.write_text(json.dumps(picture, indent=1))
            fresh.replace(self._path)
        except OSError as error:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)
            if self.due is None:
                said = f"{self._path} cannot be written ({error.strerror}); free some space"
                self._say(f"{said}, the yard goes on meanwhile")
            self.due = time.monotonic() + AGAIN_SECONDS
            return
        if self.due is not None:
            self.due = None
            self._say(f"{self._path} says again what runs")

    def remove(self) -> None:
        """Nothing runs any more."""
        self._path.unlink(missing_ok=True)
