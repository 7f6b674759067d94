"""Prompt/completion rows as token ids: the one place where training and evaluation learn what the completion is.

Imported in child processes alone, because the chat templates need a tokenizer.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from queue_app.errors import Permanent
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Row = dict[str, Any]  # {"number", "prompt": [{"role", "content"}, …], "completion": [{"role", "content"}]}


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file, each with its `number` from 1 on."""
    with path.open(encoding="utf-8", newline="\n") as lines:  # a string may hold any other character that ends lines
        for number, line in enumerate(lines, start=1):
            yield {**json.loads(line), "number": number}


def encode(tokenizer: Any, row: Row) -> tuple[list[int], int]:
    """The ids of a whole example in the model's own chat format, and where its completion begins (1 or later).

    A template may end the prompt differently once an answer follows, and a token may cover the end of the prompt and
    the answer's first characters: what is equal with and without the answer is prompt.

    Raises:
        Permanent: the chat template refuses the row; names it
    """
    try:
        prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=True)
        whole = tokenizer.apply_chat_template(row["prompt"] + row["completion"], return_dict=True)
    except TemplateError as error:
        roles = ", ".join(turn["role"] for turn in row["prompt"])
        raise Permanent(
            f"example {row['number']} (roles: {roles}): the model's chat template refuses it ({error}); change the "
            "example's roles, or take a base model whose template accepts them",
            cause=Cause.DATA,
        ) from error
    ids: list[int] = whole["input_ids"]
    pairs = zip(prompt["input_ids"], ids, strict=False)
    shared = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(prompt["input_ids"]), len(ids)))
    return ids, max(1, shared)
