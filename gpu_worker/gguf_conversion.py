"""A Llama-family GGUF file made into a Hugging Face model folder, without torch or transformers.

Every value is what `gguf` dequantises it to, rounded once to bfloat16, so the folder's weights are bit-equal to those
that transformers loads from the same file.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from gguf import GGUFReader, dequantize
from safetensors import TensorSpec, serialize_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from queue_app.errors import Invalid

if TYPE_CHECKING:
    from pathlib import Path

    from gguf import ReaderTensor
    from numpy.typing import NDArray

CONTROL = 3  # GGUF's token type for special tokens
OUTSIDE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
SPECIAL = {
    "bos": "tokenizer.ggml.bos_token_id",
    "eos": "tokenizer.ggml.eos_token_id",
    "pad": "tokenizer.ggml.padding_token_id",
    "unk": "tokenizer.ggml.unknown_token_id",
}
INSIDE = {  # blk.N.… → model.layers.N.…
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def convert(gguf_file: Path, folder: Path) -> None:
    """Write `gguf_file`'s weights as bfloat16 safetensors, with config, tokenizer and chat template, into `folder`.

    Raises:
        Invalid: it is not a Llama with a byte-level BPE tokenizer
    """
    reader = GGUFReader(gguf_file)
    values = {key: field.contents() for key, field in reader.fields.items()}
    kind = (values.get("general.architecture"), values.get("tokenizer.ggml.model"), values.get("tokenizer.ggml.pre"))
    if kind != ("llama", "gpt2", "smollm"):
        raise Invalid(f"{gguf_file} holds {kind}; only the SmolLM2 family of Llama models is converted from GGUF")
    folder.mkdir(parents=True, exist_ok=True)
    tied = all(tensor.name != "output.weight" for tensor in reader.tensors)
    _write_weights(reader.tensors, values, folder / "model.safetensors")
    _write_json(folder / "config.json", _config(values, tied=tied))
    _write_json(folder / "generation_config.json", {"do_sample": False, **_special_ids(values)})
    _write_tokenizer(values, folder)
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors writes 0600; a server may run as another user


def _write_weights(tensors: list[ReaderTensor], values: dict[str, Any], path: Path) -> None:
    halves = {hugging_face_name(tensor.name): _bfloat16(dequantized(tensor, values)) for tensor in tensors}
    specs = {
        name: TensorSpec(dtype="bfloat16", shape=half.shape, data_ptr=half.ctypes.data, data_len=half.nbytes)
        for name, half in halves.items()  # which keeps the memory that the specs point to
    }
    serialize_file(specs, path, {"format": "pt"})


def dequantized(tensor: ReaderTensor, values: dict[str, Any]) -> NDArray[np.float32]:
    """A tensor's weights with their rows as Hugging Face has them; `values` is what the file says beside them."""
    array: NDArray[np.float32] = dequantize(tensor.data, tensor.tensor_type)
    if ".attn_q." in tensor.name:
        return _unpermuted(array, values["llama.attention.head_count"])
    if ".attn_k." in tensor.name:
        return _unpermuted(array, values["llama.attention.head_count_kv"])
    return array


def _unpermuted(array: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Undo GGUF's row order in q and k: it pairs neighbours for the rotary embedding, Hugging Face pairs halves."""
    rows, columns = array.shape
    return array.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _bfloat16(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper 16 bits after rounding to nearest, ties to even."""
    bits = np.ascontiguousarray(array).view(np.uint32)
    bits = bits + (0x7FFF + ((bits >> 16) & 1))
    return (bits >> 16).astype(np.uint16)


def hugging_face_name(name: str) -> str:
    """What a tensor of a GGUF file is called in a model folder."""
    if name in OUTSIDE:
        return OUTSIDE[name]
    _, layer, part, suffix = name.split(".")
    return f"model.layers.{layer}.{INSIDE[part]}.{suffix}"


def _config(values: dict[str, Any], *, tied: bool) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": values["llama.embedding_length"],
        "intermediate_size": values["llama.feed_forward_length"],
        "num_hidden_layers": values["llama.block_count"],
        "num_attention_heads": values["llama.attention.head_count"],
        "num_key_value_heads": values["llama.attention.head_count_kv"],
        "vocab_size": values["llama.vocab_size"],
        "max_position_embeddings": values["llama.context_length"],
        "rms_norm_eps": float(str(values["llama.attention.layer_norm_rms_epsilon"])),
        "rope_theta": float(values["llama.rope.freq_base"]),
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": tied,
        "torch_dtype": "bfloat16",
        **_special_ids(values),
    }


def _special_ids(values: dict[str, Any]) -> dict[str, int]:
    return {f"{name}_token_id": int(values[key]) for name, key in SPECIAL.items() if name != "unk"}


def _write_tokenizer(values: dict[str, Any], folder: Path) -> None:
    tokens = values["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in values["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    # llama.cpp's pre-tokenizer "smollm": every digit alone, then GPT-2's pattern
    digits, words = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    tokenizer.decoder = decoders.ByteLevel()
    types = zip(tokens, values["tokenizer.ggml.token_type"], strict=True)
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t, kind in types if kind == CONTROL]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": values["llama.context_length"],
        "clean_up_tokenization_spaces": False,
        **{f"{name}_token": tokens[values[key]] for name, key in SPECIAL.items()},
    }
    _write_json(folder / "tokenizer_config.json", settings)
    (folder / "chat_template.jinja").write_text(values["tokenizer.chat_template"], encoding="utf-8")


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, default=int) + "\n", encoding="utf-8")
