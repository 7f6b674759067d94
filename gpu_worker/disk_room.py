"""Room on a disk: asked for before, and its lack told from a bug: libraries say it in words of their own."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from queue_app.errors import Permanent

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SAID_BY_SYSTEM = ("No space left on device", "Disk quota exceeded", "File too large")  # as safetensors passes them on
SAID_BY_TORCH = "inline_container"  # its writer of zip files says where it stands instead of why


def no_room(error: BaseException, workdir: Path) -> Permanent | None:
    """What to tell the user if `error` means that a disk is full; None: it means something else."""
    text = str(error)
    if isinstance(error, OSError):
        is_full = error.errno in NO_ROOM
    else:
        is_full = any(words in text for words in SAID_BY_SYSTEM) or (SAID_BY_TORCH in text and "Reader" not in text)
    if not is_full:
        return None
    named = getattr(error, "filename2", None) or getattr(error, "filename", None)
    folder = Path(named).parent if isinstance(named, str) else workdir
    free = shutil.disk_usage(folder if folder.is_dir() else workdir).free
    return Permanent(
        f"{folder}: no room left to write ({free / 2**20:.0f} MiB free on that disk, or a quota or limit of file sizes "
        "was reached); `tuneyard gc --delete` clears what no job needs, or remove files of your own there, then retry"
    )


def require_room(folder: Path, needed_bytes: int, what: str) -> None:
    """See that something still to be written will have room.

    Raises:
        Permanent: it will not; with both figures
    """
    free = shutil.disk_usage(folder).free
    if needed_bytes > free:
        raise Permanent(
            f"{folder}: {what} need {needed_bytes / 2**20:,.0f} MiB, and {free / 2**20:,.0f} MiB are free on "
            "that disk; `tuneyard gc --delete` clears what no job needs, or remove files of your own there, then retry"
        )
