"""Checkpoints that are complete or absent.

A checkpoint is a folder `checkpoint-N`. What makes it one is `manifest.json` with the size and SHA-256 of every other
file, written last and renamed into place; a folder without it was being written when the process died.

Covered: death at any line, files cut off, changed or missing. Not covered: a disk that lies about fsync.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

MANIFEST = "manifest.json"
KEEP = 2  # one to resume from, and one in case it breaks


@dataclass(frozen=True)
class Survey:
    """What a folder of checkpoints was found to hold."""

    newest: Path | None  # the newest that verifies
    passed_over: list[str]  # those that did not, over all attempts, each with what was wrong with it

    @property
    def step(self) -> int | None:
        return None if self.newest is None else _step(self.newest)


def survey(folder: Path) -> Survey:
    """Find the newest checkpoint that verifies; remove every newer one, and note in `passed_over.txt` why."""
    notes = folder / "passed_over.txt"
    for checkpoint in _newest_first(folder):
        problem = problem_of(checkpoint)
        if problem is None:
            return Survey(checkpoint, _lines(notes))
        with notes.open("a", encoding="utf-8") as file:
            file.write(f"{checkpoint.name}: {problem}\n")
        _remove(checkpoint)
    return Survey(None, _lines(notes))


def complete(checkpoint: Path) -> None:
    """Declare a checkpoint complete: put all of it on the disk, then its manifest."""
    entries = {}
    for path in _files(checkpoint):
        with path.open("rb") as file:
            entries[str(path.relative_to(checkpoint))] = {
                "bytes": path.stat().st_size,
                "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
            }
            os.fsync(file.fileno())
    part = checkpoint / f".{MANIFEST}.part"
    with part.open("w", encoding="utf-8") as file:
        json.dump({"files": entries}, file, indent=2, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    part.replace(checkpoint / MANIFEST)
    _sync_folder(checkpoint)
    _sync_folder(checkpoint.parent)


def rotate(folder: Path, keep: int = KEEP, spared: Collection[int] = ()) -> None:
    """Remove all but the newest complete checkpoints and those of the steps that are spared."""
    complete_ones = [path for path in _newest_first(folder) if (path / MANIFEST).is_file()]
    for checkpoint in complete_ones[keep:]:
        if _step(checkpoint) not in spared:
            _remove(checkpoint)


def best(folder: Path, losses: Mapping[int, float]) -> int | None:
    """The step of the least loss whose checkpoint verifies; None: none does."""
    steps = sorted(losses, key=lambda step: (losses[step], step))
    return next((step for step in steps if problem_of(at_step(folder, step)) is None), None)


def at_step(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies, if there is one."""
    return folder / f"checkpoint-{step}"


def problem_of(checkpoint: Path) -> str | None:
    """What keeps a checkpoint from being used; None: nothing."""
    try:
        files = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))["files"]
        listed = [(name, int(entry["bytes"]), str(entry["sha256"])) for name, entry in files.items()]
    except FileNotFoundError:
        return "it has no manifest, so it was never finished"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its manifest cannot be read ({error})"
    for name, size_bytes, sha256 in listed:
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size_bytes:
            return f"{name} has {path.stat().st_size} bytes instead of {size_bytes}"
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                return f"{name} has changed since it was written"
    return None


def _newest_first(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("checkpoint-*") if path.is_dir() and path.name.partition("-")[2].isdigit()]
    return sorted(found, key=_step, reverse=True)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.partition("-")[2])


def _files(checkpoint: Path) -> list[Path]:
    return sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != MANIFEST)


def _remove(checkpoint: Path) -> None:
    (checkpoint / MANIFEST).unlink(missing_ok=True)  # first, so that half a removal leaves no checkpoint
    shutil.rmtree(checkpoint)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
