"""What a training run is told: the hyperparameters, under the field's names, and the order the child gets."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic needs it at run time
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from queue_app.errors import Invalid
from queue_app.job_type import Spec
from queue_app.recipe.references import looks_wired

if TYPE_CHECKING:
    from collections.abc import Mapping

EngineName = Literal["trl", "unsloth", "axolotl"]
Engine = Literal["auto", EngineName]
AdapterMethod = Literal["lora", "qlora"]
Method = Literal[AdapterMethod, "full"]
Objective = Literal["sft", "dpo"]
TrainOn = Literal["completion", "answers", "all"]
Packing = Literal["none", "wrapped", "bfd"]
Tracker = Literal["wandb", "mlflow"]
Scheduler = Literal["cosine", "linear", "constant", "constant_with_warmup"]
Optimizer = Literal["adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit"]


class RunConfig(Spec):
    """How a run goes, whatever is trained.

    Sources of the defaults: the rate as in the QLoRA paper (https://arxiv.org/abs/2305.14314) and its code; cosine,
    clipping at 1 and no weight decay as the alignment handbook's QLoRA recipes have them; `dpo_beta` as in the paper on
    DPO (https://arxiv.org/abs/2305.18290). The bounds of `divergence_…` are our own: three times the usual loss ten
    times in a row is no unlucky batch.
    """

    objective: Objective = Field("sft", description="sft: learn the answers; dpo: prefer the better of two answers")
    dpo_beta: float = Field(0.1, gt=0, description="how strongly dpo holds to the model it began with")
    train_on: TrainOn = Field(
        "completion",
        description="what sft learns: completion (the last answer), answers (every one), all (every message); a weight "
        "of 0 or 1 on a message goes before it",
    )
    packing: Packing = Field(
        "none",
        description="how examples share a row: wrapped (end to end, cut at sequence_len), bfd (whole, on a GPU with "
        "flash-attn)",
    )
    sequence_len: int = Field(2048, ge=8, description="tokens; longer examples are truncated and counted")
    micro_batch_size: int = Field(1, ge=1, description="examples in one forward pass")
    gradient_accumulation_steps: int = Field(4, ge=1, description="forward passes in one step")
    cards: int = Field(
        1,
        ge=1,
        description="cards of one host, reserved all or none, each with a copy of the model; a step is of "
        "micro_batch_size × gradient_accumulation_steps × cards examples",
    )
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
    checkpoint: Literal["best", "last"] | Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="what is published: best (least loss of the holdout), last, or that of a step; default: best with "
        "a holdout, for that is what it is there to judge, else last",
    )
    divergence_factor: float = Field(3.0, gt=1, description="a loss above so many times its running median is too high")
    divergence_steps: int = Field(10, ge=1, description="so many in a row that are too high end the run")
    report_to: tuple[Tracker, ...] = Field(
        (),
        description="wandb or mlflow, where installed and logged in (keys of the environment do not reach a trainer); "
        "TensorBoard's files are written in any case",
    )

    @property
    def effective_batch(self) -> int:
        """Examples in one step."""
        return self.micro_batch_size * self.gradient_accumulation_steps * self.cards

    @classmethod
    def cards_needed(cls, told: Mapping[str, Any]) -> int:
        """How many cards a job takes at once; see `Spec.cards_needed`."""
        cards = told.get("cards", cls.model_fields["cards"].default)
        if looks_wired(cards):
            raise Invalid(
                "cards are reserved before the job begins, so another step cannot say how many; give a number"
            )
        return int(cards) if isinstance(cards, int | float) else 1  # what else it is, the check of all fields refuses

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.max_steps is not None and self.epochs is not None:
            raise ValueError("max_steps and epochs are both given; remove one")
        return self

    @model_validator(mode="after")
    def _preferences_stand_alone(self) -> Self:
        if self.objective == "dpo" and (self.packing, self.train_on) != ("none", "completion"):
            raise ValueError("objective dpo compares whole answers: it takes neither packing nor another train_on")
        return self

    @model_validator(mode="after")
    def _checkpoint_is_written(self) -> Self:
        step, last = self.checkpoint, self.max_steps
        if isinstance(step, int) and step != last and (step % self.save_steps or (last and step > last)):
            often = f"there is one at every {self.save_steps}th step (save_steps) and at the last"
            raise ValueError(f"checkpoint {step} is never written: {often}")
        return self


class TrainingConfig(RunConfig):
    """The hyperparameters of a run. Rank and alpha as in the QLoRA paper and its code; a `full` run heeds neither."""

    method: Method = Field("qlora", description="qlora: base in 4 bits (NF4, double quant); lora: in 16 or 32 bits")
    lora_r: int = Field(16, ge=1, le=1024, description="rank of the adapter")
    lora_alpha: float = Field(32, gt=0, description="the adapter is scaled by lora_alpha / lora_r")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="share of the adapter's inputs dropped in training")
    target_modules: Literal["all-linear"] | Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        "all-linear", description="the layers that get an adapter: all-linear (all but the head), or their names"
    )


class AxolotlOrder(BaseModel):
    """What a run with axolotl needs beside the order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    program: Path
    settings: dict[str, Any] = {}  # of a file of the user's; empty: the hyperparameters say all


class TrainingOrder(BaseModel):
    """What the child is to do: everything is a file, so it needs neither store nor settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: EngineName
    name: str = "run"  # in the files and accounts that it is reported to
    base_model: str  # how the adapter names its base: never a path of this machine
    model_folder: Path
    rows: Path  # JSONL of {"prompt": […], "completion": […]}; for dpo {"prompt": […], "chosen": […], "rejected": […]}
    holdout_rows: Path | None
    checkpoints: Path
    output: Path  # the folder of the adapter, or of the model; complete when the child has returned
    curves: Path  # where TensorBoard finds the run
    hyperparameters: TrainingConfig
    on_card: bool = False  # the worker's driver shows one: a run that finds none has lost it, and is none for the CPU
    axolotl: AxolotlOrder | None = None  # with that engine
