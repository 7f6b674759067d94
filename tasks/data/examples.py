"""Examples on disk and in the shapes that trainers and providers take.

A dataset is a folder with `examples.jsonl`: one example a line, chat (`messages`) or instruct (`instruction`, `input`,
`output`). Where an example came from stands beside it in `origins.jsonl`, line for line, and not in the example:
providers refuse a row with a key they do not know, and `examples.jsonl` is fit to be uploaded as it stands.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from queue_app.errors import Permanent
from queue_app.lifecycle import Cause
from tasks.data.rules import problem_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import BinaryIO, Self

Example = dict[str, Any]

EXAMPLES = "examples.jsonl"
ORIGINS = "origins.jsonl"


@dataclass(frozen=True)
class Origin:
    """Where an example was cut from, and how long it is by the base model's tokenizer."""

    document: str
    piece: int  # from 1
    pieces: int
    tokens: int


def read_examples(path: Path) -> Iterator[Example]:
    """Every example of a dataset folder or a .jsonl file, checked, in order; blank lines are passed over.

    Raises:
        Permanent: no such file, no example in it, or a line that is none; names file, line and field
    """
    file = examples_file(path)
    found = False
    for number, example in _read_objects(file):
        if problem := problem_of(example):
            raise _unfit(file, number, problem)
        found = True
        yield example
    if not found:
        raise Permanent(f"{file} holds no example; a dataset needs at least one line", cause=Cause.DATA)


def read_with_origins(path: Path) -> Iterator[tuple[Example, Origin | None]]:
    """Every example with its origin; None throughout where the dataset tells no origins.

    Raises:
        Permanent: as `read_examples`, or the two files do not belong together; names the line
    """
    file = examples_file(path)
    beside = file.parent / ORIGINS
    if file.name != EXAMPLES or not beside.is_file():
        yield from ((example, None) for example in read_examples(file))
        return
    origins = _read_objects(beside)
    for example in read_examples(file):
        number, row = next(origins, (0, {}))
        if row.pop("example", None) != fingerprint(example):
            raise _apart(beside, number)
        yield example, _origin(beside, number, row)
    if surplus := next(origins, None):
        raise _apart(beside, surplus[0])


def examples_file(path: Path) -> Path:
    """The file of examples behind a dataset folder or a .jsonl file.

    Raises:
        Permanent: there is none
    """
    file = path / EXAMPLES if path.is_dir() else path
    if not file.is_file():
        raise Permanent(f"{file} does not exist; a dataset is a .jsonl file, or a folder with {EXAMPLES}")
    return file


def to_chat(example: Example) -> Example:
    """The example as `{"messages": […]}` and nothing else; an instruct example's input follows its instruction."""
    if "messages" in example:
        return {"messages": example["messages"]}
    asked = "\n\n".join(part for part in (example["instruction"], example.get("input")) if part)
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": example["output"]}]}


def to_prompt_completion(example: Example) -> Example:
    """The example as `{"prompt": […], "completion": […]}`.

    The last answer is the completion: earlier answers of a longer conversation are context that is not trained on.
    """
    messages = to_chat(example)["messages"]
    return {"prompt": messages[:-1], "completion": messages[-1:]}


def canonical(example: Example) -> bytes:
    """The content as bytes: equal for equal content, whatever the format, the order of keys or the spacing."""
    return json.dumps(to_chat(example), ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def fingerprint(example: Example) -> str:
    """Enough of the content's SHA-256 to tell the examples of one dataset apart."""
    return hashlib.sha256(canonical(example)).hexdigest()[:16]


def write_examples(path: Path, examples: Iterable[Example]) -> int:
    """Write a dataset folder or a .jsonl file, whole or not at all, and return how many examples it holds."""
    folder, name = (path.parent, path.name) if path.suffix == ".jsonl" else (path, EXAMPLES)
    with JsonlWriter(folder / name) as writer:
        for example in examples:
            writer.write(example)
    return writer.count


class JsonlWriter:
    """A JSONL file that is complete or absent: it takes its name when the block ends without an error."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._part = path.with_name(f".{path.name}.part")
        self._file: BinaryIO

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part.open("wb")
        return self

    def write(self, row: Example) -> None:
        self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self.count += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
        if kind is None:
            self._part.replace(self.path)
        else:
            self._part.unlink()


class DatasetWriter:
    """A dataset folder in the making: examples, and their origins where they are known."""

    def __init__(self, folder: Path) -> None:
        self._examples = JsonlWriter(folder / EXAMPLES)
        self._origins = JsonlWriter(folder / ORIGINS)

    @property
    def count(self) -> int:
        return self._examples.count

    def __enter__(self) -> Self:
        self._examples.__enter__()
        self._origins.__enter__()
        return self

    def write(self, example: Example, origin: Origin | None = None) -> None:
        self._examples.write(example)
        if origin is not None:
            self._origins.write({"example": fingerprint(example), **asdict(origin)})

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._origins.__exit__(kind, error, at)
        if not self._origins.count:
            self._origins.path.unlink(missing_ok=True)
        self._examples.__exit__(kind, error, at)


def _read_objects(file: Path) -> Iterator[tuple[int, Example]]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            raw = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if not raw.strip():
                continue
            yield number, _parse(file, number, raw.rstrip())


def _parse(file: Path, number: int, raw: bytes) -> Example:
    try:
        value = json.loads(raw.decode())
    except UnicodeDecodeError as error:
        raise _unfit(file, number, f"byte {error.start + 1} is not UTF-8; save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        raise _unfit(file, number, f"not JSON: {error.msg} at column {error.colno}") from error
    except ValueError as error:
        raise _unfit(file, number, f"holds a number that is too long: {error}") from error
    except RecursionError as error:
        raise _unfit(file, number, "nested too deeply to be an example") from error
    if not isinstance(value, dict):
        raise _unfit(file, number, f"expected an object in braces, found {type(value).__name__}")
    return value


def _origin(file: Path, number: int, row: Example) -> Origin:
    for known in fields(Origin):
        kind = str if known.name == "document" else int
        if type(row.get(known.name)) is not kind:
            found = type(row[known.name]).__name__ if known.name in row else "nothing"
            wanted = "a text" if kind is str else "a whole number"
            raise _unfit(file, number, f"{known.name}: must be {wanted}, found {found}; prepare the dataset again")
    return Origin(**{known.name: row[known.name] for known in fields(Origin)})


def _apart(file: Path, number: int) -> Permanent:
    where = f"line {number}" if number else "its end"
    return Permanent(
        f"{file} {where}: tells the origin of another example than {EXAMPLES} has in its place; "
        f"remove {ORIGINS} or prepare the dataset again",
        cause=Cause.DATA,
    )


def _unfit(file: Path, number: int, problem: str) -> Permanent:
    return Permanent(f"{file} line {number}: {problem}", cause=Cause.DATA)
