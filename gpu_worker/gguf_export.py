"""A Llama model folder written as a GGUF file, tensor by tensor, and read back: without torch or llama.cpp.

f16 is each weight rounded once to float16. q8_0 keeps 32 weights of a row as whole numbers of 8 bits and one float16
scale; vectors, and rows whose length is no multiple of 32, stay as they are in f16. Memory grows with the largest
tensor. Covered by the check: every weight, its place, the order of q and k. Not covered: llama.cpp's own reading of
the tokenizer, and its arithmetic.
"""

from __future__ import annotations

import math
import shutil
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, LlamaFileType
from gguf.quants import quantize

from gpu_worker.base_model import read_header, read_json, read_model, weight_files
from gpu_worker.child_side import Channel, Stopped, child_main
from gpu_worker.gguf_conversion import INSIDE, OUTSIDE, dequantized, hugging_face_name
from gpu_worker.gguf_vocabulary import read_vocabulary
from gpu_worker.memory import peak_rss_mib
from gpu_worker.model_card import find_license
from queue_app.errors import Invalid, Permanent
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpu_worker.base_model import Tensor

F32, F16, Q8_0 = GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.Q8_0
FILE_TYPES = {"f16": LlamaFileType.MOSTLY_F16, "q8_0": LlamaFileType.MOSTLY_Q8_0}
BLOCK, BLOCK_BYTES = 32, 34  # of q8_0
HALF_STEP = (0.5 + 127 * 2.0**-11) * (1 + 2.0**-10)  # of a block's scale: rounding, and that of the scale itself
LEAST_SCALE_ERROR = 127 * 2.0**-25  # of a scale below float16's normal numbers
LARGEST = {F16: 65504.0, Q8_0: 65504.0 * 127}  # the scale of a q8_0 block is a float16
FROM_HUGGING_FACE = {new: old for old, new in OUTSIDE.items()}
FROM_LAYER = {new: old for old, new in INSIDE.items()}
READ_AS = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
ROPE_FACTORS = "rope_freqs.weight"
MARGIN_MIB = 64  # for the head: tokens and merges


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


def export(model: Path, target: Path, file_type: str, channel: Channel | None = None) -> dict[str, Any]:
    """Write `model` as the GGUF file `target` and prove it; `file_type` is f16 or q8_0.

    Raises:
        Invalid: it is no Llama that GGUF can hold; says what is in the way
        Permanent: there is no room, or a weight is too large for float16
    """
    read_model(model)
    config = read_json(model / "config.json")
    sources = _sources(model, config, file_type)
    _check_room(sources, target)
    with closing(GGUFWriter(target, "llama")) as writer:
        _write_head(writer, model, config, sources, file_type)
        for number, source in enumerate(sources):
            _show(channel, f"writing {number + 1} of {len(sources)} tensors")
            writer.write_tensor_data(_encoded(source))
        if (factors := _rope_factors(model, config)) is not None:
            writer.write_tensor_data(factors)
    target.chmod(0o644)
    _show(channel, "reading it back")
    error = check_export(target, sources)
    return {"tensors": len(sources), "size_mib": round(target.stat().st_size / 2**20, 1), "weight_error": error}


def _show(channel: Channel | None, phase: str) -> None:
    if channel is not None:
        if channel.stop_requested:
            raise Stopped
        channel.progress(phase=phase)


def _sources(model: Path, config: dict[str, Any], file_type: str) -> list[Source]:
    if config["architectures"][0] != "LlamaForCausalLM" or config.get("attention_bias") or config.get("mlp_bias"):
        raise Invalid(
            f"{model}: {config['architectures'][0]} is not exported; only Llama without biases is: llama.cpp's "
            "convert_hf_to_gguf.py knows the other families"
        )
    heads = {"q_proj": config["num_attention_heads"], "k_proj": _key_value_heads(config)}
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


def _key_value_heads(config: dict[str, Any]) -> int:
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


def _write_head(writer: GGUFWriter, model: Path, config: dict[str, Any], sources: list[Source], file_type: str) -> None:
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
    writer.add_head_count_kv(_key_value_heads(config))
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
    if (factors := _rope_factors(model, config)) is not None:
        writer.add_tensor_info(ROPE_FACTORS, factors.shape, factors.dtype, factors.nbytes, raw_dtype=F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    return config.get("rope_parameters") or config.get("rope_scaling") or {}


def _rope_factors(model: Path, config: dict[str, Any]) -> NDArray[np.float32] | None:
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


def _encoded(source: Source) -> NDArray[Any]:
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
    encoded: NDArray[Any] = weights.astype(np.float16) if source.kind == F16 else quantize(weights, source.kind)
    return encoded


def _permuted(array: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """GGUF's row order in q and k: it pairs neighbours for the rotary embedding, Hugging Face pairs halves."""
    rows, columns = array.shape
    return np.ascontiguousarray(
        array.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
    )


def check_export(target: Path, sources: list[Source]) -> float:
    """Read the file back and compare every weight; the largest error, in units of what its type allows.

    Raises:
        Permanent: a weight is off by more, missing, or one too many
    """
    reader = GGUFReader(target)
    values = {key: field.contents() for key, field in reader.fields.items()}
    found = {tensor.name: tensor for tensor in reader.tensors if tensor.name != ROPE_FACTORS}
    if sorted(found) != sorted(source.name for source in sources):
        raise Permanent(f"{target} does not hold the tensors of the model; this is a bug", cause=Cause.BUG)
    worst = 0.0
    for source in sources:
        tensor, exact = found[source.name], source.read()
        if hugging_face_name(tensor.name) != source.tensor.name or tensor.tensor_type != source.kind:
            raise Permanent(f"{target}: {tensor.name} is not what was written; this is a bug", cause=Cause.BUG)
        error = _error(dequantized(tensor, values), exact, source)
        if not error <= 1:
            raise Permanent(
                f"{target}: {source.name} is {error:g} times as far from {source.tensor.name} as {source.kind.name} "
                "allows; the disk has changed it, or this is a bug: export again",
                cause=Cause.BUG,
            )
        worst = max(worst, error)
    return round(worst, 4)


def _error(read: NDArray[np.float32], exact: NDArray[np.float32], source: Source) -> float:
    """f32 and f16: 0 where it is the nearest number, else infinite. q8_0: in units of half a step of its block."""
    if source.kind != Q8_0:
        nearest = exact if source.kind == F32 else exact.astype(np.float16).astype(np.float32)
        return 0.0 if np.array_equal(read, nearest) else math.inf
    blocks = exact.reshape(-1, BLOCK)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / 127
    allowed = scale * HALF_STEP + LEAST_SCALE_ERROR
    return float((np.abs(read.reshape(-1, BLOCK) - blocks) / allowed).max())


def _check_room(sources: list[Source], target: Path) -> None:
    needed, free = sum(s.size_bytes for s in sources) + MARGIN_MIB * 2**20, shutil.disk_usage(target.parent).free
    if free < needed:
        raise Permanent(
            f"the file needs {needed / 2**30:.1f} GiB, {target.parent} has {free / 2**30:.1f} GiB free; `tuneyard gc` "
            "finds what may go"
        )


def run(config: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Export as told; a file that is not proven is removed."""
    model, folder = Path(config["model"]), Path(config["folder"])
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.mkdir(parents=True)
        made = export(model, folder / config["file"], config["type"], channel)
        for path in sorted(model.iterdir()):
            if path.name.startswith(("README", "LICENSE")):
                shutil.copyfile(path, folder / path.name)
        undo.pop_all()
    return made | {"peak_rss_mib": peak_rss_mib()}


if __name__ == "__main__":
    child_main(run)
