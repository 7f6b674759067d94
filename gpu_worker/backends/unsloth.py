"""Unsloth: the same run with its kernels, its gradient checkpointing and its way of loading.

An engine that the user adds. Parts of it are AGPL, so it is imported in the child process alone. Proven with its CPU
backend (2026.10.9, the first to have one). The CUDA path is complete but unproven: no card was at hand when it was
written.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gpu_worker.fitting.prediction import predict
from queue_app.errors import Invalid

if TYPE_CHECKING:
    from pathlib import Path

    from gpu_worker.backends.hardware import Hardware
    from gpu_worker.child_side import Channel
    from gpu_worker.fitting.machine import Machine
    from gpu_worker.fitting.prediction import Prediction
    from gpu_worker.fitting.shape import ModelShape
    from gpu_worker.measured import Measured
    from gpu_worker.training_config import TrainingConfig, TrainingOrder


def validate(config: TrainingConfig, hardware: Hardware) -> None:
    """See that all that is asked can be done by Unsloth; see `Backend.validate`."""
    del hardware
    if config.cards > 1:
        raise Invalid(
            f"cards: {config.cards} do not go through Unsloth, which trains on one; use engine: trl, or cards: 1"
        )
    for name, value in (("objective", "dpo"), ("packing", "bfd")):
        if getattr(config, name) == value:
            raise Invalid(f"{name}: {value} does not go through Unsloth here; use engine: trl")


def estimate(shape: ModelShape, config: TrainingConfig, machine: Machine, length: int | None = None) -> Prediction:
    """What a run takes: the loss is chunked on a card, not on a CPU; see `Backend.estimate`."""
    return predict(shape, config, replace(machine, engine="unsloth"), length)


def train(order: TrainingOrder, channel: Channel, checkpoint: Path | None) -> Measured:
    """Train with TRL's trainers as Unsloth changes them; see `Backend.train`."""
    from gpu_worker.backends import unsloth_model  # first: it changes transformers and TRL as it is imported

    # isort: split
    from gpu_worker.backends.hardware import find_hardware
    from gpu_worker.trainer_run import train_with

    hardware = find_hardware(on_card=order.on_card)
    validate(order.hyperparameters, hardware)
    return train_with(unsloth_model, order, channel, checkpoint, hardware)
