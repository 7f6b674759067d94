"""What a training run is told: the hyperparameters, under the field's names, and the order the child gets."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic needs it at run time
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from queue_app.job_type import Spec

Engine = Literal["auto", "trl", "unsloth"]
Method = Literal["lora", "qlora"]
Scheduler = Literal["cosine", "linear", "constant", "constant_with_warmup"]
Optimizer = Literal["adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit"]


class TrainingConfig(Spec):
    """The hyperparameters of a LoRA or QLoRA run.

    Sources of the defaults: rank, alpha and rate as in the QLoRA paper (https://arxiv.org/abs/2305.14314) and its code;
    cosine, clipping at 1 and no weight decay as the alignment handbook's QLoRA recipes have them.
    """

    method: Method = Field("qlora", description="qlora: base in 4 bits (NF4, double quant); lora: in 16 or 32 bits")
    lora_r: int = Field(16, ge=1, le=1024, description="rank of the adapter")
    lora_alpha: float = Field(32, gt=0, description="the adapter is scaled by lora_alpha / lora_r")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="share of the adapter's inputs dropped in training")
    target_modules: Literal["all-linear"] | Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        "all-linear", description="the layers that get an adapter: all-linear (all but the head), or their names"
    )
    sequence_len: int = Field(2048, ge=8, description="tokens; longer examples are truncated and counted")
    micro_batch_size: int = Field(1, ge=1, description="examples in one forward pass")
    gradient_accumulation_steps: int = Field(4, ge=1, description="forward passes in one step")
    max_steps: int | None = Field(None, ge=1, description="steps in all; instead of epochs")
    epochs: float | None = Field(None, gt=0, description="passes over the dataset; default 1 without max_steps")
    learning_rate: float = Field(2e-4, gt=0, description="the highest one")
    scheduler: Scheduler = Field("cosine", description="how the learning rate falls")
    warmup: float = Field(0.03, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    weight_decay: float = Field(0.0, ge=0, description="of AdamW")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    optimizer: Optimizer = Field("adamw_torch_fused", description="the 8-bit and paged ones save VRAM")
    gradient_checkpointing: bool | None = Field(
        None, description="recompute activations to save memory; default: on a GPU yes, on a CPU no"
    )
    save_steps: int = Field(20, ge=1, description="steps between checkpoints, and between looks at the holdout")
    seed: int = Field(42, ge=0, lt=2**32, description="of the adapter's first weights and the order of the examples")

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.max_steps is not None and self.epochs is not None:
            raise ValueError("max_steps and epochs are both given; remove one")
        return self


class TrainingOrder(BaseModel):
    """What the child is to do: everything is a file, so it needs neither store nor settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: Literal["trl", "unsloth"]
    base_model: str  # how the adapter names its base: never a path of this machine
    model_folder: Path
    rows: Path  # JSONL of {"prompt": […], "completion": […]}
    holdout_rows: Path | None
    checkpoints: Path
    output: Path  # the adapter's folder; complete when the child has returned
    hyperparameters: TrainingConfig
