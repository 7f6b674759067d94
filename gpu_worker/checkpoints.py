"""Checkpoints that are complete or absent.

A checkpoint is a folder `checkpoint-N`. What makes it one is `manifest.json` with the size and SHA-256 of every other
file, written last and renamed into place; a folder without it was being written when the process died.

Covered: death at any line, files cut off, changed or missing. Not covered: a disk that lies about fsync.

Weights are safetensors. The state beside them (optimizer, schedule, random numbers) is pickled by the trainer, which
reads it as plain data (`weights_only`): a forged one, with a manifest to fit, is refused and runs nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

MANIFEST = "manifest.json"
PICKLED = re.compile(
    r"(adapter|pytorch)_model.*\.bin(\.index\.json)?"
)  # weights; the state beside them is read as data
PASSED_OVER = "passed_over.txt"
KEEP = 2  # one to resume from, and one in case it breaks
CHUNK_BYTES = 8 * 2**20


class Entry(NamedTuple):
    """What the manifest says of one file."""

    name: str
    size_bytes: int
    sha256: str


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
    for checkpoint in _newest_first(folder):
        problem = problem_of(checkpoint)
        if problem is None:
            return Survey(checkpoint, _lines(folder / PASSED_OVER))
        note(folder, f"{checkpoint.name}: {problem}")
        remove(checkpoint)
    return Survey(None, _lines(folder / PASSED_OVER))


def note(folder: Path, problem: str) -> None:
    """Note that a checkpoint was passed over, and why."""
    with (folder / PASSED_OVER).open("a", encoding="utf-8") as file:
        file.write(f"{problem}\n")


def newest_whole(folder: Path, beat: Callable[[], object]) -> int | None:
    """The step of the newest checkpoint that verifies; as `survey`, but removes nothing. `beat` as in `problem_of`."""
    return next((_step(each) for each in _newest_first(folder) if problem_of(each, beat) is None), None)


def complete_steps(folder: Path) -> list[int]:
    """The steps of all that have a manifest, newest first."""
    return [_step(path) for path in _newest_first(folder) if (path / MANIFEST).is_file()]


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
    for step in complete_steps(folder)[keep:]:
        if step not in spared:
            remove(at_step(folder, step))


def best(folder: Path, losses: Mapping[int, float]) -> int | None:
    """The step of the least loss whose checkpoint verifies; None: none does."""
    steps = sorted(losses, key=lambda step: (losses[step], step))
    return next((step for step in steps if problem_of(at_step(folder, step)) is None), None)


def at_step(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies, if there is one."""
    return folder / f"checkpoint-{step}"


def problem_of(checkpoint: Path, beat: Callable[[], object] = lambda: None) -> str | None:
    """What keeps a checkpoint from being used; None: nothing. `beat` is called as it is read, and may raise."""
    try:
        entries = read_manifest((checkpoint / MANIFEST).read_bytes())
    except FileNotFoundError:
        return "it has no manifest, so it was never finished"
    except ValueError as error:
        return str(error)
    for name, size_bytes, sha256 in entries:
        path = checkpoint / name
        if PICKLED.fullmatch(path.name):
            return f"{name} is a pickle, which can run code: weights are taken from safetensors alone"
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size_bytes:
            return f"{name} has {path.stat().st_size} bytes instead of {size_bytes}"
        if _hash(path, beat) != sha256:
            return f"{name} has changed since it was written"
    return None


def read_manifest(text: bytes) -> list[Entry]:
    """What a manifest lists.

    Raises:
        ValueError: it is none, or names a file outside; says so
    """
    try:
        files = json.loads(text)["files"]
        entries = [Entry(name, int(entry["bytes"]), str(entry["sha256"])) for name, entry in files.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"its manifest cannot be read ({error})") from error
    for entry in entries:
        if PurePosixPath(entry.name).is_absolute() or ".." in PurePosixPath(entry.name).parts:
            raise ValueError(f"its manifest names {entry.name}, which lies outside")
    return entries


def remove(checkpoint: Path) -> None:
    """Remove a checkpoint; half a removal leaves none."""
    (checkpoint / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(checkpoint)


def _hash(path: Path, beat: Callable[[], object]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            beat()
    return digest.hexdigest()


def _newest_first(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("checkpoint-*") if path.is_dir() and path.name.partition("-")[2].isdigit()]
    return sorted(found, key=_step, reverse=True)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.partition("-")[2])


def _files(checkpoint: Path) -> list[Path]:
    return sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != MANIFEST)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
