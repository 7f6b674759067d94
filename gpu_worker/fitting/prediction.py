"""What a run will take: VRAM (RAM on a CPU), RAM beside a card, and disk, part by part."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from gpu_worker.checkpoints import KEEP
from gpu_worker.fitting import counted, estimated

if TYPE_CHECKING:
    from gpu_worker.fitting.machine import Machine
    from gpu_worker.fitting.shape import ModelShape
    from gpu_worker.training_config import TrainingConfig

BAND = 0.15  # the prediction's error, either way
GIB = 2**30
CHECKPOINTS = KEEP + 3  # the newest, the best, the one being written, one being copied to the artifact store
BESIDE_STATE_BYTES = 6 * 2**20  # a checkpoint's tokenizer, random state, schedule and log

Place = Literal["device", "host", "disk"]


class Verdict(StrEnum):
    """Whether what is needed has room."""

    FITS = "fits"
    AT_RISK = "at risk"
    TOO_LARGE = "does not fit"


@dataclass(frozen=True)
class Part:
    """One part of what a run takes."""

    name: str
    size_bytes: int
    place: Place
    is_counted: bool  # to the byte; else estimated
    how: str


@dataclass(frozen=True)
class Prediction:
    """All parts; a total of each place."""

    parts: tuple[Part, ...]
    length: int  # tokens of the longest example that was reckoned with

    @cached_property
    def device_bytes(self) -> int:
        return self.total("device")

    def total(self, place: Place) -> int:
        return sum(part.size_bytes for part in self.parts if part.place == place)

    def verdict(self, room_bytes: int) -> Verdict:
        """Whether the device's part has room, with the prediction's error reckoned in."""
        return verdict(self.device_bytes, room_bytes)


def verdict(needed_bytes: int, room_bytes: int) -> Verdict:
    """Fits if it does with the error on top; does not if it does not even with the error taken off."""
    if needed_bytes * (1 + BAND) <= room_bytes:
        return Verdict.FITS
    return Verdict.AT_RISK if needed_bytes * (1 - BAND) <= room_bytes else Verdict.TOO_LARGE


def predict(shape: ModelShape, config: TrainingConfig, machine: Machine, length: int | None = None) -> Prediction:
    """What a run takes at most.

    `length` is the longest example in tokens, where that is known to be less than `sequence_len`.

    Raises:
        Invalid: `target_modules` names no layer of the model
    """
    if config.method == "full" and machine.on_cpu:
        machine = replace(machine, number_bytes=4)  # what is trained is float32, and a CPU computes with it as it is
    longest = min(config.sequence_len, shape.context_length or config.sequence_len, length or config.sequence_len)
    parts = [*_static(shape, config, machine), *_passing(shape, config, machine, longest)]
    spread = int(estimated.FRAGMENTATION * sum(part.size_bytes for part in parts))
    parts.append(Part("fragmentation", spread, "device", False, f"{estimated.FRAGMENTATION:.0%} of the above"))
    beside = ("libraries", estimated.CPU_LIBRARIES_BYTES, "torch, transformers, TRL, PEFT: measured")
    if not machine.on_cpu:
        beside = ("CUDA context", estimated.CUDA_CONTEXT_BYTES, "context, kernels, workspaces")
        parts.append(Part("RAM", estimated.CUDA_HOST_BYTES, "host", False, "the libraries, with CUDA's"))
    parts.append(Part(beside[0], beside[1], "device", False, beside[2]))
    return Prediction((*parts, *_on_disk(shape, config)), longest)


def _static(shape: ModelShape, config: TrainingConfig, machine: Machine) -> list[Part]:
    embeddings, rest = counted.trained_sizes(shape, config)
    trained = sum(embeddings) + sum(rest)
    whole = trained * counted.FLOAT32
    weights = counted.weight_bytes(shape, config.method, machine.number_bytes)
    width = f"{8 * machine.number_bytes} bits"
    told = {
        "qlora": f"layers in 4 bits (NF4), others in {width}",
        "lora": f"all in {width}",
        "full": "all in 32 bits",
    }
    full = config.method == "full"
    rows = [
        ("base weights", weights, told[config.method]),
        ("quantisation state", counted.quantisation_bytes(shape, config.method), "scales, their scales and codes"),
        ("adapter", 0 if full else whole, f"{trained:,} parameters in float32"),
        ("gradients", whole, "one for each parameter that is trained"),
        ("shared gradients", whole if config.cards > 1 else 0, "a copy, in which the cards add theirs up"),
        ("optimizer", counted.state_bytes(shape, config), config.optimizer),
        ("reference model", weights if full and config.objective == "dpo" else 0, "what DPO holds to"),
    ]
    return [Part(name, size, "device", True, how) for name, size, how in rows if size]


def _passing(shape: ModelShape, config: TrainingConfig, machine: Machine, length: int) -> list[Part]:
    """What comes and goes with each forward and backward pass."""
    tokens = f"{config.micro_batch_size} × {length:,} tokens{', twice' if config.objective == 'dpo' else ''}"
    kept = "one layer and its borders" if estimated.checkpoints_activations(config, machine) else "every layer"
    whole = "a chunk at a time" if estimated.has_chunked_loss(config, machine) else "all at once"
    rows = [
        ("activations", estimated.activation_bytes(shape, config, machine, length), f"{tokens}, {kept}"),
        ("logits", estimated.logits_bytes(shape, config, machine, length), f"{shape.vocabulary:,} wide, {whole}"),
        ("autocast copies", estimated.autocast_bytes(shape, config, machine), "the layers in 16 bits"),
        ("dequantised layer", estimated.dequantised_bytes(shape, config, machine), "the largest, at full width"),
    ]
    return [Part(name, size, "device", False, how) for name, size, how in rows if size]


def _on_disk(shape: ModelShape, config: TrainingConfig) -> list[Part]:
    trained = sum(map(sum, counted.trained_sizes(shape, config))) * counted.FLOAT32
    checkpoint = trained + counted.state_bytes(shape, config) + BESIDE_STATE_BYTES
    kept = f"{CHECKPOINTS} × {checkpoint / GIB:.2f} GiB: {KEEP} kept, the best, one written, one copied"
    made = merged_bytes(shape) if config.method == "full" else trained
    return [
        Part("checkpoints", CHECKPOINTS * checkpoint, "disk", False, kept),
        Part("result", made, "disk", False, "the model, in 16 bits" if config.method == "full" else "the adapter"),
    ]


def merged_bytes(shape: ModelShape) -> int:
    """What the merged model takes on the disk in 16 bits: the matter of `adapter.merge`."""
    return 2 * shape.parameters
