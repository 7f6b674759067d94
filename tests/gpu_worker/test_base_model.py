from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gpu_worker.base_model import INDEX, fingerprint, read_header, read_model, weight_files
from queue_app.errors import Invalid
from tests.tiny_model import CONTEXT, INNER, LAYERS, VOCABULARY, WIDTH, make_tiny_model

PARAMETERS = VOCABULARY * WIDTH + LAYERS * (3 * WIDTH * WIDTH + 3 * WIDTH * INNER + 2 * WIDTH) + WIDTH


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize(("dtype", "width"), [("float32", 4), ("bfloat16", 2)])
def test_the_facts_of_a_model_are_read_from_its_headers(tmp_path: Path, dtype: str, width: int, shards: int):
    facts = read_model(make_tiny_model(tmp_path / "model", dtype=dtype, shards=shards))
    assert facts.architecture == "LlamaForCausalLM"
    assert facts.parameters == PARAMETERS
    assert facts.size_bytes == width * PARAMETERS
    assert facts.context_length == CONTEXT
    assert facts.has_chat_template


def test_reading_a_model_loads_no_torch(tmp_path: Path):
    model = make_tiny_model(tmp_path / "model")
    program = (
        "import sys, pathlib; from gpu_worker.base_model import read_model; "
        f"read_model(pathlib.Path({str(model)!r})); print('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str):
    model = make_tiny_model(tmp_path / "model")
    (model / name).unlink()
    with pytest.raises(Invalid, match=f"{re.escape(str(model / name))} is missing"):
        read_model(model)


def test_a_missing_shard_is_named(tmp_path: Path):
    model = make_tiny_model(tmp_path / "model", shards=2)
    (model / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(Invalid, match=r"model-00002-of-00002.safetensors is missing; copy the whole model again"):
        read_model(model)


def test_a_model_of_pickles_is_refused_with_the_reason(tmp_path: Path):
    model = make_tiny_model(tmp_path / "model")
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(Invalid, match=r"pytorch_model.bin is a pickle, which can run code"):
        read_model(model)


def test_a_file_that_was_cut_off_is_told_by_its_size(tmp_path: Path):
    model = make_tiny_model(tmp_path / "model")
    weights = model / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    with pytest.raises(Invalid, match=f"has {len(whole) - 10} bytes, its header says {len(whole)}"):
        read_model(model)


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 64, (9).to_bytes(8, "little") + b'{"a":"b"}'])
def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path, content: bytes):
    model = make_tiny_model(tmp_path / "model")
    (model / "model.safetensors").write_bytes(content)
    with pytest.raises(Invalid, match=r"model\.safetensors (is not a safetensors file|has a broken)"):
        read_model(model)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "config.json is not valid JSON"),
        ("[]", "config.json must hold a JSON object, not a list"),
        ('{"architectures": ["BertForMaskedLM"]}', "names the architecture BertForMaskedLM"),
        ("{}", "names the architecture nothing"),
    ],
)
def test_a_config_that_is_not_of_a_causal_model_is_refused(tmp_path: Path, text: str, message: str):
    model = make_tiny_model(tmp_path / "model")
    (model / "config.json").write_text(text)
    with pytest.raises(Invalid, match=message):
        read_model(model)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"quantization_config": {"quant_method": "gptq"}}, r"weights are quantised \(gptq\).*take the unquantised"),
        ({"num_hidden_layers": 4}, "speaks of 4 layers, and the weights have none of number 2"),
    ],
    ids=str,
)
def test_weights_that_cannot_be_trained_or_are_not_all_there_are_refused(
    tmp_path: Path, setting: dict[str, object], message: str
):
    folder = make_tiny_model(tmp_path / "tiny")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | setting))
    with pytest.raises(Invalid, match=message):
        read_model(folder)


def test_something_that_is_no_folder_is_refused(tmp_path: Path):
    with pytest.raises(Invalid, match="is not a folder"):
        read_model(tmp_path / "nowhere")


def test_an_index_cannot_name_files_outside_of_the_model(tmp_path: Path):
    model = make_tiny_model(tmp_path / "model", shards=2)
    index = json.loads((model / INDEX).read_text())
    outside = f"../{model.name}/model-00001-of-00002.safetensors"
    index["weight_map"] = dict.fromkeys(index["weight_map"], outside)
    (model / INDEX).write_text(json.dumps(index))
    with pytest.raises(Invalid, match="is missing"):
        weight_files(model)


def test_a_fingerprint_tells_weights_apart_and_not_their_files(tmp_path: Path):
    one, sharded = make_tiny_model(tmp_path / "one"), make_tiny_model(tmp_path / "sharded", shards=3)
    other, coarse = make_tiny_model(tmp_path / "other", seed=1), make_tiny_model(tmp_path / "coarse", dtype="bfloat16")
    assert fingerprint(one) == fingerprint(sharded)
    assert len({fingerprint(model) for model in (one, other, coarse)}) == 3


def test_a_chat_template_may_also_lie_in_the_tokenizer_config(tmp_path: Path):
    model = make_tiny_model(tmp_path / "model")
    (model / "chat_template.jinja").unlink()
    assert not read_model(model).has_chat_template
    (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    assert read_model(model).has_chat_template


@pytest.mark.parametrize("places", [[], {}, {"model.norm.weight": 1}])
def test_an_index_that_names_no_files_is_refused(tmp_path: Path, places: object):
    model = make_tiny_model(tmp_path / "model", shards=2)
    (model / INDEX).write_text(json.dumps({"weight_map": places}))
    with pytest.raises(Invalid, match="weight_map must name a file for each tensor"):
        read_model(model)


def write_header(path: Path, *spans: tuple[int, int]) -> None:
    """A safetensors file with tensors at these bytes of its data."""
    entries = {f"t{n}": {"dtype": "U8", "shape": [e - b], "data_offsets": [b, e]} for n, (b, e) in enumerate(spans)}
    header = json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(max((end for _, end in spans), default=0)))


@pytest.mark.parametrize("spans", [[(0, 4), (6, 8)], [(0, 4), (2, 8)], [(1, 8)]], ids=["gap", "overlap", "late"])
def test_tensors_that_do_not_follow_one_another_are_refused(tmp_path: Path, spans: list[tuple[int, int]]):
    write_header(tmp_path / "model.safetensors", *spans)
    with pytest.raises(Invalid, match="does not begin where the tensor before it ends"):
        read_header(tmp_path / "model.safetensors")


def test_a_model_without_tensors_is_refused(tmp_path: Path):
    model = make_tiny_model(tmp_path / "model")
    write_header(model / "model.safetensors")
    with pytest.raises(Invalid, match="hold no tensor"):
        read_model(model)
