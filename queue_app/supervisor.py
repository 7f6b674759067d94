"""`tuneyard up`: the processes of the Procfile, kept alive, and ended in order.

One loop in one thread waits for output, for signals and for the clock. Each process leads a family of its own; one
that ends is started again after a pause, one SIGINT or SIGTERM ends them all, the broker last, and a watchdog does the
same if the supervisor is killed (`process_family` says what it covers).
"""

from __future__ import annotations

import os
import selectors
import shlex
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from queue_app import process_family
from queue_app.errors import Permanent, Transient, TuneyardError
from queue_app.process_family import Family, end_in_order, yard_mark
from queue_app.yard_home import Report, locked
from queue_app.yard_output import Output

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from queue_app.yard import Yard
    from queue_app.yard_process import YardProcess

STOPPED, STOPPED_HARD = 0, 130
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
READY_LOOK_SECONDS = 0.1


def run_yard(yard: Yard) -> int:
    """Run the yard until it is told to stop; 0, or 130 after a second Ctrl-C.

    To be called in the main thread, for it takes the signals. `home/yard.json` says what runs, while it does.

    Raises:
        Invalid: the Procfile cannot be used, or a yard runs in this home already
        Permanent: nothing can be written there; a disk that fills up later stops nothing
        TuneyardError: what `ready` raised; everything has been ended before
    """
    processes = yard.processes()
    yard.home.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        lock = stack.enter_context(locked(yard.home))
        Family(0, yard_mark(yard.home)).kill()  # what outlived an earlier yard together with its watchdog
        alarm = stack.enter_context(_signals_as_bytes())
        return _Supervisor(yard, processes, alarm, lock).run()


class _Supervisor:
    def __init__(self, yard: Yard, processes: Sequence[YardProcess], alarm: int, lock: int) -> None:
        self._yard = yard
        self._first = [p for p in processes if p.line == yard.first]
        self._rest = [p for p in processes if p.line != yard.first]
        self._lock = lock
        self._alarm = alarm
        self._selector = selectors.DefaultSelector()
        self._selector.register(alarm, selectors.EVENT_READ)
        width = max(len(p.name) for p in processes)
        self._output = Output(width, colour="NO_COLOR" not in yard.env)
        self._report = Report(yard.home, self._output.say)
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._ready_deadline: float | None = None  # monotonic; None once the broker has answered
        self._stop_deadline: float | None = None  # monotonic; None until told to stop
        self._ending: list[YardProcess] = []
        self._interrupts = 0
        self._failure: TuneyardError | None = None

    def run(self) -> int:
        try:
            self._tell()
            if self._report.due is not None:  # the watchdog would not know what to end
                raise Permanent(f"{self._yard.home} cannot be written; free some space, or set TUNEYARD_HOME elsewhere")
            self._keep_watchdog()
            self._ready_deadline = time.monotonic() + self._yard.pace.ready_seconds
            for process in self._first:
                self._start(process)
            while self._stop_deadline is None or self._ending:
                self._turn()
        finally:
            self._leave_nothing()
        if self._failure is not None:
            raise self._failure
        return STOPPED_HARD if self._interrupts > 1 else STOPPED

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._seconds_to_next()):
            if key.fileobj == self._alarm:
                self._hear()
            else:
                self._read(key.data)
        for process in self._living():
            self._look_after(process)
        if self._report.due is not None and self._report.due <= time.monotonic():
            self._tell()
        if self._stop_deadline is not None:
            self._go_on_stopping(self._stop_deadline)
            return
        self._keep_watchdog()
        self._await_first()
        for process in [*self._first, *self._rest]:
            if process.due is not None and process.due <= time.monotonic():
                self._start(process)

    def _seconds_to_next(self) -> float | None:
        now = time.monotonic()
        if self._stop_deadline is not None:
            return max(0.0, self._stop_deadline - now)
        times = [p.due for p in [*self._first, *self._rest] if p.due is not None]
        if self._ready_deadline is not None:
            times.append(now + READY_LOOK_SECONDS)
        if self._report.due is not None:
            times.append(self._report.due)
        return max(0.0, min(times) - now) if times else None

    def _living(self) -> list[YardProcess]:
        return [p for p in [*self._first, *self._rest] if p.popen is not None]

    # starting and keeping alive

    def _await_first(self) -> None:
        if self._ready_deadline is None:
            return
        try:
            self._yard.ready()
        except TuneyardError as error:
            if not isinstance(error, Transient) or time.monotonic() >= self._ready_deadline:
                self._failure = error
                self._begin_to_stop(f"{self._yard.first} is not ready")
            return
        self._ready_deadline = None
        for process in self._rest:
            self._start(process)

    def _start(self, process: YardProcess) -> None:
        try:
            process.start(self._yard.environment_of(process))
        except OSError as error:
            self._output.say(
                f'cannot run "{shlex.join(process.command)}": {error.strerror}; {_again(process)}', process
            )
        else:
            self._selector.register(process.output, selectors.EVENT_READ, process)
            if process.starts > 1:
                self._output.say(f"started again (start {process.starts})", process)
        self._tell()

    def _look_after(self, process: YardProcess) -> None:
        if process.popen is None or process.popen.poll() is None:
            return
        for line in process.read_last_lines():
            self._output.show(line, process)
        self._forget_output(process)
        left = len(process.family.living())
        process.family.kill()
        end = process.bury() + (f", and {left} it had left behind with it" if left else "")
        self._output.say(end if self._stop_deadline is not None else f"{end}; {_again(process)}", process)
        self._tell()

    def _keep_watchdog(self) -> None:
        if self._watchdog is not None and self._watchdog.poll() is None:
            return
        # -S: it needs the standard library alone. The lock stays taken until it has done its work.
        grace = str(self._yard.pace.grace_seconds)
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", "-S", process_family.__file__, str(self._yard.home.absolute()), grace],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(self._lock,),
        )

    # stopping

    def _hear(self) -> None:
        for number in os.read(self._alarm, 512):
            if number not in STOP_SIGNALS:
                continue
            self._interrupts += number == signal.SIGINT
            if self._stop_deadline is None:
                self._begin_to_stop(f"{signal.Signals(number).name}: stopping; Ctrl-C twice ends everything at once")
            elif self._interrupts > 1:
                self._stop_deadline = 0.0

    def _begin_to_stop(self, why: str) -> None:
        self._output.say(why)
        self._ending = [p for p in self._rest if p.popen is not None]
        self._stop_deadline = time.monotonic() + self._yard.pace.grace_seconds
        for process in self._ending:
            process.family.ask_to_end()
        if not self._ending:
            self._begin_to_stop_first()

    def _begin_to_stop_first(self) -> None:
        self._ending = [p for p in self._first if p.popen is not None]
        if self._interrupts <= 1:
            self._stop_deadline = time.monotonic() + self._yard.pace.last_grace_seconds
        for process in self._ending:
            process.family.ask_to_end()

    def _go_on_stopping(self, deadline: float) -> None:
        if time.monotonic() >= deadline:
            for process in self._ending:
                self._kill(process)
        was_first = any(p in self._first for p in self._ending)
        self._ending = [p for p in self._ending if p.popen is not None]
        if not self._ending and not was_first:
            self._begin_to_stop_first()

    def _kill(self, process: YardProcess) -> None:
        if process.popen is None:
            return
        self._output.say("killed", process)
        process.family.kill()
        try:
            process.popen.wait(process_family.LAST_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._output.say(f"process {process.popen.pid} does not end even so; the kernel holds it", process)
            process.popen = None
            return
        self._look_after(process)

    def _leave_nothing(self) -> None:
        rest = [p.family for p in self._rest if p.popen is not None]
        end_in_order([*rest, *(p.family for p in self._first if p.popen is not None)], None, 0.0)
        Family(0, yard_mark(self._yard.home)).kill()
        self._report.remove()
        if self._watchdog is not None and self._watchdog.stdin is not None:
            self._watchdog.stdin.close()
            self._watchdog.wait()
        self._selector.close()
        self._output.end()

    # telling

    def _read(self, process: YardProcess) -> None:
        lines = process.read_lines()
        if lines is None:
            self._forget_output(process)
        for line in lines or ():
            self._output.show(line, process)

    def _forget_output(self, process: YardProcess) -> None:
        if process.output in self._selector.get_map():
            self._selector.unregister(process.output)

    def _tell(self) -> None:
        self._report.write(self._picture())

    def _picture(self) -> dict[str, Any]:
        processes = {
            p.name: {"pid": p.popen.pid, "starts": p.starts, "seconds": round(time.monotonic() - p.started, 1)}
            for p in self._living()
            if p.popen is not None
        }
        return {"pid": os.getpid(), "started_at": self._started_at, "last": self._yard.first, "processes": processes}


def _again(process: YardProcess) -> str:
    return f"starts again in {process.schedule():g} s"


@contextmanager
def _signals_as_bytes() -> Iterator[int]:
    """A descriptor from which each signal can be read as a byte."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    heard = [s for s in STOP_SIGNALS if signal.getsignal(s) != signal.SIG_IGN or s != signal.SIGHUP]  # nohup stays
    before = {s: signal.signal(s, lambda *_: None) for s in (*heard, signal.SIGCHLD)}
    wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield read
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(read)
        os.close(write)
