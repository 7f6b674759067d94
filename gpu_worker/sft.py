"""Supervised fine-tuning with TRL's SFTTrainer: what every engine shares.

Import it after the backend (`load_backend`), in the child alone.
"""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset
from transformers import TrainerCallback, TrainerState
from trl import SFTConfig, SFTTrainer

from gpu_worker import checkpoints
from gpu_worker.completions import encode, read_rows
from queue_app.errors import Invalid, Permanent
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase, TrainerControl, TrainingArguments

    from gpu_worker.backends.hardware import Hardware
    from gpu_worker.child_side import Channel
    from gpu_worker.training_config import TrainingOrder

log = logging.getLogger(__name__)
IGNORED = -100  # the label that carries no loss


@dataclass(frozen=True)
class Tokenised:
    """Examples as token ids, the loss on the completion alone."""

    dataset: Dataset
    truncated: int  # longer than sequence_len: the completion's end is cut off
    dropped: int  # the prompt alone fills sequence_len, so there is nothing to learn


def tokenise(rows: Path, tokenizer: PreTrainedTokenizerBase, sequence_len: int, name: str = "training") -> Tokenised:
    """Read rows of `{"prompt": […], "completion": […]}` in the model's own chat format; `name` says which they are.

    Raises:
        Invalid: the tokenizer has no chat template
        Permanent: no example is left, or the chat template refuses one
    """
    if tokenizer.chat_template is None:
        raise Invalid("the base model's tokenizer has no chat template; take an instruct model, or add the template")
    kept: dict[str, list[NDArray[np.int32]]] = {"input_ids": [], "labels": []}
    truncated = dropped = 0
    for ids, prompt_length in (encode(tokenizer, row) for row in read_rows(rows)):
        if prompt_length >= sequence_len:
            dropped += 1
            continue
        truncated += len(ids) > sequence_len
        labels = [IGNORED] * prompt_length + ids[prompt_length:]
        kept["input_ids"].append(np.asarray(ids[:sequence_len], np.int32))
        kept["labels"].append(np.asarray(labels[:sequence_len], np.int32))
    if not kept["labels"]:
        raise Permanent(
            f"none of the {dropped} {name} examples can be used: each prompt alone fills sequence_len {sequence_len}; "
            "raise sequence_len or prepare shorter prompts",
            cause=Cause.DATA,
        )
    return Tokenised(Dataset.from_dict(kept), truncated, dropped)


class TokenWeighted(SFTTrainer):
    """The trainer, with a holdout loss that is the mean over tokens, not over batches of unequal length."""

    nats, tokens = 0.0, 0

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        tokens = int((inputs["labels"][:, 1:] != IGNORED).sum())  # labels: (examples, tokens)
        answer: tuple[Any, ...] = super().prediction_step(model, inputs, *args, **kwargs)
        self.nats += float(answer[0]) * tokens
        self.tokens += tokens
        return answer

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        self.nats, self.tokens = 0.0, 0
        output = super().evaluation_loop(*args, **kwargs)
        output.metrics["eval_loss"] = self.nats / self.tokens
        return output


def build_trainer(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, arguments: SFTConfig, data: list[Dataset]
) -> SFTTrainer:
    """A trainer over the train set and, where there is a second one in `data`, the holdout."""
    trainer = TokenWeighted(
        model=model,
        args=arguments,
        train_dataset=data[0],
        eval_dataset=data[1] if len(data) > 1 else None,
        processing_class=tokenizer,
    )
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:  # TRL makes QLoRA adapters bfloat16, which a resume cannot restore bit for bit
            parameter.data = parameter.data.float()
    return trainer


def arguments(order: TrainingOrder, hardware: Hardware, *, evaluates: bool, loss: str) -> SFTConfig:
    """The order in TRL's words, with everything set that TRL would otherwise choose for a GPU."""
    config = order.hyperparameters
    recompute = config.gradient_checkpointing
    return SFTConfig(
        output_dir=str(order.checkpoints),
        per_device_train_batch_size=config.micro_batch_size,
        per_device_eval_batch_size=config.micro_batch_size,  # the logits of larger batches take gigabytes
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
        max_length=config.sequence_len,
        loss_type=loss,
        use_cpu=hardware.on_cpu,
        bf16=str(hardware.dtype) == "torch.bfloat16" and not hardware.on_cpu,
        fp16=str(hardware.dtype) == "torch.float16",
        gradient_checkpointing=not hardware.on_cpu if recompute is None else recompute,
        dataloader_pin_memory=not hardware.on_cpu,
        dataset_kwargs={"skip_prepare_dataset": True},
        logging_steps=1,
        logging_nan_inf_filter=False,  # a loss that is no number ends the run instead of being shown as zero
        include_num_input_tokens_seen="non_padding",
        save_strategy="steps",
        save_steps=config.save_steps,
        save_total_limit=None,  # `Watch` removes old ones, after the new one is complete
        eval_strategy="steps" if evaluates else "no",
        eval_steps=config.save_steps if evaluates else None,
        prediction_loss_only=True,
        report_to="none",
        disable_tqdm=True,
    )


def finish(trainer: SFTTrainer, checkpoint: Path | None, channel: Channel) -> bool:
    """Train from a checkpoint or the start; False: it was asked to stop, and has saved."""
    if channel.stop_requested and checkpoint is not None:
        return False
    if checkpoint is not None and _is_last(checkpoint):  # `train` would take one step more
        trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        trainer.model.load_adapter(str(checkpoint), trainer.model.active_adapter)
    else:
        channel.progress(phase="training")
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return bool(trainer.state.global_step >= trainer.state.max_steps)


def _is_last(checkpoint: Path) -> bool:
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return bool(state["global_step"] >= state["max_steps"])


class Watch(TrainerCallback):
    """Reports every step, completes every checkpoint, and stops when asked to."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.began = self.step_began = time.monotonic()
        self.began_at = (0, 0)  # steps and tokens of earlier attempts
        self.seconds = 0.0  # in steps: without looks at the holdout and the writing of checkpoints
        self.tokens = 0  # of this attempt

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.began = time.monotonic()
        self.began_at = (state.global_step, state.num_input_tokens_seen)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.step_began = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.seconds += time.monotonic() - self.step_began
        self.tokens = int(state.num_input_tokens_seen) - self.began_at[1]
        if self.channel.stop_requested:
            control.should_save = control.should_training_stop = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if logs is None or "loss" not in logs:
            return
        loss, norm = float(logs["loss"]), float(logs["grad_norm"])
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise Permanent(
                f"step {state.global_step}: the loss is {loss} and the gradient's norm {norm}; lower learning_rate "
                f"(now {args.learning_rate:g}) or raise warmup (now {args.warmup_steps:g})"
            )
        done = state.global_step - self.began_at[0]
        passed = time.monotonic() - self.began  # with holdout and checkpoints: the rest will have them too
        self.channel.progress(
            step=state.global_step,
            steps=state.max_steps,
            loss=round(loss, 6),
            learning_rate=float(logs["learning_rate"]),
            grad_norm=round(norm, 6),
            tokens_per_second=self.tokens_per_second,
            eta_seconds=round(passed / done * (state.max_steps - state.global_step), 1),
        )

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.channel.progress()  # a look at a large holdout is no stall

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        folder = Path(args.output_dir)
        checkpoints.complete(folder / f"checkpoint-{state.global_step}")
        checkpoints.rotate(folder)

    @property
    def tokens_per_second(self) -> float | None:
        """Of the steps of this attempt; None if it did none."""
        return round(self.tokens / self.seconds, 1) if self.seconds else None
