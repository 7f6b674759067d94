"""Examples that a model here can be trained and measured on, and the rows that the trainer reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from queue_app.errors import Permanent
from queue_app.lifecycle import Cause
from tasks.data.reading import BadRow, data_file, read_rows
from tasks.data.rules import problem_of
from tasks.data.writing import JsonlWriter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.data.record import Record


def read_examples(source: Path) -> Iterator[Record]:
    """Every record of a dataset folder or a file, in order, each of them one that can be trained on.

    Raises:
        Permanent: no such file, no row in it, or one that is no example; names file, line and field
    """
    found = False
    for row in read_rows(source):
        if isinstance(row, BadRow):
            raise Permanent(str(row), cause=Cause.DATA)
        if problem := problem_of(row.record):
            raise Permanent(f"{row.file} line {row.line}: {problem}", cause=Cause.DATA)
        found = True
        yield row.record
    if not found:
        raise Permanent(f"{data_file(source)} holds no example; a dataset needs at least one line", cause=Cause.DATA)


def turns(record: Record) -> list[dict[str, Any]]:
    """The messages as role and content, which is all that `read_examples` lets through."""
    return [{"role": message.role, "content": message.content} for message in record.messages]


def write_prompts_and_completions(path: Path, source: Path) -> int:
    """Write the examples of `source` as `{"prompt": […], "completion": […]}` and return how many carry a weight.

    The last answer is the completion: earlier answers of a longer conversation are context that is not trained on.
    Weights do not reach the trainer, so they are counted.
    """
    weighted = 0
    with JsonlWriter(path) as writer:
        for record in read_examples(source):
            messages = turns(record)
            writer.write({"prompt": messages[:-1], "completion": messages[-1:]})
            weighted += record.weight not in (None, 1.0) or any(m.weight is not None for m in record.messages)
    return weighted
