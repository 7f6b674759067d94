"""Examples that a model here can be trained and measured on, and the rows that the trainer reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from queue_app.errors import Permanent
from queue_app.lifecycle import Cause
from tasks.data.reading import BadRow, data_file, read_rows
from tasks.data.rules import problem_of, problem_of_preference
from tasks.data.writing import JsonlWriter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.data.record import Record


def read_examples(source: Path, *, preferences: bool = False) -> Iterator[Record]:
    """Every record of a dataset folder or a file, in order, each of them one that can be trained on.

    `preferences`: each has a better and a worse answer.

    Raises:
        Permanent: no such file, no row in it, or one that is no example; names file, line and field
    """
    found = False
    for row in read_rows(source):
        if isinstance(row, BadRow):
            raise Permanent(str(row), cause=Cause.DATA)
        if problem := (problem_of_preference if preferences else problem_of)(row.record):
            raise Permanent(f"{row.file} line {row.line}: {problem}", cause=Cause.DATA)
        found = True
        yield row.record
    if not found:
        raise Permanent(f"{data_file(source)} holds no example; a dataset needs at least one line", cause=Cause.DATA)


def turns(record: Record) -> list[dict[str, Any]]:
    """The messages as role and content, which is all that `read_examples` lets through."""
    return [{"role": message.role, "content": message.content} for message in record.messages]


def write_prompts_and_completions(path: Path, source: Path) -> None:
    """Write the examples of `source` as `{"prompt": […], "completion": […]}`, the last answer being the completion.

    An example that counts more or less than 1 has a `weight`, and so has a message that says whether it is learned.
    """
    with JsonlWriter(path) as writer:
        for record in read_examples(source):
            messages = turns(record)
            for turn, message in zip(messages, record.messages, strict=True):
                if message.weight is not None:
                    turn["weight"] = message.weight
            weight = {} if record.weight in (None, 1) else {"weight": record.weight}
            writer.write({"prompt": messages[:-1], "completion": messages[-1:], **weight})


def write_preferences(path: Path, source: Path) -> None:
    """Write the preferences of `source` as `{"prompt": […], "chosen": […], "rejected": […]}`."""
    with JsonlWriter(path) as writer:
        for record in read_examples(source, preferences=True):
            messages = turns(record)
            rejected = [{"role": message.role, "content": message.content} for message in record.rejected]
            writer.write({"prompt": messages[:-1], "chosen": messages[-1:], "rejected": rejected})
