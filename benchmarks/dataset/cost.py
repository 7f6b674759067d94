"""What a process costs: a command run on so many cores, as the kernel counted it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SETTING = {"COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": ""}  # modules are compiled once, as they are where installed
CALL = "import sys; from queue_app.cli import main; main()"


@dataclass(frozen=True)
class Cost:
    """What a process took, as the kernel counted it."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    output: str

    @property
    def shown(self) -> str:
        return f"{self.seconds:.1f} s, {self.cpu_seconds:.1f} CPU s, {self.peak_mib:.0f} MiB"


def run(command: list[str], cores: int, home: Path) -> Cost:
    """Run a command on so many cores and wait for it."""
    home.mkdir(exist_ok=True)
    taken = sorted(os.sched_getaffinity(0))[:cores]
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(
            ["taskset", "-c", ",".join(map(str, taken)), *command],
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=home,
            env={**os.environ, **SETTING, "PYTHONPATH": str(ROOT), "TUNEYARD_HOME": str(home)},
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read()
    if process.returncode not in (0, 2):  # 2: a gate said no, which is what planted data is for
        sys.exit(f"{' '.join(command[:8])}…: exit code {process.returncode}\n{text[-2000:]}")
    seconds = time.perf_counter() - began
    return Cost(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, text)


def tuneyard(*words: str) -> list[str]:
    """`tuneyard data …`, as a user types it."""
    return [sys.executable, "-c", CALL, "data", *words]
