"""What a process died of that could not say so itself: its exit status, the kernel's count, the end of its log."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from gpu_worker.card_faults import lost, says_card_failed
from gpu_worker.memory import oom_kills
from gpu_worker.out_of_memory import says_out_of_memory
from queue_app.errors import Permanent, Transient
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from pathlib import Path


class ChildCrashed(RuntimeError):
    """The child ended by a bug; its traceback, or the end of its log, is its note."""


def crashed(message: str, trace: str) -> ChildCrashed:
    """The error of a crash, with what is known of it."""
    crash = ChildCrashed(message)
    crash.add_note(trace)  # for the job's log; a failure is one line
    return crash


def explain_death(name: str, status: int, log_path: Path, *, oom_kills_before: int) -> Exception:
    """The error that stands for the end of a process without a last word."""
    if status in (-signal.SIGKILL, 128 + signal.SIGKILL) and oom_kills() > oom_kills_before:
        return Permanent(
            f"{name} was killed by the kernel because memory ran out; use a smaller micro_batch_size or "
            "sequence_len (gradient_accumulation_steps keeps the effective batch), then retry: it goes on from the "
            "last checkpoint",
            cause=Cause.OOM,
        )
    if status in (-signal.SIGKILL, 128 + signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT):
        return Transient(f"{name} was killed from outside (exit status {status})", cause=Cause.LOST)
    tail = log_path.read_text(errors="replace").splitlines()[-30:]
    said = tail[-1] if tail else "nothing"
    last_words = "\n".join(tail[-5:]).rpartition("--- attempt ")[2]
    if says_out_of_memory(last_words):  # C++ that finds no memory ends the process, and so does OpenMP
        return Permanent(f"{name} ended with status {status}, for memory ran out: {said}", cause=Cause.OOM)
    if says_card_failed(last_words):
        return lost(f"{name} ended with status {status}: {said}")
    return crashed(f"{name} ended with status {status}; the last line of its log: {said}", "\n".join(tail))
