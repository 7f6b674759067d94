"""What nothing needs any more, and only that: no artifact of a job's result is ever garbage."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from queue_app.lifecycle import State

if TYPE_CHECKING:
    from queue_app.artifacts import ArtifactStore
    from queue_app.store import Store


class Garbage(NamedTuple):
    """One thing that may go."""

    what: str
    path: str
    size_bytes: int


def collect(store: Store, artifacts: ArtifactStore, home: Path, *, delete: bool) -> list[Garbage]:
    """Find, and on request delete, strays in the artifact store and work folders of jobs that need none.

    A folder goes when its job succeeded or was cancelled (its logs stay); a failed or unfinished one keeps its
    checkpoints, since a retry goes on from them. Running jobs publish under names of their own, which are left alone.
    """
    found = []
    if not store.read.ls(states=[State.RUNNING], limit=1):  # what is being published looks like a stray
        for path in artifacts.strays():
            found.append(Garbage("stray", path, _size(Path(path))))
            if delete:
                artifacts.remove_stray(path)
    for folder in sorted((home.absolute() / "jobs").glob("*")):
        jobs = [job for job in store.read.ids([folder.name]) if job.state in (State.SUCCEEDED, State.CANCELLED)]
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
