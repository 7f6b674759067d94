"""TRL's SFTTrainer with examples that count more or less than others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from trl import SFTTrainer

from gpu_worker.tokenising import IGNORED
from queue_app.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Batch = dict[str, Any]


class WeightedCollator:
    """Carries the examples' weights beside their tokens, as plain numbers that need no way back from a card."""

    def __init__(self, collate: Callable[[list[Batch]], Batch]) -> None:
        self.collate = collate

    def __call__(self, examples: list[Batch]) -> Batch:
        batch = self.collate(examples)
        if "weight" in examples[0]:
            batch["weights"] = [float(example["weight"]) for example in examples]
        return batch


class WeightedTrainer(SFTTrainer):
    """The trainer whose loss of a step is the weighted mean over the learned tokens of all its examples.

        sum_i w_i sum_t -log p(t of i) / sum_i w_i n_i

    with w_i the weight of example i and n_i the number of its learned tokens, over all micro-batches of the step (and
    all cards). So a constant factor in all weights changes nothing, and an example of weight 2 counts like two of it.

    Every engine's own loss divides the sum over tokens by a number it is handed; handed sum_i w_i n_i / w, it gives the
    share of examples of weight w. So fused and chunked losses stay as they are. A micro-batch of several weights takes
    a forward pass for each of them; over several cards one for each example, so that all cards make equally many. Not
    covered: the router's own loss of a mixture of experts, which is added in each.

    The holdout's loss is the mean over tokens, not over batches of unequal length, and knows no weights.
    """

    nats, tokens = 0.0, 0  # of the holdout, in this rank
    looks, held_out = 0, 0

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if "weight" not in self._signature_columns:
            self._signature_columns.append("weight")

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Batch], Any]:
        batches, tokens = super().get_batch_samples(*args, **kwargs)
        if not any("weights" in batch for batch in batches):
            return batches, tokens
        if tokens is None:
            raise Invalid("this model's loss cannot be weighted; leave the weights of the examples out")
        counted = sum((_learned(batch) * torch.tensor(batch["weights"])).sum() for batch in batches)
        total = counted.to(tokens.device)
        if self.args.world_size > 1:
            total = self.accelerator.gather(total).sum()
        return batches, total

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        weights = inputs.pop("weights", None)
        if weights is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        losses = [
            super(WeightedTrainer, self).compute_loss(model, part, num_items_in_batch=num_items_in_batch / weight)
            for weight, part in (_one_by_one if self.args.world_size > 1 else _by_weight)(inputs, weights)
        ]
        return sum(losses[1:], start=losses[0])

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: Any) -> Any:
        """None in a look at the holdout: each rank's loss there is the mean over its own tokens, put together below."""
        if self.held_out:
            return None
        if self.args.world_size > 1 and self.accelerator.gradient_state.end_of_dataloader:
            self._learn_no_filling(batch_samples[-1])
        return super()._get_num_items_in_batch(batch_samples, device)

    def _learn_no_filling(self, batch: Batch) -> None:
        """Ignore the examples, from the start of the epoch, that give all ranks a whole batch in its last round."""
        # examples of that round, 0: it is full; accelerate loses count of them in an epoch that a resume enters midway
        left = len(self.train_dataset) % (self.args.train_batch_size * self.args.world_size)
        own = left - self.args.process_index * self.args.train_batch_size
        if left > 0:
            batch["labels"][max(0, own) :] = IGNORED

    def prediction_step(self, model: Any, inputs: Batch, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        own = self._own(len(inputs["labels"]))
        inputs = {name: value[: max(1, own)] if torch.is_tensor(value) else value for name, value in inputs.items()}
        tokens = int((inputs["labels"][:own, 1:] != IGNORED).sum())  # labels: (examples, tokens)
        answer: tuple[Any, ...] = super().prediction_step(model, inputs, *args, **kwargs)
        self.nats += float(answer[0]) * tokens if tokens else 0.0
        self.tokens += tokens
        return answer

    def _own(self, examples: int) -> int:
        """How many of the next batch's examples count here; the others, from the start, fill up the last round."""
        before = (self.looks * self.args.world_size + self.args.process_index) * self.args.eval_batch_size
        self.looks += 1
        return int(min(examples, max(0, self.held_out - before)))

    def evaluation_loop(self, dataloader: Any, *args: Any, **kwargs: Any) -> Any:
        self.nats, self.tokens, self.looks, self.held_out = 0.0, 0, 0, self.num_examples(dataloader)
        output = super().evaluation_loop(dataloader, *args, **kwargs)
        self.held_out = 0
        sums = torch.tensor([self.nats, self.tokens], dtype=torch.float64)
        if self.args.world_size > 1:
            sums = self.accelerator.reduce(sums.to(self.args.device), "sum")
        output.metrics["eval_loss"] = float(sums[0] / sums[1])
        return output


def _learned(batch: Batch) -> torch.Tensor:
    """How many tokens of each example are learned; (examples,)."""
    return (batch["labels"][:, 1:] != IGNORED).sum(1).cpu()


def _by_weight(inputs: Batch, weights: list[float]) -> Iterator[tuple[float, Batch]]:
    """The examples of each weight; inputs: (examples, tokens)."""
    distinct = sorted(set(weights))
    if len(distinct) == 1:
        yield distinct[0], inputs
        return
    for weight in distinct:
        chosen = [number for number, each in enumerate(weights) if each == weight]
        yield weight, {name: value[chosen] if torch.is_tensor(value) else value for name, value in inputs.items()}


def _one_by_one(inputs: Batch, weights: list[float]) -> Iterator[tuple[float, Batch]]:
    """Each example with its weight."""
    for number, weight in enumerate(weights):
        yield weight, {name: value[[number]] if torch.is_tensor(value) else value for name, value in inputs.items()}
