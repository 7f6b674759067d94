"""What a run is trained on and what it is held against, and how much of it could be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.compute as pc

from gpu_worker.child_side import Stopped
from gpu_worker.tokenising import pack, tokenise, tokenise_preferences
from queue_app.errors import Invalid

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from gpu_worker.child_side import Channel
    from gpu_worker.tokenising import Tokenised
    from gpu_worker.training_config import TrainingOrder


def read_sets(order: TrainingOrder, tokenizer: PreTrainedTokenizerBase, channel: Channel) -> list[Tokenised]:
    """What is trained on, and after it what is held out, if there is something.

    Raises:
        Stopped: it was asked to, and nothing was done yet that is not in a checkpoint
    """
    hyper, holdout = order.hyperparameters, order.holdout_rows

    def go_on() -> None:
        if channel.stop_requested:
            raise Stopped
        channel.progress()  # a large dataset is no stall

    if hyper.objective == "dpo":
        named = (("training", order.rows), ("holdout", holdout))
        return [tokenise_preferences(rows, tokenizer, hyper.sequence_len, name, go_on) for name, rows in named if rows]
    learned = pack(tokenise(order.rows, tokenizer, hyper.sequence_len, hyper.train_on, go_on), hyper)
    return [learned] if holdout is None else [learned, tokenise(holdout, tokenizer, hyper.sequence_len, go_on=go_on)]


def check_ids(sets: list[Tokenised], *, rows: int) -> None:
    """See that the embedding has a row for every token: on a card, one without is an assert deep in a kernel.

    Raises:
        Invalid: a token has none
    """
    for each in sets:
        ids = (each.dataset.data.column(name) for name in each.dataset.column_names if name.endswith("_ids"))
        highest = max(pc.max(pc.list_flatten(column)).as_py() or 0 for column in ids)
        if highest >= rows:
            raise Invalid(
                f"the tokenizer gives the id {highest}, and the model's embedding has {rows} rows: they do not belong "
                "together, or tokens were added to one of them alone"
            )


def count_examples(sets: list[Tokenised]) -> dict[str, int]:
    """How many examples are trained on and held out, and what became of the others."""
    return {
        "examples": sets[0].examples,
        "truncated_examples": sets[0].truncated,
        "dropped_examples": sets[0].dropped,
        "weightless_examples": sets[0].weightless,
        "holdout_examples": sum(each.examples for each in sets[1:]),
    }
