"""`adapter.train`: a LoRA or QLoRA adapter, trained on whatever device there is."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from gpu_worker.axolotl.program import find_axolotl
from gpu_worker.backends import choose_engine
from gpu_worker.base_model import read_model
from gpu_worker.fitting.allowances import Allowances
from gpu_worker.fitting.repairing import train_within_memory
from gpu_worker.training_config import AdapterMethod, AxolotlOrder, Engine, RunConfig, TrainingConfig, TrainingOrder
from queue_app.errors import Invalid
from queue_app.job_type import ArtifactRef, Attempt, Result, Spec, job
from tasks.data.examples import write_preferences, write_prompts_and_completions


class Material(Spec):
    """What is trained on what."""

    base_model: ArtifactRef = Field(description="the model to tune: an artifact, a pulled model's name, or a folder")
    dataset: ArtifactRef = Field(description="what to train on: a dataset artifact, a folder or a .jsonl file")
    holdout: ArtifactRef | None = Field(None, description="examples whose loss is looked at every save_steps")
    engine: Engine | None = Field(
        None, description="auto, trl, unsloth or axolotl; default: training.engine of the settings"
    )


class Trained(RunConfig, Allowances, Material):
    """A training, whatever becomes of it."""

    @model_validator(mode="after")
    def _best_needs_a_holdout(self) -> Self:
        if self.checkpoint == "best" and self.holdout is None:
            raise ValueError("checkpoint best is the one of the least holdout loss; give a holdout, or take last")
        return self

    @model_validator(mode="after")
    def _engine_takes_the_cards(self) -> Self:
        if self.cards > 1 and self.engine in ("unsloth", "axolotl"):
            raise ValueError(f"cards: {self.cards} do not go through {self.engine} here; use engine: trl, or cards: 1")
        return self


class TrainAdapter(Trained, TrainingConfig):
    """Trains an adapter on a dataset."""

    method: AdapterMethod = Field(
        "qlora", description="qlora: base in 4 bits (NF4, double quant); lora: in 16 or 32 bits"
    )


class Training(Result):
    """How a training went."""

    steps: int
    epochs: float
    first_loss: float = Field(description="of the first step, nats per token of the completions")
    last_loss: float = Field(description="of the last step")
    holdout_loss: float | None = Field(
        description="of what is published, nats per token of the completions (dpo: nats per preference)"
    )
    published_step: int = Field(description="the step whose weights these are")
    first_holdout_loss: float | None = Field(description="at the first look")
    best_holdout_loss: float | None = Field(description="the least of all looks")
    best_step: int | None = Field(description="the step of that look")
    examples: int = Field(description="examples trained on")
    truncated_examples: int = Field(description="longer than sequence_len: cut off there")
    dropped_examples: int = Field(description="prompt alone as long as sequence_len: left out")
    weightless_examples: int = Field(description="of weight 0, or without an answer that is learned: left out")
    sequence_len: int = Field(description="tokens; the model's context where that is shorter than what was asked for")
    trained_tokens: int = Field(description="prompt and completion, without padding, over all epochs")
    tokens_per_second: float | None = Field(
        description="in the steps of the attempt that finished; none if it had no step left to do"
    )
    seconds: float = Field(description="of the attempt that finished, with loading")
    peak_rss_mib: float
    engine: str
    device: str
    device_name: str
    resumed_from: int | None = Field(description="the step whose checkpoint the last attempt went on from")
    checkpoints_passed_over: int = Field(description="half-written or damaged ones that could not be resumed from")
    failed_copies: int = Field(
        description="tries to copy checkpoints to the artifact store that came to nothing, in the last attempt"
    )
    repairs: dict[str, int | float | bool | str] = Field(description="settings that were changed, for memory ran out")

    def told(self) -> dict[str, str]:
        """What was trained on, how the losses fell, which checkpoint was taken, and what had to be changed."""
        left_out = self.dropped_examples + self.weightless_examples
        # a run that was resumed after its last step has measured no speed
        speed = "speed not measured" if self.tokens_per_second is None else f"{self.tokens_per_second:.0f} tokens/s"
        words = {
            "training": f"{self.examples:,} examples ({self.truncated_examples:,} cut, {left_out:,} left out), "
            f"{self.epochs:g} epochs, {self.steps:,} steps; {speed} on {self.device} by {self.engine}",
            "loss": f"{self.first_loss:.3f} → {self.last_loss:.3f} in training{self._holdout_words()}",
            "checkpoint": f"step {self.published_step}{self._checkpoint_words()}",
        }
        if self.repairs:
            changed = ", ".join(f"{name} {value}" for name, value in self.repairs.items())
            words["repairs"] = f"memory ran out, so it was trained with {changed}"
        return words

    def _holdout_words(self) -> str:
        if self.first_holdout_loss is None:
            return ""
        fell = f"{self.first_holdout_loss:.3f} → {self.best_holdout_loss:.3f}"
        return f", {fell} on the holdout (best: step {self.best_step})"

    def _checkpoint_words(self) -> str:
        words = ", the best" if self.published_step == self.best_step else ""
        words += ", the last" if self.published_step == self.steps else ""
        words += f"; resumed from step {self.resumed_from}" if self.resumed_from else ""
        damaged, uncopied = self.checkpoints_passed_over, self.failed_copies
        words += f"; {damaged} damaged or unfinished checkpoint(s) passed over" if damaged else ""
        return words + (f"; {uncopied} tries to copy checkpoints away came to nothing" if uncopied else "")


class TrainedAdapter(Training):
    """The adapter, and how its training went."""

    adapter: str = Field(description="artifact id")


@job("adapter.train", queues=("gpu",), pausable=True)
def train_adapter(spec: TrainAdapter, attempt: Attempt) -> TrainedAdapter:
    """Train a LoRA or QLoRA adapter on a base model."""
    order = order_of(
        spec, attempt, TrainingConfig(**{name: getattr(spec, name) for name in TrainingConfig.model_fields})
    )
    made = train_within_memory(attempt, order, spec)
    adapter = attempt.artifacts.publish(order.output, kind="adapter")
    return TrainedAdapter(adapter=adapter, **figures(made))


def figures(made: dict[str, Any]) -> dict[str, Any]:
    """What the child measured, as the result names it."""
    losses, holdout = made["losses"], {look["step"]: look["loss"] for look in made["holdout_losses"]}
    best = min((step for step in holdout if math.isfinite(holdout[step])), key=lambda step: holdout[step], default=None)
    same = {name: made[name] for name in Training.model_fields if name in made}
    return same | {
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "holdout_loss": holdout.get(made["published_step"]),
        "first_holdout_loss": next(iter(holdout.values()), None),
        "best_holdout_loss": None if best is None else holdout[best],
        "best_step": best,
        "sequence_len": made["hyperparameters"]["sequence_len"],
    }


def order_of(spec: Trained, attempt: Attempt, config: TrainingConfig) -> TrainingOrder:
    """What the child is to do; writes the rows that it reads.

    Raises:
        Invalid: an engine or a tracker is not installed
        Permanent: an example cannot be trained on
    """
    engine = choose_engine(spec.engine or attempt.settings.training.engine, spec)
    _check_trackers(spec.report_to)
    folder = attempt.artifacts.resolve(spec.base_model)
    context = read_model(folder).context_length or spec.sequence_len
    return TrainingOrder(
        engine=engine,
        name=attempt.job_id,
        base_model=Path(spec.base_model).name if Path(spec.base_model).is_absolute() else spec.base_model,
        model_folder=folder,
        rows=_rows(spec, spec.dataset, "train", attempt),
        holdout_rows=None if spec.holdout is None else _rows(spec, spec.holdout, "holdout", attempt),
        checkpoints=attempt.workdir / "checkpoints",
        output=attempt.workdir / "trained",
        curves=attempt.workdir / "tensorboard",
        hyperparameters=config.model_copy(update={"sequence_len": min(spec.sequence_len, context)}),
        axolotl=AxolotlOrder(program=find_axolotl(attempt.settings.training.axolotl)) if engine == "axolotl" else None,
    )


def _rows(spec: Trained, ref: str, name: str, attempt: Attempt) -> Path:
    """A dataset as the trainer reads it, in the job's own folder."""
    path = attempt.workdir / f"{name}.jsonl"
    write = write_preferences if spec.objective == "dpo" else write_prompts_and_completions
    write(path, attempt.artifacts.resolve(ref))
    return path


def _check_trackers(wanted: tuple[str, ...]) -> None:
    for name in wanted:
        if importlib.util.find_spec(name) is None:
            raise Invalid(f"report_to: {name} is not installed here; `pip install {name}` adds it, or leave it out")
