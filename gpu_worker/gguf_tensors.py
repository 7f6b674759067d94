"""A Llama's tensors on their way into a GGUF file: what each is called there, its type, its order, its bytes.

f16 is each weight rounded once to float16. q8_0 keeps 32 weights of a row as whole numbers of 8 bits and one float16
scale; vectors stay in float32, and rows whose length is no multiple of 32 in f16.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import quantize

from gpu_worker.base_model import read_header, weight_files
from gpu_worker.gguf_conversion import INSIDE, OUTSIDE
from queue_app.errors import Invalid, Permanent
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from gpu_worker.base_model import Tensor

F32, F16, Q8_0 = GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.Q8_0
BLOCK, BLOCK_BYTES = 32, 34  # of q8_0
LARGEST = {F16: 65504.0, Q8_0: 65504.0 * 127}  # the scale of a q8_0 block is a float16
FROM_HUGGING_FACE = {new: old for old, new in OUTSIDE.items()}
FROM_LAYER = {new: old for old, new in INSIDE.items()}
READ_AS = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


@dataclass(frozen=True)
class Source:
    """One tensor of the model, and what becomes of it."""

    path: Path
    tensor: Tensor
    name: str  # in the GGUF file
    kind: GGMLQuantizationType
    heads: int | None  # of q and k, whose rows change places

    @property
    def size_bytes(self) -> int:
        numbers = math.prod(self.tensor.shape)
        return numbers // BLOCK * BLOCK_BYTES if self.kind == Q8_0 else numbers * (4 if self.kind == F32 else 2)

    def read(self) -> NDArray[np.float32]:
        """The weights in float32, as the model has them."""
        raw = np.fromfile(self.path, READ_AS[self.tensor.dtype], math.prod(self.tensor.shape), offset=self.tensor.begin)
        if self.tensor.dtype == "BF16":
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        return raw.astype(np.float32, copy=False).reshape(self.tensor.shape)


def sources_of(model: Path, config: dict[str, Any], file_type: str) -> list[Source]:
    """Every tensor of a model folder; `file_type` is f16 or q8_0.

    Raises:
        Invalid: GGUF has no place for one of them, or it is no Llama
    """
    if config["architectures"][0] != "LlamaForCausalLM" or config.get("attention_bias") or config.get("mlp_bias"):
        raise Invalid(
            f"{model}: {config['architectures'][0]} is not exported; only Llama without biases is: llama.cpp's "
            "convert_hf_to_gguf.py knows the other families"
        )
    heads = {"q_proj": config["num_attention_heads"], "k_proj": key_value_heads(config)}
    found = []
    for path in weight_files(model):
        for tensor in read_header(path):
            if tensor.name.endswith("rotary_emb.inv_freq"):  # of old folders; it follows from the config
                continue
            if tensor.dtype not in READ_AS:
                raise Invalid(f"{path}: {tensor.name} is stored as {tensor.dtype}; export the unquantised model")
            name = _gguf_name(path, tensor.name)
            part = tensor.name.split(".")[-2]
            found.append(Source(path, tensor, name, _kind(tensor, file_type), heads.get(part)))
    return found


def key_value_heads(config: dict[str, Any]) -> int:
    return int(config.get("num_key_value_heads") or config["num_attention_heads"])


def _gguf_name(path: Path, name: str) -> str:
    if name in FROM_HUGGING_FACE:
        return FROM_HUGGING_FACE[name]
    stem, _, part = name.removeprefix("model.layers.").removesuffix(".weight").partition(".")
    if not stem.isdigit() or part not in FROM_LAYER:
        raise Invalid(
            f"{path} holds {name}, which no Llama in GGUF has; export it with llama.cpp's convert_hf_to_gguf.py"
        )
    return f"blk.{stem}.{FROM_LAYER[part]}.weight"


def _kind(tensor: Tensor, file_type: str) -> GGMLQuantizationType:
    if len(tensor.shape) == 1:
        return F32
    return Q8_0 if file_type == "q8_0" and tensor.shape[-1] % BLOCK == 0 else F16


def encoded(source: Source) -> NDArray[Any]:
    """The weights as they stand in the file.

    Raises:
        Permanent: one is not finite, or too large for its type
    """
    weights = source.read()
    if not np.isfinite(weights).all():
        raise Permanent(
            f"{source.path}: {source.tensor.name} is not finite; make or fetch that model anew", cause=Cause.DATA
        )
    if source.heads is not None:
        weights = _permuted(weights, source.heads)
    if source.kind == F32:
        return weights
    if np.abs(weights).max(initial=0) > LARGEST[source.kind]:
        raise Permanent(
            f"{source.path}: {source.tensor.name} holds a weight that {source.kind.name} cannot", cause=Cause.DATA
        )
    made: NDArray[Any] = weights.astype(np.float16) if source.kind == F16 else quantize(weights, source.kind)
    return made


def _permuted(array: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """GGUF's row order in q and k: it pairs neighbours for the rotary embedding, Hugging Face pairs halves."""
    rows, columns = array.shape
    return np.ascontiguousarray(
        array.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
    )
