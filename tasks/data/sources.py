"""Text documents out of files, globs, folders, and what Python itself carries."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from queue_app.errors import Permanent
from queue_app.job_type import nearest
from queue_app.lifecycle import Cause
from tasks.data.encoding import Undecodable, decode
from tasks.data.extracted import Unextractable
from tasks.data.extracting import extractors
from tasks.data.walking import ALL, BadFile, Walk, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.encoding import Decoded
    from tasks.data.extracted import Extracted

BUILTIN = "builtin:"
BUILTINS = {"python-topics": "the Python language reference, as pydoc_data carries it"}
GUTENBERG_START = re.compile(r"^\*\*\* ?START OF TH(?:IS|E) PROJECT GUTENBERG EBOOK.*$", re.MULTILINE | re.IGNORECASE)
GUTENBERG_END = re.compile(r"^\*\*\* ?END OF TH(?:IS|E) PROJECT GUTENBERG EBOOK.*$", re.MULTILINE | re.IGNORECASE)
HEADING = re.compile(r"\s*(\S.*)\n([*=\-#~^])\2{2,}[ \t]*\n")


@dataclass(frozen=True)
class Document:
    """One text, normalised: \\n line ends, without a library's licence around it."""

    name: str  # relative to the source, with / between folders
    text: str
    subject: str | None = None  # what it explains; None: prose
    repair: str | None = None
    suspicious: bool = False
    licence_characters: int = 0  # Project Gutenberg's header and footer, taken off
    extracted_from: str | None = None  # the type of a file that is more than text, such as html
    removed: Counter[str] = field(default_factory=Counter)  # its parts that are no text, by what they are


@dataclass(frozen=True)
class Source:
    """What a user pointed at: files, or the name of a built-in source."""

    base: Path
    files: tuple[Path, ...] = ()
    bad: tuple[BadFile, ...] = ()  # what is known before it is opened: folders that cannot be read, pipes, dead links
    hidden: int = 0  # files passed over because they, or a folder above them, begin with a dot
    builtin: str | None = None

    def __len__(self) -> int:
        return len(_topics()) if self.builtin else len(self.bad) + len(self.files)

    def read(self, encoding: str | None = None) -> Iterator[Document | BadFile]:
        """What is bad already; then one document a file, in the order of their names, each read when asked for."""
        if self.builtin:
            return read_topics()
        return chain(self.bad, (read_file(path, self.base, encoding) for path in self.files))


def find_source(where: str) -> Source:
    """The files behind a path, a folder or a glob, or a built-in source.

    Raises:
        Permanent: there is nothing
    """
    if where.startswith(BUILTIN):
        name = where.removeprefix(BUILTIN)
        if name not in BUILTINS:
            raise Permanent(f'there is no built-in source "{name}"{nearest(name, BUILTINS)} ({", ".join(BUILTINS)})')
        return Source(Path(), builtin=name)
    path = Path(where).expanduser()
    try:
        return _source_at(path)
    except OSError as error:
        raise Permanent(f"{shown(path)} cannot be read: {error.strerror}") from error


def _source_at(path: Path) -> Source:
    if path.is_file():
        return Source(path.parent, (path,))
    if path.is_dir():
        return _listed(Walk(path, ALL), f"the folder {path} holds no file; put text files into it")
    base, pattern = _fixed_part(path)
    if path.exists():
        raise Permanent(f"{path} is neither a file nor a folder; source is a text file, a folder or a glob")
    if not pattern:
        known = ", ".join(BUILTIN + name for name in BUILTINS)
        raise Permanent(f"{path} does not exist; source is a text file, a folder, a glob, or {known}")
    if any("**" in part and part != "**" for part in pattern):
        raise Permanent(f"{path} is no glob: ** stands for folders of any depth, and must stand alone between slashes")
    if not base.is_dir():
        raise Permanent(f"no file matches {path}: there is no folder {base}", cause=Cause.DATA)
    return _listed(Walk(base, pattern), f"no file matches {path}")


def read_file(path: Path, base: Path, encoding: str | None = None) -> Document | BadFile:
    """A file as a document, or what is wrong with it."""
    if path.suffix == ".jsonl":
        return BadFile(shown(path), "JSON lines are examples already; give them to dataset.split")
    try:
        return _extracted(path, base, encoding) if path.suffix.lower() in extractors() else _plain(path, base, encoding)
    except OSError as error:
        return BadFile(shown(path), f"cannot be read: {error.strerror}")
    except (Undecodable, Unextractable) as error:
        return BadFile(shown(path), str(error))


def _plain(path: Path, base: Path, encoding: str | None) -> Document:
    return _document(path.relative_to(base), decode(path.read_bytes(), fallback=encoding))


def _extracted(path: Path, base: Path, encoding: str | None) -> Document:
    kind, extractor = extractors()[path.suffix.lower()]
    size = path.stat().st_size
    if size > extractor.MOST_MIB << 20:
        raise Unextractable(
            f"has {size / (1 << 20):.0f} MiB, and a {kind} file is read as a whole, up to {extractor.MOST_MIB} MiB; "
            "cut it into several, or save its text as .txt, which may be of any size"
        )
    found = extractor.extract(path.read_bytes(), encoding)
    return replace(_document(path.relative_to(base), found), extracted_from=kind, removed=found.removed)


def _document(name: Path, found: Decoded | Extracted) -> Document:
    text = strip_licence(found.text)
    return Document(
        name=shown(name),
        text=text,
        repair=found.repair,
        suspicious=found.suspicious,
        licence_characters=len(found.text) - len(text),
    )


def strip_licence(text: str) -> str:
    """What stands between Project Gutenberg's two markers; the whole text if there are none."""
    start = GUTENBERG_START.search(text)
    end = GUTENBERG_END.search(text, start.end() if start else 0)
    return text[start.end() if start else 0 : end.start() if end else len(text)]


def read_topics() -> Iterator[Document]:
    """The topics of Python's language reference."""
    for name, text in sorted(_topics().items()):
        heading = HEADING.match(text)
        title = f" ({heading[1]})" if heading else ""
        yield Document(name=name, text=text, subject=f'the Python topic "{name}"{title}')


def _topics() -> dict[str, str]:
    from pydoc_data.topics import topics  # half a megabyte: only for those who want it

    return topics


def _listed(walk: Walk, nothing: str) -> Source:
    if not walk.files and not walk.bad:
        hidden = f" ({walk.hidden} hidden ones are not read)" if walk.hidden else ""
        raise Permanent(nothing + hidden, cause=Cause.DATA)
    return Source(walk.base, tuple(walk.files), tuple(walk.bad), walk.hidden)


def _fixed_part(path: Path) -> tuple[Path, tuple[str, ...]]:
    """A glob as the folder before its first wildcard and the parts from there; no parts if there is no wildcard."""
    parts = path.parts
    first = next((index for index, part in enumerate(parts) if any(sign in part for sign in "*?[")), len(parts))
    return Path(*parts[:first]), parts[first:]
