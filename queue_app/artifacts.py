"""The artifact store: files and folders by the hash of their content, whole or absent, at any fsspec URL.

<root>/<digest>/content         the file or folder
<root>/<digest>/manifest.json   every file with its size and SHA-256; written last: without it there is nothing
<root>/checkpoints/             no artifacts, but what jobs under way keep there: see `queue_app.shelf`
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from queue_app.errors import NotFound, Permanent
from queue_app.shelf import SHELVES, Shelf, age_seconds
from queue_app.store import Artifact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from queue_app.store import Ancestor
    from queue_app.store.artifact_index import ArtifactIndex

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
IN_THE_WAY = (errno.EEXIST, errno.ENOTEMPTY)
INCOMING = ".incoming"


@dataclass(frozen=True)
class Content:
    """What a file or folder consists of."""

    files: tuple[tuple[str, int, str], ...]  # (path within, bytes, SHA-256), sorted

    @classmethod
    def of(cls, path: Path) -> Content:
        """Read and hash a file or folder."""
        return cls(tuple(sorted(_hashed(path))))

    @property
    def digest(self) -> str:
        """SHA-256 over the list of files."""
        return hashlib.sha256(json.dumps(self.files).encode()).hexdigest()

    @property
    def size_bytes(self) -> int:
        return sum(size for _, size, _ in self.files)

    @property
    def manifest(self) -> str:
        return json.dumps({"files": [{"path": p, "bytes": n, "sha256": h} for p, n, h in self.files]}, indent=1)


def _hashed(path: Path) -> Iterator[tuple[str, int, str]]:
    inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in inside:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        name = file.relative_to(path).as_posix() if path.is_dir() else ""
        yield name, file.stat().st_size, digest


@dataclass(frozen=True)
class ArtifactStore:
    """The content behind the ids; `cache` holds copies of what lives elsewhere."""

    url: str
    index: ArtifactIndex
    cache: Path

    @cached_property
    def _place(self) -> tuple[Any, str]:
        filesystem, root = fsspec.url_to_fs(self.url)
        return filesystem, root.rstrip("/")

    @property
    def _is_local(self) -> bool:
        return isinstance(self._place[0], LocalFileSystem)

    def publish(
        self, path: Path, *, kind: str, name: str | None, job_id: str | None, parents: Iterable[str]
    ) -> Artifact:
        """Move a file or folder into the store, whole or not at all.

        Raises:
            Permanent: there is no room for it, or there is nothing to publish
        """
        if not path.exists():
            raise Permanent(f"{path}: there is nothing to publish here")
        content = Content.of(path)
        artifact = Artifact(
            id=f"sha256:{content.digest}",
            kind=kind,
            name=name,
            size_bytes=content.size_bytes,
            files=len(content.files),
            job_id=job_id,
            created_at=datetime.now(UTC),
        )
        if not self.has(artifact.id):
            try:
                (self._move_in if self._is_local else self._upload)(path, content)
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                raise Permanent(self._no_room(content.size_bytes)) from error
        self.index.add(artifact, parents)
        return artifact

    def has(self, artifact_id: str) -> bool:
        """Whether the content of an artifact is here, whole."""
        filesystem, root = self._place
        return bool(filesystem.exists(f"{root}/{_digest(artifact_id)}/manifest.json"))

    def fetch(self, artifact_id: str) -> Path:
        """The local path of an artifact's content; what lives elsewhere is copied here first.

        Raises:
            NotFound: the index knows it, but its content is gone
        """
        filesystem, root = self._place
        digest = _digest(artifact_id)
        if not self.has(artifact_id):
            raise NotFound(f"the content of {artifact_id} is no longer in {self.url}; run the step that made it again")
        if self._is_local:
            return Path(root, digest, "content")
        kept = self.cache / digest
        if not kept.exists():
            coming = self.cache / f"{INCOMING}-{uuid.uuid4().hex}"
            coming.parent.mkdir(parents=True, exist_ok=True)
            try:
                filesystem.get(f"{root}/{digest}/content", str(coming), recursive=True)
                _keep(coming, kept)
            finally:
                _remove(coming)
        return kept

    def strays(self, *, older_than_seconds: float) -> list[str]:
        """Paths in the store that belong to no artifact: what died half-way, and what the index does not know.

        What is younger may be on its way in. Where the file system tells no time, everything counts as old.
        """
        filesystem, root = self._place
        if not filesystem.exists(root):
            return []
        # The folder first: what is published between the two readings is then in the index, not among the strays.
        names = [str(entry).rstrip("/") for entry in filesystem.ls(root, detail=False)]
        if filesystem.exists(f"{root}/{INCOMING}"):
            names += [str(entry).rstrip("/") for entry in filesystem.ls(f"{root}/{INCOMING}", detail=False)]
        known = {_digest(artifact.id) for artifact in self.index.ls()} | {INCOMING, SHELVES}
        unknown = [name for name in names if name.rpartition("/")[2] not in known]
        return sorted(name for name in unknown if age_seconds(filesystem, name) >= older_than_seconds)

    def remove_stray(self, path: str) -> bool:
        """Remove one of `strays`; False: it has become an artifact meanwhile, and stays."""
        if self.index.has(f"sha256:{path.rpartition('/')[2]}"):
            return False
        self._place[0].rm(path, recursive=True)
        return True

    def shelves(self) -> list[Shelf]:
        """What jobs keep here that were under way."""
        filesystem, root = self._place
        folder = f"{root}/{SHELVES}"
        names = filesystem.ls(folder, detail=False) if filesystem.isdir(folder) else []
        return [Shelf(self.url, str(name).rstrip("/").rpartition("/")[2]) for name in sorted(names)]

    def _move_in(self, path: Path, content: Content) -> None:
        root = Path(self._place[1])
        incoming = root / INCOMING / uuid.uuid4().hex
        incoming.mkdir(parents=True)
        try:
            (incoming / "manifest.json").write_text(content.manifest)
            _move(path, incoming / "content")
            _sync(incoming)
            _put_in_place(incoming, root / content.digest)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)

    def _upload(self, path: Path, content: Content) -> None:
        filesystem, root = self._place
        target = f"{root}/{content.digest}"
        if path.is_dir():
            for name, _, _ in content.files:
                filesystem.makedirs(f"{target}/content/{name}".rpartition("/")[0], exist_ok=True)
                filesystem.put_file(str(path / name), f"{target}/content/{name}")
        else:
            filesystem.makedirs(target, exist_ok=True)
            filesystem.put_file(str(path), f"{target}/content")
        filesystem.pipe_file(f"{target}/manifest.json", content.manifest.encode())

    def _no_room(self, needed_bytes: int) -> str:
        free = ""
        if self._is_local:
            folder = next(p for p in [Path(self._place[1]), *Path(self._place[1]).parents] if p.exists())
            free = f", {shutil.disk_usage(folder).free / 2**20:.1f} MiB are free"
        return f"{self.url}: no room for an artifact of {needed_bytes / 2**20:.1f} MiB{free}; free some, then retry"


@dataclass
class JobArtifacts:
    """The artifact store as one job sees it: what it resolves becomes a parent of what it publishes."""

    store: ArtifactStore
    job_id: str
    workdir: Path | None = None  # the job's own folder, if it has one
    parents: set[str] = field(default_factory=set)
    _shelf: Shelf | None = field(default=None, init=False)

    @property
    def shelf(self) -> Shelf:
        """What the job keeps in the store until it has succeeded."""
        self._shelf = self._shelf or Shelf(self.store.url, self.job_id)
        return self._shelf

    def clear_shelf(self) -> None:
        """Remove what is kept for a job that has succeeded, if it was one to keep anything."""
        if self._shelf is not None:
            self._shelf.remove()

    def resolve(self, ref: str) -> Path:
        """The local file or folder behind an artifact id, unique prefix, name, or path."""
        if Path(ref).is_absolute():
            if not Path(ref).exists():
                raise NotFound(f"{ref}: there is no such file or folder")
            return Path(ref)
        artifact = self.store.index.find(ref)
        self.parents.add(artifact.id)
        return self.store.fetch(artifact.id)

    def publish(self, path: Path, *, kind: str, name: str | None = None) -> str:
        """Move a file or folder into the store and return its id.

        Of what lies in the job's own folder nothing stays there, if the store copied it or had it already, either.
        """
        published = self.store.publish(path, kind=kind, name=name, job_id=self.job_id, parents=self.parents)
        if self.workdir in path.parents and not path.is_symlink():
            _remove(path)
        return published.id

    def lineage(self) -> list[Ancestor]:
        """What was resolved so far, and everything that it was made from, nearest first."""
        return self.store.index.lineage(sorted(self.parents))


def _digest(artifact_id: str) -> str:
    return artifact_id.removeprefix("sha256:")


def _move(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, target)


def _put_in_place(incoming: Path, place: Path) -> None:
    """Give what came in whole its place, unless somebody else published the same; a leftover there makes way.

    The leftover is moved aside before it is removed: what another publisher puts there meanwhile is never half gone.
    """
    while True:
        try:
            incoming.rename(place)
        except OSError as error:
            if error.errno not in IN_THE_WAY:
                raise
            if (place / "manifest.json").exists():
                return
            aside = incoming.with_name(uuid.uuid4().hex)
            with suppress(FileNotFoundError):  # another publisher was quicker to move it
                place.rename(aside)
                shutil.rmtree(aside)
        else:
            return


def _keep(coming: Path, kept: Path) -> None:
    try:
        coming.rename(kept)
    except OSError as error:
        if error.errno not in IN_THE_WAY:
            raise  # anything else than: another job fetched the same meanwhile


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Make a tree survive a power loss, leaves first."""
    for path in [*sorted(folder.rglob("*"), reverse=True), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
