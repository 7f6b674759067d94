"""`model.train`: all weights of a model, trained; the result is a model of its own."""

from __future__ import annotations

from pydantic import Field

from gpu_worker.fitting.repairing import train_within_memory
from gpu_worker.training_config import RunConfig, TrainingConfig
from queue_app.job_type import Attempt, job
from tasks.train_adapter import Trained, Training, figures, order_of


class TrainModel(Trained):
    """Trains all weights of a model on a dataset; the rate as in the alignment handbook's full recipes."""

    learning_rate: float = Field(2e-5, gt=0, description="the highest one")


class TrainedModel(Training):
    """The model, and how its training went."""

    model: str = Field(description="artifact id")


@job("model.train", queues=("gpu",), pausable=True)
def train_model(spec: TrainModel, attempt: Attempt) -> TrainedModel:
    """Train all weights of a model: 16 bytes of memory a parameter, activations apart."""
    told = {name: getattr(spec, name) for name in RunConfig.model_fields}
    order = order_of(spec, attempt, TrainingConfig(method="full", **told))
    made = train_within_memory(attempt, order, spec)
    return TrainedModel(model=attempt.artifacts.publish(order.output, kind="model"), **figures(made))
