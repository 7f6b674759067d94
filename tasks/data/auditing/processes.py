"""Pieces of work in processes of their own, as many at once as there are cores for them.

A process is a fresh interpreter that runs `piece`; whatever script the parent was started by is not run again in it.

Covered: a piece that raises, a process that dies, one that never begins, one that hangs before, between or after its
signs of life, an interruption (every process is killed before it goes on), a Ctrl-C to the whole group (the parent's to
answer), a parent that is killed (a piece ends at its next sign of life, which nobody reads any more). Not covered: a
process that is stopped in the middle of a word, and a piece that hangs where there is one process only: it runs in the
caller's.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING

from queue_app.errors import Transient
from queue_app.lifecycle import Cause
from tasks.data.auditing.piece import Done, Work, do

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

Look = Callable[[Mapping[str, int]], object]  # told each piece's examples; may raise to end everything

LOOK_SECONDS = 1.0
START_SECONDS = 120.0  # for an interpreter to start and to import what its piece needs
SILENT_SECONDS = 1800.0  # a part speaks every thousand rows, and last when it begins to compare what it has read
EXIT_SECONDS = 5.0  # for a process to end once it has said what it found


def run_side_by_side(
    pieces: Mapping[str, Work], processes: int, look: Look, *, silent_seconds: float = SILENT_SECONDS
) -> dict[str, Done]:
    """Every piece done, the first ones started first.

    Raises:
        TuneyardError: as a piece of work or `look` does
        Transient: a process died, did not begin, or said nothing for `silent_seconds`
        Crashed: a piece of work has a bug
    """
    if processes == 1:
        return _one_after_the_other(pieces, look)
    pool = _Pool(pieces, look, silent_seconds)
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

        done[name] = do(work, tick)
    return done


class _Pool:
    """The processes that are running, by the pipes they speak through."""

    def __init__(self, pieces: Mapping[str, Work], look: Look, silent_seconds: float) -> None:
        self.waiting = dict(pieces)
        self.look = look
        self.silent_seconds = silent_seconds
        self.running: dict[Connection, tuple[str, subprocess.Popen[bytes]]] = {}
        self.heard: dict[str, float] = {}  # when each was heard last, or started; monotonic seconds
        self.examples: dict[str, int] = {}  # of those that have begun
        self.done: dict[str, Done] = {}

    def run(self, processes: int) -> dict[str, Done]:
        while self.waiting or self.running:
            while self.waiting and len(self.running) < processes:
                self._start(next(iter(self.waiting)))
            for pipe in wait(list(self.running), LOOK_SECONDS):
                self._hear(pipe)  # type: ignore[arg-type]  # what was given comes back
            self.look(self.examples)
            self._refuse_silence()
        return self.done

    def _start(self, name: str) -> None:
        ours, theirs = Pipe(duplex=False)
        # -P, and the parent's places: what the parent has imported is what is imported there
        command = [sys.executable, "-P", "-m", "tasks.data.auditing", str(theirs.fileno())]
        places = os.pathsep.join(str(Path(place).absolute()) for place in sys.path)
        with theirs, tempfile.TemporaryFile() as work, _deaf_to_interrupts():
            pickle.dump(self.waiting.pop(name), work)
            work.seek(0)
            environment = os.environ | {"PYTHONPATH": places}
            process = subprocess.Popen(command, stdin=work, env=environment, pass_fds=[theirs.fileno()])
            self.running[ours] = name, process  # before anything can interrupt: what runs is what is killed
            self.heard[name] = time.monotonic()

    def _hear(self, pipe: Connection) -> None:
        name, process = self.running[pipe]
        self.heard[name] = time.monotonic()
        try:
            word = pipe.recv()
        except EOFError:
            status = process.wait()
            raise Transient(
                f"the process for {name} died (exit status {status}); was it killed for its memory?", cause=Cause.LOST
            ) from None
        if isinstance(word, int):
            self.examples[name] = word
            return
        if isinstance(word, BaseException):
            raise word
        self.done[name] = word
        try:
            process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        pipe.close()
        del self.running[pipe]

    def _refuse_silence(self) -> None:
        now = time.monotonic()
        for name, _ in self.running.values():
            silence = now - self.heard[name]
            if name not in self.examples and silence > START_SECONDS:
                raise Transient(
                    f"the process for {name} has not begun within {START_SECONDS:g} s, and was ended; has the machine "
                    "memory left?",
                    cause=Cause.LOST,
                )
            if name in self.examples and silence > self.silent_seconds:
                raise Transient(
                    f"the process for {name} has said nothing for {self.silent_seconds:g} s, after "
                    f"{self.examples[name]:,} examples, and was ended; if it was only slow, raise silent_seconds",
                    cause=Cause.LOST,
                )

    def kill(self) -> None:
        """End what still runs; nothing is left of it when this returns."""
        for pipe, (_, process) in self.running.items():
            process.kill()
            process.wait()
            pipe.close()


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """SIGINT waits; a process started meanwhile never hears one, from its very first instruction."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
