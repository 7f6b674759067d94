"""An attempt that a test commands, and small programs to run as its child: `python -m tests.gpu_worker.stand_in`."""

from __future__ import annotations

import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import psutil
from safetensors.numpy import save_file

from gpu_worker.child import Channel, Stopped, child_main, run_child
from queue_app.errors import Permanent, Transient
from queue_app.lifecycle import Cause
from queue_app.shelf import Shelf
from settings import Settings, TrainingSettings

if TYPE_CHECKING:
    from queue_app.at_account import AtAccount
    from queue_app.store import Ancestor

T = TypeVar("T")
MODULE = "tests.gpu_worker.stand_in"
ERRORS = {
    "permanent": Permanent("too large", cause=Cause.OOM),
    "transient": Transient("come back later", retry_after=7.5),
    "bug": ZeroDivisionError("one over nothing"),
    "launch": RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be reported later"),
    "assert": RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be reported later"),
}


@dataclass
class ShelfAlone:
    """An artifact store of which a child's worker needs the shelf alone."""

    shelf: Shelf

    def resolve(self, ref: str) -> Path:
        raise NotImplementedError(f"a child has no business with {ref}")

    def publish(self, path: Path, *, kind: str, name: str | None = None) -> str:
        raise NotImplementedError(f"a child publishes no {kind}")

    def lineage(self) -> list[Ancestor]:
        raise NotImplementedError("a child has no lineage")


@dataclass
class StandIn:
    """An `Attempt` without a store: `heed` sees every report and may raise as the real one does."""

    workdir: Path
    heed: Callable[[dict[str, Any]], object] = lambda progress: None
    stall_margin_seconds: float = 60.0
    number: int = 1
    artifacts_url: str = ""
    cards: tuple[str, ...] | None = None
    reports: list[dict[str, Any]] = field(default_factory=list)
    job_id = "stand-in"
    log = logging.getLogger("stand-in")

    @property
    def settings(self) -> Settings:
        return Settings(training=TrainingSettings(stall_margin_seconds=self.stall_margin_seconds))

    @property
    def artifacts(self) -> ShelfAlone:
        return ShelfAlone(Shelf(self.artifacts_url or str(self.workdir.parent / "artifacts"), self.job_id))

    def at(self, account: str) -> AtAccount:
        raise NotImplementedError(f"a child has no business at {account}")

    def recall(self, step: str) -> Any:
        raise NotImplementedError(f"a child remembers no {step}")

    def once(self, step: str, action: Callable[[str], T], **_: Any) -> T:
        return action(step)

    def report(self, **progress: float | int | str | None) -> None:
        if progress:
            self.reports.append(progress)
        self.heed(progress)

    def last(self, name: str) -> Any:
        """The newest value that was reported under a name."""
        return next((report[name] for report in reversed(self.reports) if name in report), None)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and waits to be buried does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _act(config: dict[str, Any], channel: Channel) -> dict[str, Any]:
    match config["act"]:
        case "count":
            return _count(config["steps"], channel)
        case "environment":
            Path(tempfile.mkdtemp(), "left behind").touch()
            return dict(os.environ)
        case "fill the disk":
            _fill(config["writer"], channel.workdir / "large")
        case "raise":
            raise ERRORS[config["error"]]
        case "family":
            nobody = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            channel.progress(child=os.getpid(), grandchild=nobody.pid)
            time.sleep(600)
        case "obey":
            _obey(channel)
        case "hog":
            _hog()
        case "wind down":
            _obey(channel, beats=10)
        case "exit":
            os.write(2, config.get("last_words", "").encode())
            os._exit(config["status"])
    return {}


def _count(steps: int, channel: Channel) -> dict[str, Any]:
    for step in range(1, steps + 1):
        channel.progress(step=step)
    print("counted")  # noqa: T201 - what libraries print belongs in the log
    return {"steps": steps}


def _obey(channel: Channel, beats: int = 0) -> None:
    """Stop when asked to, after so many signs of life."""
    channel.progress(child=os.getpid())
    while not channel.stop_requested:
        time.sleep(0.01)
    for _ in range(beats):
        time.sleep(0.2)
        channel.progress()
    raise Stopped


def _hog() -> None:
    """Take memory until there is none."""
    held = []
    while True:
        held.append(bytearray(16 * 2**20))


def _fill(writer: str, path: Path) -> None:
    """Write more than the disk is allowed to take, each time in another library's way."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    if writer == "torch":
        import torch

        torch.save(torch.zeros(10_000), path)
    elif writer == "safetensors":
        save_file({"zeros": np.zeros(10_000)}, path)
    else:
        path.write_bytes(bytes(10_000))
        with path.open("rb+") as file:  # the first write was cut off; the next one has nowhere to go
            file.seek(4096)
            file.write(b"more")


def be_a_worker(workdir: Path, act: str, group: Path | None = None) -> None:
    """Run a child, in a control group, and write what it reports and how it fails to files; or be killed meanwhile."""
    if group is not None:
        (group / "cgroup.procs").write_text(str(os.getpid()))
    attempt = StandIn(workdir)
    attempt.heed = lambda progress: (workdir / "reports").write_text(json.dumps(attempt.reports))
    try:
        run_child(attempt, MODULE, {"act": act})
    except Permanent as error:
        (workdir / "failure").write_text(f"{error.cause}: {error}")


if __name__ == "__main__":
    if sys.argv[1:]:
        be_a_worker(Path(sys.argv[1]), sys.argv[2], *map(Path, sys.argv[3:]))
    else:
        child_main(_act)
