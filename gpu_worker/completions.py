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

    from gpu_worker.training_config import TrainOn

    Stretch = tuple[int, int]  # the first token and the one after the last

# {"number", "prompt": [{"role", "content", "weight"?}, …], "completion": [{"role", "content", "weight"?}], "weight"?}
Row = dict[str, Any]


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
    prompt = _render(tokenizer, row, row["prompt"], answered=True)
    ids = _render(tokenizer, row, row["prompt"] + row["completion"])
    return ids, max(1, _alike(prompt, ids))


def learned(tokenizer: Any, row: Row, train_on: TrainOn) -> tuple[list[int], list[Stretch]]:
    """The ids of a whole example, and the stretches of them that are learned.

    A message's own weight, 0 or 1, goes before `train_on`. Where a template writes an earlier answer differently once
    others follow, only what is equal either way is found.

    Raises:
        Permanent: the chat template refuses the row, or its beginning; names it
    """
    ids, start = encode(tokenizer, row)
    messages = row["prompt"] + row["completion"]
    last = len(messages) - 1
    wanted = [_is_learned(message, number == last, train_on) for number, message in enumerate(messages)]
    if train_on == "all" and all(wanted):
        return ids, [(0, len(ids))]  # with what the template writes around the messages
    stretches = []
    for number in (number for number, is_learned in enumerate(wanted) if is_learned):
        begin, end = start, len(ids)
        if number < last:
            answers = messages[number]["role"] == "assistant"
            before = _render(tokenizer, row, messages[:number], answered=answers) if number else []
            begin = _alike(before, ids)
            end = _alike(_render(tokenizer, row, messages[: number + 1]), ids)
        stretches.append((begin, end))
    return ids, stretches


def _is_learned(message: dict[str, Any], is_last: bool, train_on: TrainOn) -> bool:
    if (weight := message.get("weight")) is not None:
        return bool(weight)
    return train_on == "all" or (message["role"] == "assistant" and (is_last or train_on == "answers"))


def _render(tokenizer: Any, row: Row, messages: list[dict[str, Any]], *, answered: bool = False) -> list[int]:
    """The ids of some messages of a row; `answered`: up to where an answer begins."""
    told = [{name: value for name, value in message.items() if name != "weight"} for message in messages]
    try:
        made = tokenizer.apply_chat_template(told, add_generation_prompt=answered, return_dict=True)
    except TemplateError as error:
        roles = ", ".join(turn["role"] for turn in row["prompt"])
        raise Permanent(
            f"example {row['number']} (roles: {roles}): the model's chat template refuses it ({error}); change the "
            "example's roles, or take a base model whose template accepts them",
            cause=Cause.DATA,
        ) from error
    ids: list[int] = made["input_ids"]
    return ids


def _alike(beginning: list[int], ids: list[int]) -> int:
    """How many tokens both begin with."""
    pairs = zip(beginning, ids, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(beginning), len(ids)))
