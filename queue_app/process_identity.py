"""Who a process is, so that its death is known at once to others on its host, and to nobody by mistake.

An identity is the boot of the machine, the process's namespace, its number and the moment it started. Linux alone tells
these; elsewhere there is none, and the lease has to run out.
"""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")
GONE = "ZX"  # the states of a process that has ended and was not asked after yet


def own_identity() -> str | None:
    """That of this process; None: this system does not tell."""
    place, found = _place(), _started(os.getpid())
    return f"{place}/{os.getpid()}/{found}" if place and found else None


def has_died(identity: str) -> bool:
    """Whether that process is certainly dead; of one on another host, or not seen from here, nothing is certain."""
    place, pid, started = identity.rsplit("/", 2)
    if place != _place():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # somebody else's, and maybe not to be seen
        pass
    found = _started(int(pid))
    return found is not None and found != started


def _place() -> str | None:
    try:
        boot = (PROC / "sys" / "kernel" / "random" / "boot_id").read_text().strip()
        return f"{boot}/{(PROC / 'self' / 'ns' / 'pid').readlink()}"
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """When it started, in clock ticks since the boot, or that it has ended; None: it cannot be seen."""
    try:
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return "ended" if fields[0] in GONE else fields[19]
