"""A child process for heavy work: started in a session of its own, watched, and never left behind.

The parent writes one JSON line to the child's stdin and keeps that pipe open: `stop` on it asks the child to finish,
its end tells the child that the worker is gone. The child answers with JSON lines on a pipe of their own. stdout and
stderr belong to whatever library wants them and end in `logs/child.log`.

Covered: cancel, pause, release, deadline, lost lease, stall, a child that crashes or is killed, a worker that is
killed.
Not covered: a grandchild that makes itself a session of its own.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from gpu_worker.child_side import Channel, Stopped, child_main
from gpu_worker.memory import oom_kills
from gpu_worker.silent_death import ChildCrashed, crashed, explain_death
from queue_app import errors
from queue_app.cards import VISIBLE
from queue_app.errors import Paused, Permanent, Released, Transient
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from queue_app.job_type import Attempt

__all__ = ["Channel", "ChildCrashed", "Stopped", "child_main", "run_child"]

REPORT_SECONDS = 1.0  # between two questions whether the job shall go on
TERM_SECONDS = 3.0  # between SIGTERM and SIGKILL
KILL_SECONDS = 5.0  # between SIGKILL and the belief that it does not reach a process
EXIT_SECONDS = 15.0  # for an interpreter that has said its last word to wind down
START_MARGINS = 5  # stall margins a child may load and tokenise in silence, and work that knows no steps
STOP_SECONDS = 30.0  # to write a checkpoint, added to three median steps
SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL")

Progress = dict[str, Any]


def run_child(
    attempt: Attempt,
    module: str,
    config: dict[str, object],
    on_progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Run `python -m module` on `config` and return its result; its progress becomes the attempt's.

    On `Paused` and `Released` the child finishes its step and saves before it ends; on anything else its whole group is
    killed. Either way nothing of it is alive when this returns or raises.

    Raises:
        Interruption, StaleTransition: as `attempt.report` does
        Permanent, Transient, NotFound: as the child does; also out of memory, killed, or stalled
        ChildCrashed: a bug in the child
    """
    child = _Child(attempt, module, config)
    try:
        return child.watch(on_progress)
    finally:
        child.end()


class _Pace:
    """How long a child's steps take, and so how long a silence means that it hangs."""

    def __init__(self, margin_seconds: float) -> None:
        self.margin_seconds = margin_seconds
        self.intervals: deque[float] = deque(maxlen=50)  # seconds from step to step
        self.heard = time.monotonic()
        self.stepped: float | None = None
        self.step: object = None

    def tick(self, progress: Progress) -> None:
        self.heard = time.monotonic()
        if "step" in progress and progress["step"] != self.step:
            self.step = progress["step"]
            if self.stepped is not None:
                self.intervals.append(self.heard - self.stepped)
            self.stepped = self.heard

    @property
    def three_steps_seconds(self) -> float:
        return 3 * median(self.intervals) if self.intervals else 0.0

    @property
    def allowed_seconds(self) -> float:
        if len(self.intervals) < 5:
            return START_MARGINS * self.margin_seconds
        return self.three_steps_seconds + self.margin_seconds

    @property
    def silent_seconds(self) -> float:
        return time.monotonic() - self.heard


class _Child:
    """The parent's end of one child."""

    def __init__(self, attempt: Attempt, module: str, config: dict[str, object]) -> None:
        self.attempt = attempt
        self.module = module
        self.log_path = attempt.workdir / "logs" / "child.log"
        self.scratch = attempt.workdir.absolute() / f"temporary-{attempt.number}"  # a late predecessor removes its own
        self.oom_kills = oom_kills()
        self.pace = _Pace(attempt.settings.training.stall_margin_seconds)
        self.last_word: dict[str, Any] | None = None
        self.stopping: Paused | Released | None = None
        self.stop_by = 0.0
        self.pending = b""
        self.hung_up = False
        self.pipe, theirs = os.pipe()
        try:
            self.process = self._start(theirs)
        except BaseException:
            os.close(self.pipe)
            raise
        finally:
            os.close(theirs)
        self._tell({"progress_fd": theirs, "workdir": str(attempt.workdir), "config": config})

    def _start(self, theirs: int) -> subprocess.Popen[bytes]:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self.scratch.mkdir(exist_ok=True)
        with self.log_path.open("ab") as log:
            log.write(f"--- attempt {self.attempt.number}: python -m {self.module}\n".encode())
            log.flush()
            return subprocess.Popen(
                # -P: neither the folder it runs in nor one called like a library may shadow a package
                [sys.executable, "-P", "-m", self.module],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.attempt.workdir,
                env=_environment(self.scratch, self.attempt.cards),
                pass_fds=(theirs,),
                start_new_session=True,
            )

    def _tell(self, message: object) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it is dead already: its exit status says more
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def watch(self, on_progress: Callable[[Progress], None] | None) -> dict[str, Any]:
        with selectors.DefaultSelector() as selector:
            os.set_blocking(self.pipe, False)
            selector.register(self.pipe, selectors.EVENT_READ)
            while self.last_word is None:
                ready = selector.select(REPORT_SECONDS)
                gone = self.process.poll() is not None
                heard = list(self._read()) if ready or gone else []
                for progress in heard:
                    self.pace.tick(progress)
                    if progress and on_progress is not None:
                        on_progress(progress)
                    self._report(progress)
                if gone or self.hung_up:
                    break
                if not heard:
                    self._report({})
                    self._check_silence()
        return self._outcome()

    def _read(self) -> Iterator[Progress]:
        with suppress(BlockingIOError):
            while chunk := os.read(self.pipe, 1 << 16):
                self.pending += chunk
            self.hung_up = True
        *lines, self.pending = self.pending.split(b"\n")
        for line in lines:
            word = json.loads(line)
            if "progress" in word:
                yield word["progress"]
            else:
                self.last_word = word

    def _report(self, progress: Progress) -> None:
        try:
            self.attempt.report(**progress)
        except (Paused, Released) as interruption:
            if self.stopping is None:
                self.stopping = interruption
                self.stop_by = time.monotonic() + self.pace.three_steps_seconds + STOP_SECONDS
                self._tell("stop")

    def _check_silence(self) -> None:
        still_there = self.pace.silent_seconds < STOP_SECONDS  # it may be in the middle of a long look at the holdout
        if self.stopping is not None and time.monotonic() > self.stop_by and not still_there:
            self.attempt.log.warning("%s did not stop in time; it is killed after its last checkpoint", self.module)
            raise self.stopping
        if self.pace.silent_seconds > self.pace.allowed_seconds:
            raise Permanent(
                f"{self.module} has shown no progress for {self.pace.silent_seconds:.0f} s (allowed: three median "
                f"steps and a margin, {self.pace.allowed_seconds:.0f} s) and was ended; see {self.log_path}; a retry "
                "goes on from the last checkpoint; a slower machine needs a larger training.stall_margin_seconds",
                cause=Cause.STALLED,
            )

    def _outcome(self) -> dict[str, Any]:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(EXIT_SECONDS)
        word = self.last_word
        if word is None:
            raise explain_death(self.module, self.process.returncode, self.log_path, oom_kills_before=self.oom_kills)
        if "error" in word:
            raise _rebuilt(word["error"])
        if "stopped" in word:
            raise self.stopping or Transient(f"{self.module} stopped without having been asked to", cause=Cause.LOST)
        result: dict[str, Any] = word["result"]
        return result

    def end(self) -> None:
        """Kill what is left of the group, reap it and close the pipes."""
        if self.process.poll() is None:
            self._signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(TERM_SECONDS)
        self._signal(signal.SIGKILL)
        try:
            self.process.wait(KILL_SECONDS)
        except subprocess.TimeoutExpired:  # as under a driver that hangs: the worker shall not hang with it
            self.attempt.log.error(
                "process %d hangs in the kernel and cannot be killed; it holds its card until that lets go of it",
                self.process.pid,
            )
            threading.Thread(target=self.process.wait, daemon=True).start()  # it is buried when it ends
        os.close(self.pipe)
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def _rebuilt(error: dict[str, Any]) -> Exception:
    """The child's exception, as the parent raises it."""
    message: str = error["message"]
    kind: type[errors.TuneyardError] | None = getattr(errors, error["kind"], None) if error["known"] else None
    if kind is None:
        return crashed(f"{error['kind']}: {message.partition(chr(10))[0]}", error["traceback"])
    if issubclass(kind, Permanent):
        return kind(message, cause=Cause(error["cause"]))
    if issubclass(kind, Transient):
        return kind(message, retry_after=error["retry_after"], cause=Cause(error["cause"]))
    return kind(message)


def _environment(scratch: Path, cards: tuple[str, ...] | None) -> dict[str, str]:
    """The worker's environment without its secrets, the worker's import path, and `scratch` for what is temporary.

    `cards` are those of an attempt that holds several; else the worker's own card stands in it already.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TUNEYARD_") and not any(word in name.upper() for word in SECRET_WORDS)
    }
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    # How long OpenMP threads that wait for one another spin before they sleep. Tokens/s of a QLoRA on two cores, alone
    # and beside another busy process: no spinning 112 and 136, this short 172 and 106, three times as long 195 and 75,
    # libgomp's default 189 and a tenth of it.
    spin = {} if "OMP_WAIT_POLICY" in kept else {"GOMP_SPINCOUNT": "1000"}
    seen = {} if cards is None else {VISIBLE: ",".join(cards)}
    return (
        spin
        | kept
        | seen
        | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
        | {"TMPDIR": str(scratch), "TORCHINDUCTOR_CACHE_DIR": str(scratch / "torchinductor")}
    )
