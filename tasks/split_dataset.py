"""`dataset.split`: a dataset becomes what is trained on and what is held out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from queue_app.errors import Permanent
from queue_app.job_type import ArtifactRef, Attempt, Result, Spec, job
from queue_app.lifecycle import Cause
from tasks.data.examples import read_examples
from tasks.data.splitting import GroupBy, choose_cut, key_of, verify_apart
from tasks.data.statistics import distribution, write_statistics
from tasks.data.writing import DatasetWriter

LOOK_EXAMPLES = 1000  # between two looks at whether to go on


class SplitDataset(Spec):
    """Which dataset, and how much of it is held out."""

    source: ArtifactRef = Field(description="a dataset artifact, a folder with examples.jsonl, or a .jsonl file")
    holdout: float = Field(
        0.1, gt=0, allow_inf_nan=False, description="share to hold out, or from 1 on the number of examples"
    )
    seed: int = Field(0, description="another seed, another choice")
    group_by: GroupBy = Field(
        "example",
        description="what stays together: equal examples; all with the same answer; or all pieces of one document",
    )

    @field_validator("holdout")
    @classmethod
    def _share_or_number(cls, holdout: float) -> float:
        if holdout > 1 and holdout != int(holdout):
            raise ValueError("from 1 on this is a number of examples, and must be a whole one")
        return holdout


class DividedDataset(Result):
    """The two sides; no example is in both."""

    train: str = Field(description="artifact id")
    holdout: str = Field(description="artifact id")
    examples: int
    train_examples: int
    holdout_examples: int
    duplicates: int = Field(description="examples that repeat another of the same side word for word; they are kept")
    shared_answers: int = Field(description="held-out examples with an answer that also answers something in training")


@job("dataset.split", queues=("cpu",))
def split_dataset(spec: SplitDataset, attempt: Attempt) -> DividedDataset:
    """Divide a dataset into training and holdout by the content of its examples."""
    source = attempt.artifacts.resolve(spec.source)
    cut = choose_cut(read_examples(source), spec.holdout, spec.seed, spec.group_by)
    sides = train, holdout = attempt.workdir / "train", attempt.workdir / "holdout"
    sizes: dict[Path, list[int]] = {side: [] for side in sides}
    for side in sides:
        shutil.rmtree(side, ignore_errors=True)
    with DatasetWriter(train) as to_train, DatasetWriter(holdout) as to_holdout:
        for number, example in enumerate(read_examples(source)):
            held = cut.holds_out(example)
            (to_holdout if held else to_train).write(example)
            if example.origin is not None:
                sizes[holdout if held else train].append(example.origin.tokens)
            if number % LOOK_EXAMPLES == 0:
                attempt.report(examples=number)
    counts = {train: to_train.count, holdout: to_holdout.count}
    _refuse_empty(spec, source, counts[train], counts[holdout])
    overlap = verify_apart(train, holdout)
    for side in sides:
        write_statistics(side, _figures(spec, counts[side], sizes[side]), sizes[side])
    return DividedDataset(
        train=attempt.artifacts.publish(train, kind="dataset"),
        holdout=attempt.artifacts.publish(holdout, kind="dataset"),
        examples=sum(counts.values()),
        train_examples=counts[train],
        holdout_examples=counts[holdout],
        duplicates=overlap.duplicates,
        shared_answers=overlap.shared_answers,
    )


def _refuse_empty(spec: SplitDataset, source: Path, train: int, holdout: int) -> None:
    if train and holdout:
        return
    if len({key_of(example, spec.seed, spec.group_by) for example in read_examples(source)}) == 1:
        raise Permanent(
            f"there is only 1 distinct {spec.group_by} in {train + holdout} examples, and equal ones stay together: "
            f"nothing can be held out; give more data{'' if spec.group_by == 'example' else ', or group_by=example'}",
            cause=Cause.DATA,
        )
    side, change = ("holdout", "larger") if not holdout else ("training", "smaller")
    ungroup = "group_by=example, " if spec.group_by != "example" else ""
    raise Permanent(
        f"with holdout={spec.holdout:g}, seed={spec.seed} and group_by={spec.group_by} none of {train + holdout} "
        f"examples is left for {side}; take a {change} holdout (1 or more is a number of examples), {ungroup}"
        "another seed, or more data",
        cause=Cause.DATA,
    )


def _figures(spec: SplitDataset, examples: int, sizes: list[int]) -> dict[str, Any]:
    chosen = {"holdout": spec.holdout, "seed": spec.seed, "group_by": spec.group_by}
    return {"examples": examples, "split": chosen} | (distribution(sizes) if sizes else {})
