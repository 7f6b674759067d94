"""Axolotl: the program that the user has, in its own environment, told what to do in its own words.

Proven on a CPU with axolotl 0.19; see `gpu_worker.axolotl`.
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

CANNOT = (("objective", "dpo"), ("method", "full"))


def validate(config: TrainingConfig, hardware: Hardware) -> None:
    """See that all that is asked has a word in axolotl; see `Backend.validate`."""
    if config.cards > 1:
        raise Invalid(f"cards: {config.cards} do not go through axolotl here; use engine: trl, or cards: 1")
    for name, value in CANNOT:
        if getattr(config, name) == value:
            raise Invalid(f"{name}: {value} does not go through axolotl here; use engine: trl")
    if config.report_to:
        raise Invalid("report_to is not passed on to axolotl; leave it out, or use engine: trl")
    if config.lora_alpha != int(config.lora_alpha):
        raise Invalid(f"lora_alpha is a whole number in axolotl, not {config.lora_alpha}; change it or use engine: trl")
    if config.method == "qlora" and hardware.on_cpu:
        raise Invalid(
            "method: qlora on a CPU does not go through axolotl: after a look at the holdout bitsandbytes would give "
            "wrong gradients, which engine: trl keeps it from; take that, or method: lora"
        )
    if config.packing == "bfd" and hardware.on_cpu:
        raise Invalid("packing: bfd needs a GPU and flash-attn; here packing: wrapped runs, or none")


def estimate(shape: ModelShape, config: TrainingConfig, machine: Machine, length: int | None = None) -> Prediction:
    """What a run takes: all logits are held at once; see `Backend.estimate`.

    Not covered: kernels and plugins of a file of the user's that take less.
    """
    return predict(shape, config, replace(machine, engine="axolotl"), length)


def train(order: TrainingOrder, channel: Channel, checkpoint: Path | None) -> Measured:
    """Train with axolotl's program; see `Backend.train`."""
    import torch

    from gpu_worker.axolotl import run
    from gpu_worker.backends.hardware import Hardware

    dtype = torch.bfloat16 if order.on_card else torch.float32
    validate(order.hyperparameters, Hardware("cuda" if order.on_card else "cpu", "", dtype))
    return run.train(order, channel, checkpoint)
