"""Pieces of work in processes of their own, as many at once as there are cores for them.

Covered: a piece that raises, a process that dies, an interruption (every process is killed before it goes on), a
parent that is killed (a piece ends at its next sign of life, which nobody reads any more).
"""

from __future__ import annotations

import resource
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from queue_app.errors import Transient, TuneyardError
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess
    from types import TracebackType

Tick = Callable[[int], None]  # told how many examples are done
Work = Callable[[Tick], Any]  # can be pickled where it runs in a process of its own
Look = Callable[[Mapping[str, int]], object]  # told each piece's examples; may raise to end everything

LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Done:
    """What a piece of work returned, and what it cost."""

    result: Any
    seconds: float
    peak_rss_mib: float  # of its process


class Crashed(RuntimeError):
    """A bug in a piece of work; its traceback is its note."""


def run_side_by_side(pieces: Mapping[str, Work], processes: int, look: Look) -> dict[str, Done]:
    """Every piece done, the first ones started first.

    Raises:
        TuneyardError: as a piece of work or `look` does
        Crashed: a piece of work has a bug
    """
    if processes == 1:
        return _one_after_the_other(pieces, look)
    pool = _Pool(pieces, look)
    try:
        return pool.run(processes)
    finally:
        pool.kill()


def _one_after_the_other(pieces: Mapping[str, Work], look: Look) -> dict[str, Done]:
    examples: dict[str, int] = {}
    done: dict[str, Done] = {}
    for name, work in pieces.items():

        def tick(count: int, name: str = name) -> None:
            examples[name] = count
            look(examples)

        done[name] = _do(work, tick)
    return done


class _Pool:
    """The processes that are running, by the pipes they speak through."""

    def __init__(self, pieces: Mapping[str, Work], look: Look) -> None:
        self.waiting = dict(pieces)
        self.look = look
        self.running: dict[Connection, tuple[str, SpawnProcess]] = {}
        self.examples: dict[str, int] = {}
        self.done: dict[str, Done] = {}

    def run(self, processes: int) -> dict[str, Done]:
        while self.waiting or self.running:
            while self.waiting and len(self.running) < processes:
                self._start(next(iter(self.waiting)))
            for pipe in wait(list(self.running), LOOK_SECONDS):
                self._hear(pipe)  # type: ignore[arg-type]  # what was given comes back
            self.look(self.examples)
        return self.done

    def _start(self, name: str) -> None:
        context = get_context("spawn")  # a fork would copy the threads' locks
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_child, args=(self.waiting.pop(name), theirs), name=name, daemon=True)
        self.running[ours] = name, process
        process.start()
        theirs.close()

    def _hear(self, pipe: Connection) -> None:
        name, process = self.running[pipe]
        try:
            word = pipe.recv()
        except EOFError:
            process.join()
            raise Transient(
                f"the process for {name} died (exit status {process.exitcode}); was it killed for its memory?",
                cause=Cause.LOST,
            ) from None
        if isinstance(word, int):
            self.examples[name] = word
            return
        if isinstance(word, BaseException):
            raise word
        self.done[name] = word
        process.join()
        pipe.close()
        del self.running[pipe]

    def kill(self) -> None:
        """End what still runs; nothing is left of it when this returns."""
        for pipe, (_, process) in self.running.items():
            if process.pid is not None:
                process.kill()
                process.join()
            pipe.close()


def _child(work: Work, pipe: Connection) -> None:
    with _Honest(pipe):
        pipe.send(_do(work, pipe.send))


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
        if not isinstance(error, TuneyardError):
            trace = "".join(traceback.format_exception(error))
            error = Crashed(f"{type(error).__name__}: {error}")
            error.add_note(trace)
        self.pipe.send(error)
        return True


def _do(work: Work, tick: Tick) -> Done:
    started = time.monotonic()
    result = work(tick)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
    return Done(result, round(time.monotonic() - started, 2), round(peak, 1))
