from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from gguf import GGUFReader, dequantize
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from gpu_worker.base_model import read_header
from gpu_worker.gguf_check import check_export
from gpu_worker.gguf_conversion import convert
from gpu_worker.gguf_export import export
from gpu_worker.gguf_head import ROPE_FACTORS
from gpu_worker.gguf_tensors import sources_of
from gpu_worker.gguf_vocabulary import LLAMA_3, read_vocabulary
from queue_app.errors import Invalid, Permanent
from queue_app.lifecycle import State
from tests.tiny_model import CHAT_TEMPLATE, HEADS, LAYERS, VOCABULARY, WIDTH, make_tiny_model

if TYPE_CHECKING:
    from tests.conftest import RunHere

WEIGHTS = 9 * LAYERS + 2
SMOLLM = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    ],
}


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def said(path: Path) -> dict[str, Any]:
    return {key: field.contents() for key, field in GGUFReader(path).fields.items()}


def test_f16_is_each_weight_rounded_once(tmp_path: Path):
    model = make_tiny_model(tmp_path / "model", shards=2)
    made = export(model, tmp_path / "model.gguf", "f16")
    assert (made["tensors"], made["weight_error"]) == (WEIGHTS, 0)
    weights = {k: v for file in sorted(model.glob("*.safetensors")) for k, v in load_file(file).items()}
    found = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "model.gguf").tensors}
    down = found["blk.1.ffn_down.weight"]
    rounded = weights["model.layers.1.mlp.down_proj.weight"].astype(np.float16)
    assert np.array_equal(down.data, rounded)
    norm = found["blk.0.attn_norm.weight"]
    assert np.array_equal(norm.data, weights["model.layers.0.input_layernorm.weight"])


def test_q8_0_is_within_half_a_step_and_much_smaller(tmp_path: Path):
    model = make_tiny_model(tmp_path / "model")
    f16, q8 = (export(model, tmp_path / f"{kind}.gguf", kind) for kind in ("f16", "q8_0"))
    assert 0 < q8["weight_error"] <= 1
    assert q8["size_mib"] < f16["size_mib"]
    found = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "q8_0.gguf").tensors}
    up = found["blk.0.ffn_up.weight"]
    exact = load_file(model / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    assert np.abs(dequantize(up.data, up.tensor_type) - exact).max() <= 0.57 * np.abs(exact).max() / 127


def test_a_model_that_goes_to_gguf_and_back_is_the_same(tmp_path: Path):
    model = make_tiny_model(tmp_path / "model", dtype="bfloat16")
    changed(model / "tokenizer.json", pre_tokenizer=SMOLLM)
    export(model, tmp_path / "model.gguf", "f16")
    convert(tmp_path / "model.gguf", tmp_path / "back")
    ours, theirs = ({t.name: t for t in read_header(f / "model.safetensors")} for f in (model, tmp_path / "back"))
    assert {name: (t.dtype, t.shape) for name, t in ours.items()} == {n: (t.dtype, t.shape) for n, t in theirs.items()}
    config, back = (json.loads((f / "config.json").read_text()) for f in (model, tmp_path / "back"))
    same = ("hidden_size", "num_key_value_heads", "vocab_size", "eos_token_id", "tie_word_embeddings")
    assert {key: config[key] for key in same} == {key: back[key] for key in same}
    text = "the yard 12 é 日本\n<|im_end|>"
    before, after = (
        Tokenizer.from_file(str(f / "tokenizer.json")).encode(text).ids for f in (model, tmp_path / "back")
    )
    assert before == after
    assert (tmp_path / "back" / "chat_template.jinja").read_text() == CHAT_TEMPLATE


def test_tokens_without_a_name_are_filled_up_and_added_ones_are_told_apart(tmp_path: Path):
    model = make_tiny_model(tmp_path / "model")
    plain = {"id": VOCABULARY, "content": "<note>", "special": False, "lstrip": False, "rstrip": False,
             "normalized": False, "single_word": False}  # fmt: skip
    known = json.loads((model / "tokenizer.json").read_text())
    changed(model / "tokenizer.json", added_tokens=[*known["added_tokens"], plain])
    vocabulary = read_vocabulary(model, VOCABULARY + 3)
    assert vocabulary.tokens[-3:] == ["<note>", f"[PAD{VOCABULARY + 1}]", f"[PAD{VOCABULARY + 2}]"]
    assert (vocabulary.types[:4], vocabulary.types[-3:]) == ([3, 3, 3, 1], [4, 5, 5])
    assert (vocabulary.rule, vocabulary.begins_with_bos) == ("gpt-2", False)
    assert vocabulary.special == {"bos": 1, "eos": 2, "pad": 2, "unk": 0}
    with pytest.raises(Invalid, match="the embedding has 300 rows"):
        read_vocabulary(model, VOCABULARY)


def test_llama_3s_splitting_and_its_stretched_positions_are_told(tmp_path: Path):
    model = make_tiny_model(tmp_path / "model")
    split = {"type": "Split", "pattern": {"Regex": LLAMA_3}, "behavior": "Isolated", "invert": False}
    end = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    changed(model / "tokenizer.json", pre_tokenizer={"type": "Sequence", "pretokenizers": [split, end]})
    rope = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 128}  # fmt: skip
    changed(model / "config.json", rope_parameters=rope)
    export(model, tmp_path / "model.gguf", "f16")
    assert said(tmp_path / "model.gguf")["tokenizer.ggml.pre"] == "llama-bpe"
    [factors] = [t.data for t in GGUFReader(tmp_path / "model.gguf").tensors if t.name == ROPE_FACTORS]
    from transformers import AutoConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    stretched, _ = ROPE_INIT_FUNCTIONS["llama3"](AutoConfig.from_pretrained(model), "cpu")
    size = WIDTH // HEADS
    plain = 10000.0 ** -(np.arange(0, size, 2) / size)
    assert np.allclose(plain / factors, stretched.numpy(), rtol=1e-5)
    assert factors.min() == 1
    assert factors.max() == 8


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("config.json", {"architectures": ["Qwen3ForCausalLM"]}, "Qwen3ForCausalLM is not exported"),
        ("config.json", {"attention_bias": True}, "only Llama without biases"),
        ("config.json", {"rope_parameters": {"rope_type": "yarn"}}, "its rotary embedding is yarn"),
        ("tokenizer.json", {"normalizer": {"type": "NFC"}}, "with a normalizer"),
        ("tokenizer.json", {"pre_tokenizer": {"type": "Metaspace"}}, "splits text by Metaspace"),
    ],
)
def test_what_gguf_cannot_hold_is_refused_with_the_reason(
    tmp_path: Path, file: str, values: dict[str, Any], message: str
):
    model = make_tiny_model(tmp_path / "model")
    changed(model / file, **values)
    with pytest.raises(Invalid, match=message):
        export(model, tmp_path / "model.gguf", "f16")


def test_a_weight_that_is_too_large_is_named(tmp_path: Path):
    model = make_tiny_model(tmp_path / "model")
    weights = {key: array.copy() for key, array in load_file(model / "model.safetensors").items()}
    weights["model.layers.0.mlp.up_proj.weight"][0, 0] = 1e6
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(Permanent, match=r"layers.0.mlp.up_proj.weight holds a weight that F16 cannot"):
        export(model, tmp_path / "model.gguf", "f16")


def test_a_file_whose_rows_of_q_were_not_moved_is_caught(tmp_path: Path):
    model = make_tiny_model(tmp_path / "model")
    export(model, tmp_path / "model.gguf", "f16")
    sources = sources_of(model, json.loads((model / "config.json").read_text()), "f16")
    query = next(source for source in sources if source.name == "blk.0.attn_q.weight")
    [written] = [t for t in GGUFReader(tmp_path / "model.gguf").tensors if t.name == query.name]
    with (tmp_path / "model.gguf").open("r+b") as file:
        file.seek(written.data_offset)
        file.write(query.read().astype(np.float16).tobytes())
    with pytest.raises(Permanent, match=r"blk.0.attn_q.weight is inf times as far"):
        check_export(tmp_path / "model.gguf", sources)


def test_the_job_publishes_the_file_with_card_and_licence(run_here: RunHere, tmp_path: Path):
    model = make_tiny_model(tmp_path / "model")
    (model / "README.md").write_text("---\nlicense: apache-2.0\n---\nA model.\n")
    (model / "LICENSE").write_text("Apache")
    job = run_here("model.export", model=str(model), type="q8_0")
    assert job.state == State.SUCCEEDED, job.failure
    assert job.result is not None
    folder = run_here.artifact(job.result["gguf"])
    assert {path.name for path in folder.iterdir()} == {"model-q8_0.gguf", "README.md", "LICENSE"}
    assert said(folder / "model-q8_0.gguf")["general.license"] == "apache-2.0"


@pytest.mark.parametrize("kind", ["f16", "q8_0"])
def test_llama_cpp_answers_from_the_file(tmp_path: Path, kind: str):
    xllamacpp = pytest.importorskip("xllamacpp", reason="llama.cpp is not installed here")
    export(make_tiny_model(tmp_path / "model"), tmp_path / "model.gguf", kind)
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(tmp_path / "model.gguf")
    parameters.n_ctx, parameters.n_predict, parameters.sampling.temp = 64, 4, 0.0
    server = xllamacpp.Server(parameters)
    answer = server.handle_completions({"prompt": "the yard", "max_tokens": 4})
    assert answer["usage"]["completion_tokens"] == 4
