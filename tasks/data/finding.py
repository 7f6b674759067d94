"""The files behind a source: one file, a dataset folder, a saved `datasets` folder, a folder or a glob of several."""

from __future__ import annotations

import glob
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from queue_app.errors import NotFound, Permanent
from queue_app.lifecycle import Cause
from tasks.data.opening import ARROW, GZIP, PARQUET, ZSTD, Damaged, blocks

EXAMPLES = "examples.jsonl"
REJECTED = ".rejected.jsonl"
PACKED = (".gz", ".zst")
SAVED = ("state.json", "dataset_dict.json")  # a folder with one of them is what `datasets` saved
KINDS = {
    ".jsonl": "lines",
    ".ndjson": "lines",
    ".json": "objects",
    ".csv": "table",
    ".tsv": "table",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
UNREAD_PACKS = frozenset({".xz", ".bz2", ".zip", ".7z", ".rar", ".tar", ".xlsx", ".xls"})
TEXTS = frozenset({".txt", ".md", ".markdown", ".html", ".htm", ".rst", ".pdf", ".docx", ".tex", ".epub"})
KNOWN = "a .jsonl, .json, .csv or .parquet file (also .gz or .zst), a folder of such, or a saved datasets folder"
PREPARE = "text becomes examples with dataset.prepare"


def data_files(source: Path) -> list[Path]:
    """The files with a source's rows, in the order of their names.

    Raises:
        NotFound: there is no such source
        Permanent: it has no rows; says what to do
    """
    if _is_pattern(source):
        found, nothing = _inside(source), f"no file with rows matches {source}"
        if not found:
            raise NotFound(f"no file matches {source}; a dataset is {KNOWN}")
        return _of_several(found, nothing)
    if source.is_file():
        return [_no_text(source)]
    if not source.is_dir():
        raise NotFound(f"{source} does not exist; a dataset is {KNOWN}")
    if (source / EXAMPLES).is_file():
        return [source / EXAMPLES]
    if any((source / name).is_file() for name in SAVED):
        return _saved(source)
    return _of_several(_inside(source), f"{source} holds neither {EXAMPLES} nor any other file with rows")


def passed_over(source: Path) -> dict[str, int]:
    """How many files of a folder or glob are not read, by the ends of their names."""
    if source.is_file() or any((source / name).is_file() for name in (EXAMPLES, *SAVED)):
        return {}
    read = set(data_files(source))
    left = [file for file in _inside(source) if file not in read and not file.name.endswith(REJECTED)]
    return dict(Counter(file.suffix.lower() or file.name for file in left))


def container(file: Path) -> str:
    """How a file holds its rows: `lines`, `objects`, `table`, `parquet` or `arrow`; by its name, or else its bytes."""
    kind = _kind(file)
    if kind is not None:
        return kind
    with file.open("rb") as stream:
        start = stream.read(8)
    if start.startswith(PARQUET) or start.startswith(ARROW):
        return "parquet" if start.startswith(PARQUET) else "arrow"
    if start[:2] == GZIP or start[:4] == ZSTD:
        start = _unpacked_start(file)
    return "objects" if start.lstrip().startswith(b"[") else "lines"


def _is_pattern(source: Path) -> bool:
    return any(sign in str(source) for sign in "*?[") and not source.exists()


def _inside(source: Path) -> list[Path]:
    """The files of a folder or a glob."""
    if _is_pattern(source):
        found = [Path(name) for name in sorted(glob.glob(str(source), recursive=True))]  # noqa: PTH207  (absolute)
        return [file for file in found if file.is_file()]
    return sorted(file for file in source.rglob("*") if file.is_file() and not _hidden(file, source))


def _kind(file: Path) -> str | None:
    name = file.with_suffix("") if file.suffix.lower() in PACKED else file
    return KINDS.get(name.suffix.lower())


def _unpacked_start(file: Path) -> bytes:
    try:
        return next(blocks(file), b"")[:8]
    except Damaged:
        return b""


def _no_text(file: Path) -> Path:
    if file.suffix.lower() in TEXTS:
        raise Permanent(f"{file} is no file of examples; {PREPARE}, and a dataset is {KNOWN}", cause=Cause.DATA)
    return file


def _of_several(files: list[Path], nothing: str) -> list[Path]:
    rows = [file for file in files if _kind(file) and not file.name.endswith(REJECTED)]
    sure = [file for file in rows if _kind(file) != "objects"]  # a .json beside them tells about them
    if found := sure or rows:
        return found
    hint = f"; {PREPARE}" if any(file.suffix.lower() in TEXTS for file in files) else ""
    if packed := [file for file in files if file.suffix.lower() in UNREAD_PACKS]:
        hint = f"; {packed[0].name} is packed: unpack it, or save a table as CSV"
    raise Permanent(f"{nothing}; a dataset is {KNOWN}{hint}", cause=Cause.DATA)


def _hidden(file: Path, base: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(base).parts)


def _saved(folder: Path) -> list[Path]:
    """The Arrow files of a folder that `datasets` saved."""
    if not (folder / "state.json").is_file():
        splits = _told(folder / "dataset_dict.json").get("splits") or []
        if len(splits) != 1:
            named = ", ".join(str(folder / str(split)) for split in splits)
            raise Permanent(f"{folder} holds {len(splits)} splits; give one of them: {named}", cause=Cause.DATA)
        return _saved(folder / str(splits[0]))
    state = _told(folder / "state.json")
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise Permanent(f"{folder} is a choice of rows by index; save it after flatten_indices()", cause=Cause.DATA)
    files = [folder / str(entry["filename"]) for entry in state.get("_data_files") or [] if "filename" in entry]
    if missing := [file for file in files if not file.is_file()]:
        raise Permanent(f"{missing[0]} is missing, which {folder / 'state.json'} names", cause=Cause.DATA)
    return files


def _told(file: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Permanent(f"{file} is damaged ({error}); save the dataset again", cause=Cause.DATA) from error
