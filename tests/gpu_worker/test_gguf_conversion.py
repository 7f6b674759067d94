from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from transformers import AutoModelForCausalLM, AutoTokenizer

from gpu_worker.base_model import read_model
from gpu_worker.gguf_conversion import convert
from queue_app.errors import Invalid

WIDTH, INNER, HEADS, SHARED_HEADS, LAYERS = 64, 128, 4, 2, 2
MERGES = ["t h", "Ġ th", "Ġth e"]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def byte_letters() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + place) for place in range(len(rest))]


def write_gguf(path: Path, *, kind: str = "smollm") -> Path:
    """A random Llama in the layout of the real file: linear layers in Q4_1, embedding in Q8_0, norms in F32."""
    random = np.random.default_rng(3)
    tokens = [*SPECIAL, *byte_letters(), *(merge.replace(" ", "") for merge in MERGES)]
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(SHARED_HEADS)
    writer.add_rope_freq_base(50000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(kind)
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")

    def add(name: str, shape: tuple[int, ...], kind: GGMLQuantizationType) -> None:
        values = random.normal(0, 0.1, shape).astype(np.float32)
        writer.add_tensor(f"{name}.weight", quantize(values, kind), raw_dtype=kind)

    q4, q8, f32 = GGMLQuantizationType.Q4_1, GGMLQuantizationType.Q8_0, GGMLQuantizationType.F32
    shared = WIDTH // HEADS * SHARED_HEADS
    add("token_embd", (len(tokens), WIDTH), q8)
    add("output_norm", (WIDTH,), f32)
    for layer in range(LAYERS):
        for name, shape in (
            ("attn_q", (WIDTH, WIDTH)),
            ("attn_k", (shared, WIDTH)),
            ("attn_v", (shared, WIDTH)),
            ("attn_output", (WIDTH, WIDTH)),
            ("ffn_gate", (INNER, WIDTH)),
            ("ffn_up", (INNER, WIDTH)),
            ("ffn_down", (WIDTH, INNER)),
        ):
            add(f"blk.{layer}.{name}", shape, q4)
        add(f"blk.{layer}.attn_norm", (WIDTH,), f32)
        add(f"blk.{layer}.ffn_norm", (WIDTH,), f32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_converted_weights_are_bit_equal_to_those_that_transformers_reads(tmp_path: Path):
    file = write_gguf(tmp_path / "model.gguf")
    convert(file, tmp_path / "model")
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers, about its own GGUF reader
        theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=file.name, dtype=torch.float32)
    expected = theirs.to(torch.bfloat16).state_dict()
    found = ours.state_dict()
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []
    assert ours.dtype == torch.bfloat16
    for setting in (
        "rope_parameters",
        "rms_norm_eps",
        "max_position_embeddings",
        "tie_word_embeddings",
        "eos_token_id",
    ):
        assert getattr(ours.config, setting) == pytest.approx(getattr(theirs.config, setting))


def test_the_tokenizer_splits_digits_and_knows_its_special_tokens(tmp_path: Path):
    convert(write_gguf(tmp_path / "model.gguf"), tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.tokenize("in the 12<|im_end|>") == ["i", "n", "Ġthe", "Ġ", "1", "2", "<|im_end|>"]
    text = "  the é 日本 🎉\t1,234\n"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (SPECIAL[1], SPECIAL[2], SPECIAL[2])


def test_a_converted_model_is_valid_and_readable_by_others(tmp_path: Path):
    convert(write_gguf(tmp_path / "model.gguf"), tmp_path / "model")
    facts = read_model(tmp_path / "model")
    assert (facts.dtype, facts.context_length, facts.has_chat_template) == ("BF16", 256, True)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()} == {0o644}


def test_another_family_is_refused(tmp_path: Path):
    with pytest.raises(Invalid, match="only the SmolLM2 family"):
        convert(write_gguf(tmp_path / "model.gguf", kind="qwen2"), tmp_path / "model")
