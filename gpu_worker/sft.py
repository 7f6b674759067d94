"""TRL's trainers as every engine uses them: their arguments, and how a run is built and brought to its end.

Import it after the engine, in the child alone.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from transformers import TrainerState
from trl import DPOConfig, DPOTrainer, SFTConfig

from gpu_worker import ranks
from gpu_worker.weighted_trainer import WeightedCollator, WeightedTrainer

if TYPE_CHECKING:
    from pathlib import Path

    from datasets import Dataset
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

    from gpu_worker.backends.hardware import Hardware
    from gpu_worker.child_side import Channel
    from gpu_worker.training_config import TrainingConfig, TrainingOrder


def build_trainer(
    model: PeftModel | PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    arguments: SFTConfig | DPOConfig,
    data: list[Dataset],
) -> Trainer:
    """A trainer over the train set and, where there is a second one in `data`, the holdout."""
    told: dict[str, Any] = {
        "model": model,
        "args": arguments,
        "train_dataset": data[0],
        "eval_dataset": data[1] if len(data) > 1 else None,
        "processing_class": tokenizer,
    }
    trainer: Trainer
    if isinstance(arguments, DPOConfig):
        trainer = TokenisedPreferences(**told)
        if "ref" in getattr(model, "peft_config", {}):  # a copy of the fresh adapter, which changes nothing: the base
            model.delete_adapter("ref")
    else:
        trainer = WeightedTrainer(**told)
        trainer.data_collator = WeightedCollator(trainer.data_collator)
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:  # TRL makes QLoRA adapters bfloat16, which a resume cannot restore bit for bit
            parameter.data = parameter.data.float()
    return trainer


class TokenisedPreferences(DPOTrainer):
    """The trainer of preferences, on rows that are tokens already."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


def sft_arguments(order: TrainingOrder, hardware: Hardware, *, evaluates: bool, loss: str) -> SFTConfig:
    """The order in the words of TRL's SFTTrainer."""
    return SFTConfig(
        **_arguments(order, hardware, evaluates=evaluates),
        max_length=order.hyperparameters.sequence_len,
        loss_type=loss,
        packing=order.hyperparameters.packing == "bfd",  # the rows are packed already: this tells where examples begin
        dataset_kwargs={"skip_prepare_dataset": True},
    )


def dpo_arguments(order: TrainingOrder, hardware: Hardware, *, evaluates: bool) -> DPOConfig:
    """The order in the words of TRL's DPOTrainer."""
    config = order.hyperparameters
    return DPOConfig(
        **_arguments(order, hardware, evaluates=evaluates),
        max_length=config.sequence_len,
        beta=config.dpo_beta,
        # what a full run is compared with is a second copy of the base, in the numbers of the first
        model_init_kwargs={"dtype": "float32"} if config.method == "full" else None,
    )


def _arguments(order: TrainingOrder, hardware: Hardware, *, evaluates: bool) -> dict[str, Any]:
    """What all trainers are told, with everything set that TRL would otherwise choose for a GPU."""
    config = order.hyperparameters
    recompute = config.gradient_checkpointing
    return dict(  # noqa: C408 - these are the names of arguments
        output_dir=str(order.checkpoints),
        per_device_train_batch_size=config.micro_batch_size,
        per_device_eval_batch_size=_eval_batch(config),
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        max_steps=config.max_steps or -1,
        num_train_epochs=config.epochs or 1,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.scheduler,
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim=config.optimizer,
        seed=config.seed,
        use_cpu=hardware.on_cpu,
        bf16=str(hardware.dtype) == "torch.bfloat16" and not hardware.on_cpu,
        fp16=str(hardware.dtype) == "torch.float16",
        gradient_checkpointing=not hardware.on_cpu if recompute is None else recompute,
        dataloader_pin_memory=not hardware.on_cpu,
        logging_steps=1,
        logging_nan_inf_filter=False,  # a loss that is no number ends the run instead of being shown as zero
        include_num_input_tokens_seen="non_padding",
        save_strategy="steps",
        save_steps=config.save_steps,
        save_total_limit=None,  # `Watch` removes old ones, after the new one is complete
        eval_strategy="steps" if evaluates else "no",
        eval_steps=config.save_steps if evaluates else None,
        prediction_loss_only=True,
        report_to=list(config.report_to) or "none",
        run_name=order.name,
        ddp_find_unused_parameters=False,  # each takes part in every pass
        ddp_broadcast_buffers=False,  # they are alike in all ranks, and a broadcast in each pass would count the passes
        disable_tqdm=True,
    )


def _eval_batch(config: TrainingConfig) -> int:
    """Examples of the holdout in one pass: no more than in training, since the logits of larger batches take gigabytes.

    One by one where preferences are shared out among cards: what fills up the last round is then dropped as a whole.
    """
    return 1 if config.cards > 1 and config.objective == "dpo" else config.micro_batch_size


def finish(trainer: Trainer, checkpoint: Path | None, channel: Channel) -> bool:
    """Train from a checkpoint or the start; False: it was asked to stop, and has saved."""
    if ranks.any_of(channel.stop_requested) and checkpoint is not None:
        return False
    if checkpoint is not None and _is_last(checkpoint):  # `train` would take one step more
        trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        trainer._load_from_checkpoint(str(checkpoint))
    else:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return bool(trainer.state.global_step >= trainer.state.max_steps)


def _is_last(checkpoint: Path) -> bool:
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return bool(state["global_step"] >= state["max_steps"])
