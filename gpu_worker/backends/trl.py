"""The built-in engine: transformers, PEFT and bitsandbytes as they are, trained by TRL.

Proven on a CPU. The CUDA path is complete but unproven: no card was at hand when it was written.
"""

from __future__ import annotations

import importlib.util
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
    """See that all that is asked can be done here; see `Backend.validate`."""
    if config.packing != "bfd":
        return
    if hardware.on_cpu or importlib.util.find_spec("flash_attn") is None:
        raise Invalid(
            "packing: bfd needs a GPU and flash-attn, which keeps the examples of a row from seeing one another; here "
            "packing: wrapped runs, in which they do, or none"
        )


def estimate(shape: ModelShape, config: TrainingConfig, machine: Machine, length: int | None = None) -> Prediction:
    """What a run takes: the loss is computed a chunk at a time; see `Backend.estimate`."""
    return predict(shape, config, replace(machine, engine="trl"), length)


def train(order: TrainingOrder, channel: Channel, checkpoint: Path | None) -> Measured:
    """Train with TRL's trainers; see `Backend.train`."""
    from gpu_worker.backends import trl_model
    from gpu_worker.backends.hardware import find_hardware
    from gpu_worker.trainer_run import train_with

    hardware = find_hardware(on_card=order.on_card)
    validate(order.hyperparameters, hardware)
    return train_with(trl_model, order, channel, checkpoint, hardware)
