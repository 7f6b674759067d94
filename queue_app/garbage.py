"""What nothing needs any more, and only that: no artifact of a job's result is ever garbage."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from queue_app.lifecycle import State

if TYPE_CHECKING:
    from queue_app.artifacts import ArtifactStore
    from queue_app.shelf import Shelf
    from queue_app.store import Store


STRAY_SECONDS = 3600.0  # a publisher on another machine may be at it


class Garbage(NamedTuple):
    """One thing that may go."""

    what: str
    path: str
    size_bytes: int


def collect(
    store: Store, artifacts: ArtifactStore, home: Path, *, delete: bool, older_than_seconds: float = STRAY_SECONDS
) -> list[Garbage]:
    """Find, and on request delete, strays in the artifact store and what jobs keep that need it no more.

    A work folder goes when its job succeeded (its logs stay), and so do the copies of its checkpoints in the artifact
    store; any other job keeps its checkpoints, since a retry goes on from them, a cancelled one too. Copies that belong
    to no job go as well. Strays, and such copies, younger than `older_than_seconds` may be on their way in and are left
    alone, and all strays are while a job runs.
    """
    found = []
    if not store.read.ls(states=[State.RUNNING], limit=1):  # what is being published looks like a stray
        for path in artifacts.strays(older_than_seconds=older_than_seconds):
            stray = Garbage("stray", path, _size(Path(path)))
            if not delete or artifacts.remove_stray(path):
                found.append(stray)
    for shelf in _needless(store, artifacts, older_than_seconds):
        found.append(Garbage("checkpoints", shelf.path, shelf.size_bytes))
        if delete:
            shelf.remove()
    for folder in sorted((home.absolute() / "jobs").glob("*")):
        jobs = [job for job in store.read.ids([folder.name]) if job.state == State.SUCCEEDED]
        pieces = [piece for piece in folder.iterdir() if piece.name != "logs"] if jobs else []
        for piece in pieces:
            found.append(Garbage("workdir", str(piece), _size(piece)))
            if delete:
                shutil.rmtree(piece) if piece.is_dir() else piece.unlink()
    return found


def _needless(store: Store, artifacts: ArtifactStore, older_than_seconds: float) -> list[Shelf]:
    """What is kept for jobs that have succeeded, or that nobody knows."""
    shelves = artifacts.shelves()
    states = {job.id: job.state for job in store.read.ids([shelf.job_id for shelf in shelves])} if shelves else {}
    done = [shelf for shelf in shelves if states.get(shelf.job_id) == State.SUCCEEDED]
    nobodys = [shelf for shelf in shelves if shelf.job_id not in states and shelf.age_seconds >= older_than_seconds]
    return done + nobodys


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
