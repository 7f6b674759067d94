"""One piece of work, and the process that does it for `processes`: told by its standard input, heard by a pipe."""

from __future__ import annotations

import pickle
import resource
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from queue_app.errors import TuneyardError

if TYPE_CHECKING:
    from types import TracebackType

Tick = Callable[[int], None]  # told how many examples are done
Work = Callable[[Tick], Any]  # can be pickled where it runs in a process of its own


@dataclass(frozen=True)
class Done:
    """What a piece of work returned, and what it cost."""

    result: Any
    seconds: float
    peak_rss_mib: float  # of its process


class Crashed(RuntimeError):
    """A bug in a piece of work; its traceback is its note."""


def do(work: Work, tick: Tick) -> Done:
    """Do it here and now."""
    started = time.monotonic()
    result = work(tick)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
    return Done(result, round(time.monotonic() - started, 2), round(peak, 1))


def serve(descriptor: int) -> None:
    """Do what stands pickled on the standard input; the first word to the parent is that it has begun."""
    pipe = Connection(descriptor, readable=False)
    with _Honest(pipe):
        work: Work = pickle.load(sys.stdin.buffer)
        pipe.send(0)
        pipe.send(do(work, pipe.send))


class _Honest:
    """Tells the parent of the error that ends a piece of work."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _at: TracebackType | None
    ) -> bool:
        if error is None or isinstance(error, BrokenPipeError):  # nobody listens any more
            return True
        if not isinstance(error, TuneyardError) and not _is_told_by_itself(error):
            trace = "".join(traceback.format_exception(error))
            error = Crashed(f"{type(error).__name__}: {error}")
            error.add_note(trace)
        self.pipe.send(error)
        return True


def _is_told_by_itself(error: BaseException) -> bool:
    """Whether the machine refused something, which is no bug: whoever runs jobs has words for it."""
    from queue_app.artifacts import NO_ROOM  # not before it is needed: a process for each piece starts without

    return isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno in NO_ROOM)
