"""Rows as tensors' contents: which tokens of an example are learned, and how much the example counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset

from gpu_worker.completions import encode, learned, read_rows
from queue_app.errors import Invalid, Permanent
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from gpu_worker.completions import Row
    from gpu_worker.training_config import RunConfig, TrainOn

LOOK_ROWS = 200  # a fraction of a second
IGNORED = -100  # the label that carries no loss


@dataclass(frozen=True)
class Tokenised:
    """Examples as token ids, with labels where they are learned."""

    dataset: Dataset
    examples: int
    truncated: int  # longer than sequence_len: the end is cut off
    dropped: int  # the prompt alone fills sequence_len, so there is nothing to learn
    weightless: int = 0  # of weight 0: left out, so that they change nothing


@dataclass(frozen=True)
class _Example:
    ids: NDArray[np.int32]
    labels: NDArray[np.int32]
    weight: float


GoOn = Callable[[], object]  # called every so often: says that it lives, and may raise to end it


def _always() -> None: ...


def tokenise(
    rows: Path,
    tokenizer: PreTrainedTokenizerBase,
    sequence_len: int,
    train_on: TrainOn | None = None,
    go_on: GoOn = _always,
) -> Tokenised:
    """Read rows of `{"prompt": […], "completion": […]}` in the model's own chat format.

    Without `train_on` they are a holdout: measured on the completion, each token the same, as an evaluation does.

    Raises:
        Invalid: the tokenizer has no chat template
        Permanent: no example is left, or the chat template refuses one
    """
    _check_template(tokenizer)
    kept: list[_Example] = []
    truncated = dropped = weightless = 0
    for row in _watched(rows, go_on):
        weight = 1.0 if train_on is None else float(row.get("weight", 1))
        ids, stretches = _measured(tokenizer, row) if train_on is None else learned(tokenizer, row, train_on)
        if weight == 0 or not stretches:
            weightless += 1
            continue
        labels = np.full(len(ids), IGNORED, np.int32)
        for begin, end in stretches:
            labels[begin:end] = ids[begin:end]
        if not (labels[1:sequence_len] != IGNORED).any():
            dropped += 1
            continue
        truncated += len(ids) > sequence_len
        kept.append(_Example(np.asarray(ids[:sequence_len], np.int32), labels[:sequence_len], weight))
    if not kept:
        raise _nothing_left("holdout" if train_on is None else "training", dropped, weightless, sequence_len)
    columns: dict[str, list[Any]] = {"input_ids": [e.ids for e in kept], "labels": [e.labels for e in kept]}
    if any(example.weight != 1 for example in kept):
        columns["weight"] = [example.weight for example in kept]
    return Tokenised(Dataset.from_dict(columns), len(kept), truncated, dropped, weightless)


def tokenise_preferences(
    rows: Path, tokenizer: PreTrainedTokenizerBase, sequence_len: int, name: str, go_on: GoOn = _always
) -> Tokenised:
    """Read rows of `{"prompt": […], "chosen": […], "rejected": […]}` in the model's own chat format.

    Raises: as `tokenise`
    """
    _check_template(tokenizer)
    kept: dict[str, list[list[int]]] = {"prompt_ids": [], "chosen_ids": [], "rejected_ids": []}
    truncated = dropped = 0
    for row in _watched(rows, go_on):
        chosen, one = encode(tokenizer, row | {"completion": row["chosen"]})
        rejected, other = encode(tokenizer, row | {"completion": row["rejected"]})
        start = min(one, other)
        if start >= sequence_len:
            dropped += 1
            continue
        truncated += max(len(chosen), len(rejected)) > sequence_len
        kept["prompt_ids"].append(chosen[:start])
        kept["chosen_ids"].append(chosen[start:sequence_len])
        kept["rejected_ids"].append(rejected[start:sequence_len])
    if not kept["prompt_ids"]:
        raise _nothing_left(name, dropped, 0, sequence_len)
    return Tokenised(Dataset.from_dict(kept), len(kept["prompt_ids"]), truncated, dropped)


def pack(tokenised: Tokenised, config: RunConfig) -> Tokenised:
    """Let examples share rows of `sequence_len` tokens, as `packing` says.

    Raises:
        Invalid: the examples count differently, and a row has one weight only
    """
    if config.packing == "none":
        return tokenised
    if "weight" in tokenised.dataset.column_names:
        raise Invalid(
            f"packing: {config.packing} lays examples together in one row, and these count differently; take packing: "
            "none, or leave the weights out"
        )
    if config.packing == "wrapped":
        rows = _wrapped(tokenised.dataset, config.sequence_len)
        packed = Dataset.from_dict({"input_ids": [ids for ids, _ in rows], "labels": [labels for _, labels in rows]})
    else:
        from trl import pack_dataset

        packed = pack_dataset(tokenised.dataset, config.sequence_len, "bfd")
    return Tokenised(packed, tokenised.examples, tokenised.truncated, tokenised.dropped, tokenised.weightless)


def _wrapped(dataset: Dataset, sequence_len: int) -> list[tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """All examples end to end, cut every `sequence_len` tokens; (ids, labels) of each row in which some are learned."""
    ids = np.concatenate([np.asarray(values, np.int32) for values in dataset["input_ids"]])
    labels = np.concatenate([np.asarray([IGNORED, *values[1:]], np.int32) for values in dataset["labels"]])
    cuts = range(0, len(ids), sequence_len)
    rows = [(ids[cut : cut + sequence_len], labels[cut : cut + sequence_len]) for cut in cuts]
    return [(some, targets) for some, targets in rows if (targets[1:] != IGNORED).any()]


def _watched(rows: Path, go_on: GoOn) -> Iterator[Row]:
    for row in read_rows(rows):
        if row["number"] % LOOK_ROWS == 1:
            go_on()
        yield row


def _measured(tokenizer: PreTrainedTokenizerBase, row: Row) -> tuple[list[int], list[tuple[int, int]]]:
    ids, start = encode(tokenizer, row)
    return ids, [(start, len(ids))]


def _check_template(tokenizer: PreTrainedTokenizerBase) -> None:
    if tokenizer.chat_template is None:
        raise Invalid("the base model's tokenizer has no chat template; take an instruct model, or add the template")


def _nothing_left(name: str, dropped: int, weightless: int, sequence_len: int) -> Permanent:
    beside = f", and {weightless} more have weight 0" if weightless else ""
    return Permanent(
        f"none of the {dropped} {name} examples can be used: each prompt alone fills sequence_len {sequence_len}; "
        f"raise sequence_len or prepare shorter prompts{beside}"
        if dropped
        else f"all {weightless} {name} examples have weight 0, so there is nothing to learn",
        cause=Cause.DATA,
    )
