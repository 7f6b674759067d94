"""The parts of a run's memory that are estimated: activations, logits, buffers, and what libraries take.

t is the tokens of one forward pass (examples × tokens of the longest), h the hidden width, c the bytes of a number.
The layer's formula is that of Llama's layers and was held against what autograd saves on a CPU; logits, context and
fragmentation are not yet calibrated on a card, which is why a verdict has a band.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpu_worker.fitting.counted import FLOAT32

if TYPE_CHECKING:
    from gpu_worker.fitting.machine import Machine
    from gpu_worker.fitting.shape import ModelShape
    from gpu_worker.training_config import TrainingConfig

TRL_CHUNK, UNSLOTH_CHUNK = 256, 1024  # tokens whose logits are held at once
CHUNK_NUMBER_BYTES = 10  # a chunk's logits: as computed, in float32, and their gradient
LOGITS_BYTES_BESIDE = 12  # float32 copy, its softmax and its gradient, where nothing is chunked
BACKWARD_SHARE = 0.5  # of a layer's activations, for the gradients that flow through it
CUDA_CONTEXT_BYTES = int(1.2e9)  # context, kernels and cuBLAS' workspace
CPU_LIBRARIES_BYTES = int(0.55e9)  # torch, transformers, TRL and PEFT, imported; 480–524 MB measured
CUDA_HOST_BYTES = int(3.0e9)  # the same with the CUDA libraries, in RAM
FRAGMENTATION = 0.08


def checkpoints_activations(config: TrainingConfig, machine: Machine) -> bool:
    """Whether the backward pass computes activations anew; by default on a card."""
    wanted = config.gradient_checkpointing
    return not machine.on_cpu if wanted is None else wanted


def layer_bytes(shape: ModelShape, config: TrainingConfig, machine: Machine) -> float:
    """What one layer keeps of one token for the backward pass, its share of the adapter included.

    Frozen layers keep no input. What is kept: q, k, v and the answer of the attention, the three terms of the gated
    MLP, both norms' inputs in float32, and what the adapter's halves were given. On a card autocast makes the last of
    these smaller, which is left out of account.
    """
    c = machine.number_bytes
    base = c * (2 * shape.query_width + 2 * shape.key_value_width + 3 * shape.inner) + 2 * FLOAT32 * shape.hidden
    if config.method == "full":
        return base + c * (2 * shape.hidden + shape.inner)
    adapted = shape.adapted(config)
    inputs = sum(matrix.inputs for matrix in adapted) / shape.layers
    if config.lora_dropout:
        given = inputs * (FLOAT32 + (FLOAT32 if machine.on_cpu else 1))  # thinned, and which of it was kept
    elif c < FLOAT32:
        given = inputs * FLOAT32  # the adapter computes in float32: a copy each
    else:
        given = FLOAT32 * _shared_inputs(shape, {matrix.module.rpartition(".")[2] for matrix in adapted})
    return base + given + FLOAT32 * config.lora_r * len(adapted) / shape.layers


def _shared_inputs(shape: ModelShape, names: set[str]) -> int:
    """The widths of the inputs of these layers, each tensor once; that of o_proj is the attention's answer."""
    attention = shape.hidden if names & {"q_proj", "k_proj", "v_proj", "qkv_proj"} else 0
    gated = shape.hidden if names & {"gate_proj", "up_proj", "gate_up_proj"} else 0
    return attention + gated + (shape.inner if "down_proj" in names else 0)


def tokens_at_once(config: TrainingConfig, length: int) -> int:
    """Of one forward pass; DPO reads both answers of each example."""
    return config.micro_batch_size * length * (2 if config.objective == "dpo" else 1)


def activation_bytes(shape: ModelShape, config: TrainingConfig, machine: Machine, length: int) -> int:
    """What all layers keep for the backward pass, and the gradients that flow through one of them."""
    tokens = tokens_at_once(config, length)
    layer = tokens * layer_bytes(shape, config, machine)
    if not checkpoints_activations(config, machine):
        return int((shape.layers + BACKWARD_SHARE) * layer)
    borders = (shape.layers + 2) * tokens * shape.hidden * machine.number_bytes
    return int(borders + (1 + BACKWARD_SHARE) * layer)


def logits_bytes(shape: ModelShape, config: TrainingConfig, machine: Machine, length: int) -> int:
    """The output layer's part: a chunk at a time, unless it has an adapter or the engine takes it whole."""
    tokens, c = tokens_at_once(config, length), machine.number_bytes
    if not has_chunked_loss(config, machine):
        return tokens * shape.vocabulary * (c + LOGITS_BYTES_BESIDE)
    chunk = UNSLOTH_CHUNK if machine.engine == "unsloth" else TRL_CHUNK
    return min(tokens, chunk) * shape.vocabulary * CHUNK_NUMBER_BYTES + 2 * tokens * shape.hidden * c


def has_chunked_loss(config: TrainingConfig, machine: Machine) -> bool:
    """Whether the logits of a whole sequence are never held. Unsloth chunks on cards alone, axolotl and DPO do not."""
    if config.objective == "dpo":
        return False
    return "lm_head" not in config.target_modules and (
        machine.engine == "trl" or (machine.engine == "unsloth" and not machine.on_cpu)
    )


def dequantised_bytes(shape: ModelShape, config: TrainingConfig, machine: Machine) -> int:
    """The largest layer of a QLoRA at full width: each is unpacked when it is its turn."""
    return max(matrix.size for matrix in shape.linear) * machine.number_bytes if config.method == "qlora" else 0


def autocast_bytes(shape: ModelShape, config: TrainingConfig, machine: Machine) -> int:
    """The copies in 16 bits that autocast makes of layers that are trained in float32 on a card."""
    return 2 * shape.linear_parameters if config.method == "full" and not machine.on_cpu else 0
