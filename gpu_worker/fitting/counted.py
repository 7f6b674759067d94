"""The parts of a run's memory that can be counted to the byte: weights, adapter, gradients, optimizer.

Covered: bitsandbytes 0.50 (NF4 with double quantisation; AdamW in 8 bits), PyTorch's AdamW, PEFT's LoRA in float32 as
this worker trains it. Held against the real ones by `tests/gpu_worker/test_counted_parts.py`. Not covered: quantised
storage other than bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpu_worker.fitting.shape import Matrix, ModelShape
    from gpu_worker.training_config import Method, Optimizer, TrainingConfig

FLOAT32 = 4
NF4_BLOCK = 64  # weights that share one scale
NF4_CODE_BYTES = 16 * FLOAT32  # its sixteen values
SCALE_BLOCK = 256  # scales that share one scale of their own
BYTE_CODE_BYTES = 256 * FLOAT32
OFFSET_BYTES = FLOAT32
OPTIMIZER_BLOCK = 256  # entries of an 8-bit state that share one scale
LEAST_FOR_8_BITS = 4096  # smaller tensors keep their state in float32


def weight_bytes(shape: ModelShape, method: Method, number_bytes: int) -> int:
    """The base model's own numbers: two to a byte in the layers of a QLoRA, else at full width.

    What is trained itself is held in float32.
    """
    if method != "qlora":
        return shape.parameters * (FLOAT32 if method == "full" else number_bytes)
    return sum(-(-matrix.size // 2) for matrix in shape.linear) + shape.other_parameters * number_bytes


def quantisation_bytes(shape: ModelShape, method: Method) -> int:
    """What it takes to read the four-bit numbers: scales in a byte each, their scales, their offset, both codes."""
    if method != "qlora":
        return 0
    return sum(_nf4_state_bytes(matrix.size) for matrix in shape.linear)


def _nf4_state_bytes(size: int) -> int:
    scales = -(-size // NF4_BLOCK)
    return scales + -(-scales // SCALE_BLOCK) * FLOAT32 + OFFSET_BYTES + NF4_CODE_BYTES + BYTE_CODE_BYTES


def adapter_sizes(adapted: Iterable[Matrix], rank: int) -> list[int]:
    """The parameters of every matrix of the adapter: A of rank × inputs, B of outputs × rank."""
    return [rank * width for matrix in adapted for width in (matrix.inputs, matrix.outputs)]


def trained_sizes(shape: ModelShape, config: TrainingConfig) -> tuple[list[int], list[int]]:
    """The sizes of the tensors that are trained: (embeddings, whose state is never in 8 bits; all others)."""
    if config.method != "full":
        return [], adapter_sizes(shape.adapted(config), config.lora_r)
    embeddings = [size for name, size in shape.others if "embed" in name]
    rest = [size for name, size in shape.others if "embed" not in name]
    return embeddings, [*rest, *(matrix.size for matrix in shape.linear)]


def optimizer_bytes(sizes: Iterable[int], optimizer: Optimizer) -> int:
    """Both moments of AdamW for tensors of these sizes, once a step has been done."""
    sizes = list(sizes)
    if optimizer == "adamw_torch_fused":
        return sum(2 * FLOAT32 * size + FLOAT32 for size in sizes)  # and the number of steps
    states = [_byte_state_bytes(size) if size >= LEAST_FOR_8_BITS else 2 * FLOAT32 * size for size in sizes]
    codes = 2 * BYTE_CODE_BYTES if any(size >= LEAST_FOR_8_BITS for size in sizes) else 0  # shared by all tensors
    return sum(states) + codes


def state_bytes(shape: ModelShape, config: TrainingConfig) -> int:
    """The optimizer's state of a whole run."""
    embeddings, rest = trained_sizes(shape, config)
    if config.optimizer == "adamw_torch_fused":
        return optimizer_bytes([*embeddings, *rest], config.optimizer)
    return 2 * FLOAT32 * sum(embeddings) + optimizer_bytes(rest, config.optimizer)


def _byte_state_bytes(size: int) -> int:
    return 2 * (size + -(-size // OPTIMIZER_BLOCK) * FLOAT32)
