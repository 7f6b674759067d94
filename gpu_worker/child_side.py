"""The child's own side of `gpu_worker.child`: where it speaks, hears `stop`, and notices that its worker is dead."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_worker.card_faults import card_failed
from gpu_worker.disk_room import no_room
from queue_app.errors import Permanent, Transient, TuneyardError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

LOCK_SECONDS = 15.0  # for a predecessor whose worker was killed to die


class Stopped(Exception):
    """The child has done as it was asked: saved, and stopped."""


class Channel:
    """What a child says to its worker, and hears from it."""

    def __init__(self, fd: int, workdir: Path) -> None:
        self.workdir = workdir
        self._fd = fd
        self._lock = threading.Lock()
        self._has_ended = False
        self._stop = threading.Event()

    def progress(self, **values: float | int | str | None) -> None:
        """Show how far the work is; becomes the job's progress. Without values: a sign of life."""
        self._say({"progress": values})

    @property
    def stop_requested(self) -> bool:
        """Whether the work shall be saved and ended by `raise Stopped`."""
        return self._stop.is_set()

    def end(self, word: dict[str, Any]) -> None:
        """Say the last word; whatever comes after it is not said any more."""
        self._say(word, is_last=True)

    def fail(self, error: BaseException) -> None:
        """Make an error the last word."""
        self._fail(type(error), error, error.__traceback__)

    def _say(self, word: dict[str, Any], *, is_last: bool = False) -> None:
        line = json.dumps(word).encode() + b"\n"
        with self._lock:
            if self._has_ended:
                return
            self._has_ended = is_last
            while line:
                line = line[os.write(self._fd, line) :]

    def _fail(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        text = "".join(traceback.format_exception(kind, error, trace))
        error = no_room(error, self.workdir) or card_failed(error) or error
        word = {"kind": type(error).__name__, "message": str(error), "traceback": text}
        if isinstance(error, Permanent | Transient):
            word["cause"] = error.cause.value
        retry_after = error.retry_after if isinstance(error, Transient) else None
        known = isinstance(error, TuneyardError)
        self.end({"error": word | {"retry_after": retry_after, "known": known}})
        with suppress(OSError):  # the log may lie on a full disk
            sys.stderr.write(text)

    def _listen(self, control: int, buffered: bytes) -> None:
        """Wait for `stop`; the pipe's end means that the worker is gone, and then nothing may burn on."""
        while True:
            if b"stop" in buffered:
                self._stop.set()
            buffered = os.read(control, 4096)
            if not buffered:
                os.killpg(0, signal.SIGKILL)


def child_main(run: Callable[[dict[str, Any], Channel], dict[str, Any]], *, lock: str = "child.lock") -> None:
    """The whole of a child's `__main__`: call `run(config, channel)` and send the worker its result, or its error.

    `lock` is a file in the job's folder: of those that name the same one, one runs at a time.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
    control = _take_stdin()
    line, _, rest = _first_line(control).partition(b"\n")
    order = json.loads(line)
    os.set_inheritable(order["progress_fd"], False)
    channel = Channel(order["progress_fd"], Path(order["workdir"]))
    sys.excepthook = channel._fail  # a bug: the parent shows its traceback
    threading.Thread(target=channel._listen, args=(control, rest), daemon=True).start()
    try:
        with alone(channel.workdir / lock):
            word = {"result": run(order["config"], channel)}
    except Stopped:
        word = {"stopped": {}}
    channel.end(word)


def _take_stdin() -> int:
    """The pipe from the worker, out of the reach of libraries that read stdin."""
    control = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return control


def _first_line(control: int) -> bytes:
    text = b""
    while b"\n" not in text:
        chunk = os.read(control, 1 << 16)
        if not chunk:
            raise EOFError("the worker was gone before it said what to do")
        text += chunk
    return text


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the job's lock; a predecessor that is still dying is waited for.

    Raises:
        Transient: the predecessor lives on
    """
    with path.open("a") as file:
        give_up = time.monotonic() + LOCK_SECONDS
        while not _locked(file.fileno()):
            if time.monotonic() > give_up:
                raise Transient(f"an earlier process of this job still holds {path}; this one has not begun")
            time.sleep(0.1)
        yield


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
