"""What a yard prints: the lines of its processes and its own, each with the time and whose it is."""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from honcho.printer import Message, Printer

if TYPE_CHECKING:
    from queue_app.yard_process import YardProcess


class Output:
    """Standard output, which ends the yard when nobody reads it any more, and a full disk when it is a file does not.

    Lines that are lost are counted, and told of when one can be written again.
    """

    def __init__(self, width: int, *, colour: bool) -> None:
        self._printer = Printer(sys.stdout, width=width, colour=colour)
        self._unprinted = 0  # times that it could not be written since it last could

    def say(self, text: str, process: YardProcess | None = None) -> None:
        """A line of the yard's own."""
        self.show(text.encode(), process, mark="* ")

    def show(self, line: bytes, process: YardProcess | None, mark: str = "") -> None:
        """A line of a process, as it came."""
        name, colour = (process.name, process.colour) if process else ("yard", None)
        now = datetime.now(UTC).astimezone()
        try:
            self._printer.write(Message("line", mark + line.decode(errors="replace"), now, name, colour))
        except BrokenPipeError:  # nobody reads any more, as in `tuneyard up | head`
            _forget_stdout()
            os.kill(os.getpid(), signal.SIGTERM)
        except OSError:  # its file is on a full disk: no reason to end a training
            self._unprinted += 1
        else:
            self._own_up()

    def _own_up(self) -> None:
        times, self._unprinted = self._unprinted, 0
        if times:
            self.say(f"the output could not be written {times} times; lines may be missing above")

    def end(self) -> None:
        """Write what is left."""
        try:
            sys.stdout.flush()
        except OSError:  # the interpreter would try once more, and change the exit code
            _forget_stdout()


def _forget_stdout() -> None:
    """Let what is still to be written go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
