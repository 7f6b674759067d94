"""A run with TRL's trainers, whoever loads the model: TRL as it is, or as Unsloth has changed it.

Import it after the engine, in the child alone.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Protocol

import torch
from transformers import set_seed

from gpu_worker import base_model, checkpoints, ranks, sft
from gpu_worker.child_side import Stopped
from gpu_worker.chosen_step import choose_step
from gpu_worker.material import check_ids, count_examples, read_sets
from gpu_worker.measured import Measured, history_holdout_losses, history_losses
from gpu_worker.watch import Watch, holdout_losses

if TYPE_CHECKING:
    from pathlib import Path

    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

    from gpu_worker.backends.hardware import Hardware
    from gpu_worker.child_side import Channel
    from gpu_worker.training_config import TrainingConfig, TrainingOrder

log = logging.getLogger(__name__)
TORCH_NAMES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


class Loader(Protocol):
    """The module of an engine that loads a model. Importing it imports the engine."""

    PACKAGES: tuple[str, ...]  # whose versions belong to what was measured
    LOSS: str  # TRL's `loss_type`

    def load(
        self, folder: Path, config: TrainingConfig, hardware: Hardware
    ) -> tuple[PeftModel | PreTrainedModel, PreTrainedTokenizerBase]:
        """The base model with a fresh adapter on it, or for a `full` run itself, ready to train, and its tokenizer.

        Raises:
            Permanent: this machine cannot do what the config asks
        """


def train_with(
    engine: Loader, order: TrainingOrder, channel: Channel, checkpoint: Path | None, hardware: Hardware
) -> Measured:
    """Train and write the adapter or model; see `Backend.train`."""
    hyper = order.hyperparameters
    if hyper.objective == "dpo" and hardware.on_cpu:  # sums of log-probabilities: bfloat16 has steps of 0.25 at 50
        hardware = replace(hardware, dtype=torch.float32)
    set_seed(hyper.seed)
    model, tokenizer = engine.load(order.model_folder, hyper, hardware)
    channel.progress(phase="tokenising")
    sets = read_sets(order, tokenizer, channel)
    check_ids(sets, rows=model.get_input_embeddings().weight.shape[0])
    arguments = (
        sft.dpo_arguments(order, hardware, evaluates=len(sets) > 1)
        if hyper.objective == "dpo"
        else sft.sft_arguments(order, hardware, evaluates=len(sets) > 1, loss=_loss(engine, hyper))
    )
    trainer = sft.build_trainer(model, tokenizer, arguments, [each.dataset for each in sets])
    filling = -len(sets[0].dataset) % (hyper.micro_batch_size * hyper.cards)
    if hyper.objective == "dpo" and hyper.cards > 1 and filling:
        log.warning("%d of the preferences are learned twice an epoch, so that all cards learn as many", filling)
    watch = Watch(channel, order, count_examples(sets))
    trainer.add_callback(watch)
    log.info("%s on %s, from %s", order.engine, hardware.name, checkpoint or "the start")
    if not sft.finish(trainer, checkpoint, channel):
        raise Stopped
    state = trainer.state
    step = int(state.global_step)
    if ranks.is_first():
        step = _take(trainer, order)
        _save(model, tokenizer, order)
    return Measured(
        device=hardware.device,
        device_name=hardware.name,
        dtype=str(hardware.dtype).removeprefix("torch."),
        versions={name: version(name) for name in engine.PACKAGES},
        steps=state.global_step,
        epochs=round(state.epoch or 0.0, 2),
        losses=history_losses(state.log_history),
        holdout_losses=history_holdout_losses(state.log_history),
        published_step=step,
        trained_tokens=int(state.num_input_tokens_seen),
        tokens_per_second=watch.tokens_per_second,
        training_seconds=round(watch.seconds, 1),
        **count_examples(sets),
    )


def _take(trainer: Trainer, order: TrainingOrder) -> int:
    """Put the weights of the checkpoint that is to be published into the model; its step."""
    last = int(trainer.state.global_step)
    step = choose_step(order, last, holdout_losses(trainer.state), evaluates=order.holdout_rows is not None)
    if step != last:
        trainer._load_from_checkpoint(str(checkpoints.at_step(order.checkpoints, step)))
    return step


def _loss(engine: Loader, hyper: TrainingConfig) -> str:
    """TRL cannot compute the loss in chunks through a head that has an adapter itself."""
    return "nll" if "lm_head" in hyper.target_modules else engine.LOSS


def _save(model: PeftModel | PreTrainedModel, tokenizer: PreTrainedTokenizerBase, order: TrainingOrder) -> None:
    """Write the model, in the base's type, or the adapter: without the card that PEFT leaves to be filled in."""
    shutil.rmtree(order.output, ignore_errors=True)
    if order.hyperparameters.method == "full":
        model.to(getattr(torch, TORCH_NAMES.get(base_model.read_model(order.model_folder).dtype, "float32")))
        model.save_pretrained(order.output)
        tokenizer.save_pretrained(order.output)
        for path in order.output.glob("*.safetensors"):
            path.chmod(0o644)
        return
    model.peft_config["default"].base_model_name_or_path = order.base_model
    model.save_pretrained(order.output, save_embedding_layers=False)
    (order.output / "README.md").unlink(missing_ok=True)
    (order.output / "adapter_model.safetensors").chmod(0o644)  # safetensors leaves it to its owner alone
