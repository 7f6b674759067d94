"""A process with all it has started, and the watchdog that ends the families of a yard whose supervisor is gone.

The watchdog is this file run on its own, so it imports the standard library only. Its standard input is a pipe that
the supervisor alone can write to: when that ends, the supervisor has.

Covered: the supervisor's death by any signal at any moment; descendants in sessions of their own and those of a dead
leader (on Linux, by the mark in their environment; elsewhere the leader's process group only). Not covered: a
descendant that erases its environment and leaves the group; the watchdog killed together with the supervisor – what
then lives on is ended when the next yard starts in the same home, again by its mark.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MARK = "YARD_FAMILY"  # environment variable: home of the yard, "#", name of the process
PROC = Path("/proc")
LOOK_SECONDS = 0.05
LAST_GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class Family:
    """The process `leader`, its group, and all that carry `mark` in their environment.

    A mark that ends with "#" stands for a whole yard, and `leader` 0 for nobody.
    """

    leader: int
    mark: str

    def living(self) -> set[int]:
        """Process ids, zombies left out."""
        if not (PROC / "self").exists():
            return {self.leader} if _signal(-self.leader, 0) else set()
        return {pid for pid, group in _processes() if (group == self.leader and group) or self._carries_mark(pid)}

    def ask_to_end(self) -> None:
        """SIGTERM to the leader; it knows what to do with its children."""
        if self.leader:
            _signal(self.leader, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL until nobody is left, for they may fork meanwhile."""
        deadline = time.monotonic() + LAST_GRACE_SECONDS
        while (living := self.living()) and time.monotonic() < deadline:
            for pid in living:
                _signal(pid, signal.SIGKILL)
            if self.leader in living:
                _signal(-self.leader, signal.SIGKILL)
            time.sleep(LOOK_SECONDS / 10)

    def _carries_mark(self, pid: int) -> bool:
        wanted = os.fsencode(f"{MARK}={self.mark}")
        try:
            environment = (PROC / str(pid) / "environ").read_bytes()
        except OSError:  # it has just ended, or is another user's
            return False
        whole_yard = self.mark.endswith("#")
        return any(v.startswith(wanted) if whole_yard else v == wanted for v in environment.split(b"\0"))


def yard_mark(home: Path) -> str:
    """The beginning of the mark of every process of the yard in `home`."""
    return f"{home.absolute()}#"


def end_in_order(families: Sequence[Family], last: Family | None, grace_seconds: float) -> None:
    """Ask all but `last` to end, kill who has not within the grace, then do the same with `last`."""
    for group in (families, [last] if last else []):
        for family in group:
            family.ask_to_end()
        deadline = time.monotonic() + (grace_seconds if group is families else LAST_GRACE_SECONDS)
        while time.monotonic() < deadline and any(family.living() for family in group):
            time.sleep(LOOK_SECONDS)
        for family in group:
            family.kill()


def _processes() -> Iterator[tuple[int, int]]:
    """Id and process group of what runs."""
    for folder in PROC.iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(OSError):  # it has just ended
            state, _parent, group = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[:3]
            if state not in "ZX":
                yield int(folder.name), int(group)


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _watch(home: Path, grace_seconds: float) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # whoever stops the yard may mean the whole terminal
    sys.stdin.buffer.read()
    report = home / "yard.json"
    if not report.exists():  # the supervisor has tidied up itself
        return
    yard = json.loads(report.read_text())
    families = {name: Family(process["pid"], f"{yard_mark(home)}{name}") for name, process in yard["processes"].items()}
    last = next((families.pop(name) for name in list(families) if name.startswith(f"{yard['last']}.")), None)
    end_in_order([*families.values()], last, grace_seconds)
    Family(0, yard_mark(home)).kill()
    report.unlink(missing_ok=True)


if __name__ == "__main__":
    _watch(Path(sys.argv[1]), float(sys.argv[2]))
