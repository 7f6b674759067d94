"""What a job keeps in the artifact store while it is under way, so that another host can go on with it.

<root>/checkpoints/<job id>/…

No artifact: it has neither hash nor row, and goes when its job has succeeded. Single files are whole or absent, but for
those of `put` on another's file system; what makes several of them one thing is for those to say who put them there.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from queue_app.errors import TuneyardError

if TYPE_CHECKING:
    from collections.abc import Iterator

SHELVES = "checkpoints"
CHUNK_BYTES = 8 * 2**20
# Where a second name for a file cannot be had: another file system, one that knows no such thing, a rule against it.
NO_LINK = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)

Beat = Callable[[], object]  # called between the parts of what takes long; may raise to end it


@dataclass(frozen=True)
class Shelf:
    """One job's files. What goes wrong is an `OSError`, whatever the file system calls it."""

    url: str  # of the artifact store
    job_id: str

    @cached_property
    def _place(self) -> tuple[Any, str]:
        with _errors_as_one():
            filesystem, root = fsspec.url_to_fs(self.url)
        return filesystem, f"{root.rstrip('/')}/{SHELVES}/{self.job_id}"

    @property
    def _is_local(self) -> bool:
        return isinstance(self._place[0], LocalFileSystem)

    @property
    def path(self) -> str:
        return self._place[1]

    def ls(self) -> list[str]:
        """The names of all files, as they are now."""
        filesystem, root = self._place
        with _errors_as_one():
            filesystem.invalidate_cache()  # another host may have written
            if not filesystem.exists(root):
                return []
            strict = {"on_error": "raise"} if self._is_local else {}  # what cannot be listed is not taken for empty
            return sorted(str(path).removeprefix(root).lstrip("/") for path in filesystem.find(root, **strict))

    def read(self, name: str) -> bytes:
        filesystem, root = self._place
        with _errors_as_one():
            return bytes(filesystem.cat_file(f"{root}/{name}"))

    def write(self, name: str, data: bytes) -> None:
        """Write a small file, whole or not at all."""
        filesystem, root = self._place
        with _errors_as_one():
            filesystem.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
            if not self._is_local:
                filesystem.pipe_file(f"{root}/{name}", data)
                return
            path = Path(root, name)
            part = path.with_name(f".{path.name}.part")
            with part.open("wb") as file:
                file.write(data)
                _sync(file)
            part.replace(path)
            _sync_folder(path.parent)

    def put(self, file: IO[bytes], name: str, beat: Beat) -> None:
        """Add a file of this machine that is never changed: by a second name for it where that can be had."""
        filesystem, root = self._place
        with _errors_as_one():
            filesystem.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
            if self._is_local and _link(Path(file.name), Path(root, name)):
                return
            with Path(root, name).open("wb") if self._is_local else filesystem.open(f"{root}/{name}", "wb") as target:
                _pour(file, target, beat)
                if self._is_local:
                    _sync(target)

    def get(self, name: str, path: Path, beat: Beat) -> None:
        """Bring a file here; as `put`, the other way."""
        filesystem, root = self._place
        with _errors_as_one():
            path.parent.mkdir(parents=True, exist_ok=True)
            if self._is_local and _link(Path(root, name), path):
                return
            with filesystem.open(f"{root}/{name}", "rb") as source, path.open("wb") as target:
                _pour(source, target, beat)

    def remove(self, name: str = "") -> None:
        """Remove a file, a folder, or everything; nothing if it is gone already."""
        filesystem, root = self._place
        with _errors_as_one(), suppress(FileNotFoundError):
            filesystem.rm(f"{root}/{name}".rstrip("/"), recursive=True)

    @property
    def size_bytes(self) -> int:
        filesystem, root = self._place
        return int(filesystem.du(root))

    @property
    def age_seconds(self) -> float:
        return age_seconds(*self._place)


def age_seconds(filesystem: Any, path: str) -> float:
    """How long ago the newest file of a folder was written; infinite where the file system tells no time."""
    times = []
    for place in [path, *filesystem.find(path)]:
        try:
            times.append(filesystem.modified(place))
        except (NotImplementedError, OSError):  # object stores tell no time of a folder
            continue
    return (datetime.now(UTC) - max(times)).total_seconds() if times else math.inf


@contextmanager
def _errors_as_one() -> Iterator[None]:
    try:
        yield
    except (OSError, TuneyardError):  # the latter: what a beat raises
        raise
    except Exception as error:  # every file system has errors of its own, and no list of them is complete
        raise OSError(f"{type(error).__name__}: {error}") from error


def _link(source: Path, target: Path) -> bool:
    """Give a file a second name; False: that cannot be had here."""
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in (*NO_LINK, errno.ENOENT):  # the latter: its name is gone, but who holds it open has it
            raise
        return False
    return True


def _pour(source: IO[bytes], target: IO[bytes], beat: Beat) -> None:
    source.seek(0)
    while chunk := source.read(CHUNK_BYTES):
        target.write(chunk)
        beat()


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
