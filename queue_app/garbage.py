"""What nothing needs any more, and only that: no artifact of a job's result is ever garbage."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from queue_app.lifecycle import State

if TYPE_CHECKING:
    from queue_app.artifacts import ArtifactStore
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
    """Find, and on request delete, strays in the artifact store and work folders of jobs that need none.

    A folder goes when its job succeeded (its logs stay); any other keeps its checkpoints, since a retry goes on from
    them, that of a cancelled job too. Strays younger than `older_than_seconds` may be on their way in and are left
    alone, and all are while a job runs.
    """
    found = []
    if not store.read.ls(states=[State.RUNNING], limit=1):  # what is being published looks like a stray
        for path in artifacts.strays(older_than_seconds=older_than_seconds):
            stray = Garbage("stray", path, _size(Path(path)))
            if not delete or artifacts.remove_stray(path):
                found.append(stray)
    for folder in sorted((home.absolute() / "jobs").glob("*")):
        jobs = [job for job in store.read.ids([folder.name]) if job.state == State.SUCCEEDED]
        pieces = [piece for piece in folder.iterdir() if piece.name != "logs"] if jobs else []
        for piece in pieces:
            found.append(Garbage("workdir", str(piece), _size(piece)))
            if delete:
                shutil.rmtree(piece) if piece.is_dir() else piece.unlink()
    return found


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
