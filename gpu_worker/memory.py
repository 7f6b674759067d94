"""How much memory this process has taken, how much a child of it may take, and whether one was killed for it."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")
MEMINFO = Path("/proc/meminfo")
CGROUPS = Path("/sys/fs/cgroup")
NO_LIMIT = 2**60  # what cgroup v1 says where there is none is larger than that


def peak_rss_mib() -> float:
    """The largest resident set of this process in MiB.

    On Linux the kernel's high-water mark of this program: getrusage's also counts the program it was started from.
    """
    if STATUS.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
        if found:
            return round(int(found[1]) / 1024, 1)
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(largest / (2**20 if sys.platform == "darwin" else 1024), 1)


def peak_child_rss_mib() -> float:
    """The largest resident set of any child that has ended, in MiB; a copy of this process counts as one."""
    return round(
        resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024), 1
    )


def memory_limit_bytes() -> int | None:
    """The most that a child may ever take: the RAM, or the limit of its control group or process; None: not told."""
    limits = [_meminfo("MemTotal"), *(limit for limit, _ in _groups()), *_own_limits()]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


def memory_free_bytes() -> int | None:
    """What a child could take now without anybody giving way but the cache of files; None: not told."""
    free = [_meminfo("MemAvailable"), *(limit - used for limit, used in _groups()), *_own_limits()]
    known = [size for size in free if size is not None]
    return max(0, min(known)) if known else None


def oom_kills() -> int:
    """How often the kernel killed for memory in the control group of this process; 0 where it keeps no count.

    Source: the Linux kernel's documentation of cgroup v2 (`memory.events`) and v1 (`memory.oom_control`).
    """
    counts = 0
    for controllers, path in _memberships():
        root = CGROUPS if controllers == "" else CGROUPS / "memory"
        seen = root / path.lstrip("/")
        told = (seen if seen.is_dir() else root) / ("memory.events" if controllers == "" else "memory.oom_control")
        found = re.search(r"^oom_kill (\d+)$", told.read_text(), re.MULTILINE) if told.is_file() else None
        counts += int(found[1]) if found else 0
    return counts


def _meminfo(name: str) -> int | None:
    if not MEMINFO.exists():
        return None
    found = re.search(rf"{name}:\s+(\d+) kB", MEMINFO.read_text())
    return int(found[1]) * 1024 if found else None


def _own_limits() -> list[int]:
    """What `ulimit` allows; a child inherits it."""
    limits = (resource.getrlimit(which)[0] for which in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
    return [limit for limit in limits if limit != resource.RLIM_INFINITY]


def _groups() -> list[tuple[int, int]]:
    """(limit, what is used of it beside the cache of files) of every control group that this process is in.

    Source: the Linux kernel's documentation of cgroup v2 (`memory.max`) and v1 (`memory.limit_in_bytes`).
    """
    found: list[tuple[int, int]] = []
    for controllers, path in _memberships():
        if controllers == "":
            found += _up(CGROUPS, path, ("memory.max", "memory.current"), "inactive_file")
        else:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
            found += _up(CGROUPS / "memory", path, names, "total_inactive_file")
    return found


def _memberships() -> list[tuple[str, str]]:
    """(controllers, path) of the groups that may count memory: that of v2, which names no controllers, and v1's."""
    own = Path("/proc/self/cgroup")
    lines = own.read_text().splitlines() if own.exists() else []
    told = [tuple(line.split(":", 2)[1:]) for line in lines]
    return [(names, path) for names, path in told if names == "" or "memory" in names.split(",")]


def _up(root: Path, path: str, names: tuple[str, str], cache: str) -> list[tuple[int, int]]:
    """The groups from `path` up to the root; within a container the path may not be seen, then the root is ours."""
    folder = root / path.lstrip("/")
    chain = [folder, *folder.parents] if folder.is_dir() else [root]
    found = []
    for group in chain:
        if (group / names[0]).is_file() and (group / names[1]).is_file():
            limit = (group / names[0]).read_text().strip()
            if limit.isdigit() and int(limit) < NO_LIMIT:
                used = int((group / names[1]).read_text()) - _cached(group / "memory.stat", cache)
                found.append((int(limit), max(0, used)))
        if group == root:
            break
    return found


def _cached(stat: Path, name: str) -> int:
    found = re.search(rf"^{name} (\d+)$", stat.read_text(), re.MULTILINE) if stat.is_file() else None
    return int(found[1]) if found else 0
