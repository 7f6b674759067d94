"""The files of a folder, and what in it cannot be read: nothing is passed over in silence."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

ALL = ("**",)


@dataclass(frozen=True)
class BadFile:
    """A file that is no usable text, or a folder that cannot be looked into, and why."""

    path: str
    problem: str


@dataclass
class Walk:
    """What was found below a folder by a pattern, each list in the order of names."""

    base: Path
    pattern: tuple[str, ...] = ALL
    files: list[Path] = field(default_factory=list)
    bad: list[BadFile] = field(default_factory=list)
    hidden: int = 0  # files, and folders that cannot be read, below a name that begins with a dot

    def __post_init__(self) -> None:
        # A link to a folder is entered only where the pattern says how deep: below ** it could lead in a circle.
        endless = "**" in self.pattern
        for folder, names, others in os.walk(self.base, onerror=self._unreadable, followlinks=not endless):
            inside = Path(folder)
            names[:] = [name for name in names if self._fits(inside / name, above=True)]
            for name in names if endless else ():
                if is_link(inside / name):
                    self._note(inside / name, "is a link to a folder, which is not followed; prepare it by itself")
            for path in (inside / name for name in others):
                if self._fits(path):
                    self._note(path, problem_of_entry(path))
        self.files.sort()
        self.bad.sort(key=lambda bad: bad.path)

    def _unreadable(self, error: OSError) -> None:
        self._note(Path(os.fsdecode(error.filename)), f"cannot be looked into: {error.strerror}")

    def _note(self, path: Path, problem: str) -> None:
        if any(part.startswith(".") for part in path.relative_to(self.base).parts):
            self.hidden += 1
        elif problem:
            self.bad.append(BadFile(shown(path), problem))
        else:
            self.files.append(path)

    def _fits(self, path: Path, *, above: bool = False) -> bool:
        return fits(path.relative_to(self.base).parts, self.pattern, above=above)


def fits(parts: tuple[str, ...], pattern: tuple[str, ...], *, above: bool = False) -> bool:
    """Whether a path matches a glob, or with `above`, whether something below it may."""
    if not parts:
        return bool(pattern) if above else all(part == "**" for part in pattern)
    if not pattern:
        return False
    if pattern[0] == "**":
        return fits(parts, pattern[1:], above=above) or fits(parts[1:], pattern, above=above)
    return fnmatchcase(parts[0], pattern[0]) and fits(parts[1:], pattern[1:], above=above)


def problem_of_entry(path: Path) -> str:
    """Why an entry of a folder is no file that could be read; empty if it is one."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f"{'is a link that leads nowhere' if is_link(path) else 'cannot be read'}: {error.strerror}"
    return "" if stat.S_ISREG(mode) else "is a pipe, a socket or a device, and no file of text"


def is_link(path: Path) -> bool:
    return os.path.islink(path)  # noqa: PTH114  (a path that is too long is none, and no error either)


def shown(path: Path) -> str:
    """A path as text that can be written; what in it is not UTF-8 becomes a question mark in a diamond."""
    return os.fsencode(path).decode("utf-8", "replace")
