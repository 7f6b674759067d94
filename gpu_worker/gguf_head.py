"""The head of a Llama's GGUF file: its sizes, its positions, its vocabulary, and the list of its tensors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from gguf import LlamaFileType

from gpu_worker.gguf_tensors import F32, key_value_heads
from gpu_worker.gguf_vocabulary import read_vocabulary
from gpu_worker.model_card import find_license
from queue_app.errors import Invalid

if TYPE_CHECKING:
    from pathlib import Path

    from gguf import GGUFWriter
    from numpy.typing import NDArray

    from gpu_worker.gguf_tensors import Source

FILE_TYPES = {"f16": LlamaFileType.MOSTLY_F16, "q8_0": LlamaFileType.MOSTLY_Q8_0}
ROPE_FACTORS = "rope_freqs.weight"


def write_head(writer: GGUFWriter, model: Path, config: dict[str, Any], sources: list[Source], file_type: str) -> None:
    rows = next(source.tensor.shape[0] for source in sources if source.name == "token_embd.weight")
    head_size = int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
    writer.add_name(model.name)
    if license_name := find_license(model):
        writer.add_license(license_name)
    writer.add_file_type(FILE_TYPES[file_type])
    writer.add_quantization_version(2)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(key_value_heads(config))
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_rope_dimension_count(head_size)
    writer.add_rope_freq_base(float(_rope(config).get("rope_theta") or config.get("rope_theta") or 10000.0))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(rows)
    read_vocabulary(model, rows).write(writer)
    for source in sources:
        writer.add_tensor_info(
            source.name, source.tensor.shape, np.dtype(np.float32), source.size_bytes, raw_dtype=source.kind
        )
    if (factors := rope_factors(model, config)) is not None:
        writer.add_tensor_info(ROPE_FACTORS, factors.shape, factors.dtype, factors.nbytes, raw_dtype=F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    return config.get("rope_parameters") or config.get("rope_scaling") or {}


def rope_factors(model: Path, config: dict[str, Any]) -> NDArray[np.float32] | None:
    """What each frequency of Llama 3's stretched rotary embedding is divided by; None: it is not stretched.

    Long waves are slowed by the whole factor, short ones not at all, those between by a straight line.
    """
    rope = _rope(config)
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return None
    if kind != "llama3":
        raise Invalid(f"{model}: its rotary embedding is {kind}; only default and llama3 are exported to GGUF")
    size = int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
    theta = float(rope.get("rope_theta") or config["rope_theta"])
    waves = 2 * math.pi * theta ** (np.arange(0, size, 2) / size)  # in tokens
    factor, low, high = rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"]
    turns = rope["original_max_position_embeddings"] / waves
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    factors: NDArray[np.float32] = (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)
    return factors
