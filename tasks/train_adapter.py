"""`adapter.train`: a LoRA or QLoRA adapter, trained on whatever device there is."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from gpu_worker.backends import choose_engine
from gpu_worker.base_model import read_model
from gpu_worker.child import run_child
from gpu_worker.training_config import Engine, TrainingConfig, TrainingOrder
from queue_app.job_type import ArtifactRef, Attempt, Result, job
from tasks.data.examples import write_prompts_and_completions


class TrainAdapter(TrainingConfig):
    """Trains an adapter on a dataset."""

    base_model: ArtifactRef = Field(description="the model to tune: an artifact, a pulled model's name, or a folder")
    dataset: ArtifactRef = Field(description="what to train on: a dataset artifact, a folder or a .jsonl file")
    holdout: ArtifactRef | None = Field(None, description="examples whose loss is looked at every save_steps")
    engine: Engine | None = Field(None, description="auto, trl or unsloth; default: training.engine of the settings")


class TrainedAdapter(Result):
    """The adapter, and how its training went."""

    adapter: str = Field(description="artifact id")
    steps: int
    first_loss: float = Field(description="of the first step, nats per token of the completions")
    last_loss: float = Field(description="of the last step")
    holdout_loss: float | None = Field(description="at the last look at the holdout, nats per token of the completions")
    examples: int = Field(description="examples trained on")
    truncated_examples: int = Field(description="longer than sequence_len: cut off there")
    dropped_examples: int = Field(description="prompt alone as long as sequence_len: left out")
    unweighted_examples: int = Field(description="carry weights, which the trainer does not heed: each counts as 1")
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


@job("adapter.train", queues=("gpu",), pausable=True)
def train_adapter(spec: TrainAdapter, attempt: Attempt) -> TrainedAdapter:
    """Train a LoRA or QLoRA adapter on a base model."""
    rows, weighted = _rows(spec.dataset, "train", attempt)
    order = _order(spec, attempt, rows)
    made = run_child(attempt, "gpu_worker.training", order.model_dump(mode="json"))
    adapter = attempt.artifacts.publish(order.output, kind="adapter")
    losses, holdout = made["losses"], made["holdout_losses"]
    same = {name: made[name] for name in TrainedAdapter.model_fields if name in made}
    return TrainedAdapter(
        adapter=adapter,
        first_loss=losses[0],
        last_loss=losses[-1],
        holdout_loss=holdout[-1]["loss"] if holdout else None,
        unweighted_examples=weighted,
        sequence_len=order.hyperparameters.sequence_len,
        **same,
    )


def _order(spec: TrainAdapter, attempt: Attempt, rows: Path) -> TrainingOrder:
    engine = choose_engine(spec.engine or attempt.settings.training.engine)
    folder = attempt.artifacts.resolve(spec.base_model)
    context = read_model(folder).context_length or spec.sequence_len
    hyperparameters = {name: getattr(spec, name) for name in TrainingConfig.model_fields}
    return TrainingOrder(
        engine=engine,
        base_model=Path(spec.base_model).name if Path(spec.base_model).is_absolute() else spec.base_model,
        model_folder=folder,
        rows=rows,
        holdout_rows=None if spec.holdout is None else _rows(spec.holdout, "holdout", attempt)[0],
        checkpoints=attempt.workdir / "checkpoints",
        output=attempt.workdir / "adapter",
        hyperparameters=TrainingConfig(**hyperparameters | {"sequence_len": min(spec.sequence_len, context)}),
    )


def _rows(ref: str, name: str, attempt: Attempt) -> tuple[Path, int]:
    """A dataset as the trainer reads it, in the job's own folder, and how many of its examples carry weights."""
    path = attempt.workdir / f"{name}.jsonl"
    return path, write_prompts_and_completions(path, attempt.artifacts.resolve(ref))
