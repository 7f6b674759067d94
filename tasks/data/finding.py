"""The files behind a source: one file, a dataset folder, a saved `datasets` folder, a folder or a glob of several."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

import msgspec

from queue_app.errors import Permanent
from queue_app.lifecycle import Cause
from tasks.data.opening import ARROW, GZIP, PARQUET, ZSTD, Damaged, blocks

EXAMPLES = "examples.jsonl"
REJECTED = ".rejected.jsonl"
PACKED = (".gz", ".zst")
KINDS = {
    ".jsonl": "lines",
    ".ndjson": "lines",
    ".json": "objects",
    ".csv": "table",
    ".tsv": "table",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
TEXTS = frozenset({".txt", ".md", ".markdown", ".html", ".htm", ".rst", ".pdf", ".docx", ".tex", ".epub"})
KNOWN = "a .jsonl, .json, .csv or .parquet file (also .gz or .zst), a folder of such, or a saved datasets folder"
PREPARE = "text becomes examples with dataset.prepare"


def data_files(source: Path) -> list[Path]:
    """The files with a source's rows, in the order of their names.

    Raises:
        Permanent: there is none; says what to do
    """
    if any(sign in str(source) for sign in "*?[") and not source.exists():
        found = [Path(name) for name in sorted(glob.glob(str(source), recursive=True))]  # noqa: PTH207  (absolute)
        return _of_several([file for file in found if file.is_file()], f"no file matches {source}")
    if source.is_file():
        return [_no_text(source)]
    if not source.is_dir():
        raise Permanent(f"{source} does not exist; a dataset is {KNOWN}")
    if (source / EXAMPLES).is_file():
        return [source / EXAMPLES]
    if (source / "state.json").is_file() or (source / "dataset_dict.json").is_file():
        return _saved(source)
    inside = sorted(file for file in source.rglob("*") if file.is_file() and not _hidden(file, source))
    return _of_several(inside, f"{source} holds neither {EXAMPLES} nor any other file with rows")


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
    text = f"; {PREPARE}" if any(file.suffix.lower() in TEXTS for file in files) else ""
    raise Permanent(f"{nothing}; a dataset is {KNOWN}{text}", cause=Cause.DATA)


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
