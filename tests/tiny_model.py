"""A tiny chat model that everything real can load: 2 Llama layers, 64 wide, random weights, made in code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from safetensors import TensorSpec, serialize_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

if TYPE_CHECKING:
    from pathlib import Path

LAYERS = 2
WIDTH = 64
INNER = 128
HEADS = 4
KEY_VALUE_HEADS = 2
VOCABULARY = 300
CONTEXT = 512
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for turn in messages %}<|im_start|>{{ turn['role'] }}\n{{ turn['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = ["the yard runs every train on time and the tune is measured before it leaves the yard", "user assistant system"]


def make_tiny_model(folder: Path, *, seed: int = 0, dtype: str = "float32", shards: int = 1) -> Path:
    """Write a Hugging Face model folder of about 500 kB; the same `seed` makes the same bytes.

    `dtype` is `float32` or `bfloat16`; `shards` > 1 writes several safetensors files and their index.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_VALUE_HEADS,
        "head_dim": WIDTH // HEADS,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "tie_word_embeddings": True,
        "dtype": dtype,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2})
    _write_tokenizer(folder)
    _write_weights(folder, _weights(seed), dtype, shards)
    return folder


def _weights(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return random.normal(0.0, 0.05, (rows, columns)).astype(np.float32)

    heads, shared = WIDTH, WIDTH // HEADS * KEY_VALUE_HEADS
    tensors = {"model.embed_tokens.weight": matrix(VOCABULARY, WIDTH), "model.norm.weight": np.ones(WIDTH, np.float32)}
    for layer in range(LAYERS):
        stem = f"model.layers.{layer}."
        for name, rows, columns in (
            ("self_attn.q_proj", heads, WIDTH),
            ("self_attn.k_proj", shared, WIDTH),
            ("self_attn.v_proj", shared, WIDTH),
            ("self_attn.o_proj", WIDTH, heads),
            ("mlp.gate_proj", INNER, WIDTH),
            ("mlp.up_proj", INNER, WIDTH),
            ("mlp.down_proj", WIDTH, INNER),
        ):
            tensors[f"{stem}{name}.weight"] = matrix(rows, columns)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{stem}{name}.weight"] = np.ones(WIDTH, np.float32)
    return tensors


def _write_weights(folder: Path, tensors: dict[str, np.ndarray], dtype: str, shards: int) -> None:
    names = sorted(tensors)
    if shards == 1:
        _write_shard(folder / "model.safetensors", tensors, dtype)
        return
    places = {name: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, name in enumerate(names)}
    for file in sorted(set(places.values())):
        _write_shard(folder / file, {name: tensors[name] for name in names if places[name] == file}, dtype)
    size = sum(array.nbytes for array in tensors.values()) // (2 if dtype == "bfloat16" else 1)
    _write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": places})


def _write_shard(path: Path, tensors: dict[str, np.ndarray], dtype: str) -> None:
    if dtype == "bfloat16":  # the upper half of a float32; truncation is rounding enough for random weights
        tensors = {name: (array.view(np.uint32) >> 16).astype(np.uint16) for name, array in tensors.items()}
    entries = {
        name: TensorSpec(dtype=dtype, shape=array.shape, data_ptr=array.ctypes.data, data_len=array.nbytes)
        for name, array in tensors.items()
    }
    serialize_file(entries, path, {"format": "pt"})
    path.chmod(0o644)


def _write_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 4, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
    }
    _write_json(folder / "tokenizer_config.json", settings)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
