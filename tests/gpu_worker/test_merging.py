from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

from gpu_worker.adapter import WEIGHTS, check_fit, read_adapter
from gpu_worker.base_model import INDEX, fingerprint, weight_files
from gpu_worker.merge_check import check_merge
from gpu_worker.merging import merge
from queue_app.errors import Invalid, Permanent
from queue_app.lifecycle import Cause, State
from tests.tiny_adapter import ALL_LINEAR, make_tiny_adapter
from tests.tiny_model import LAYERS, make_tiny_model

if TYPE_CHECKING:
    from tests.conftest import RunHere

TOLERANCE = 0.5


def silent(_: str) -> None: ...


def merged_by_peft(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter))
    merged: dict[str, torch.Tensor] = model.merge_and_unload().state_dict()
    return merged


def loaded(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    return state


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"mlp.up_proj": 8}, "alpha_pattern": {"mlp.up_proj": 3, "0.self_attn.q_proj": 1}},
    ],
    ids=["plain", "rslora", "patterns"],
)
def test_a_merge_is_bit_equal_to_pefts(tmp_path: Path, dtype: str, shards: int, settings: dict[str, Any]):
    base = make_tiny_model(tmp_path / "base", dtype=dtype, shards=shards)
    adapter = make_tiny_adapter(tmp_path / "adapter", base, **settings)
    assert merge(base, adapter, tmp_path / "merged", silent).changed == LAYERS * len(ALL_LINEAR)
    ours, theirs = loaded(tmp_path / "merged"), merged_by_peft(base, adapter)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


@pytest.mark.parametrize("shards", [1, 2])
def test_a_merged_model_has_all_that_its_base_has(tmp_path: Path, shards: int):
    base = make_tiny_model(tmp_path / "base", shards=shards)
    (base / "modeling_own.py").write_text("raise SystemExit\n")
    merge(base, make_tiny_adapter(tmp_path / "adapter", base), tmp_path / "merged", silent)
    files = {path.name for path in (tmp_path / "merged").iterdir()}
    assert files == {path.name for path in base.iterdir()} - {"modeling_own.py"}
    assert {path.stat().st_mode & 0o777 for path in weight_files(tmp_path / "merged")} == {0o644}
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (tmp_path / "merged" / name).read_bytes() == (base / name).read_bytes()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_merged_model_is_base_and_adapter_together(tmp_path: Path, dtype: str):
    base = make_tiny_model(tmp_path / "base", dtype=dtype)
    adapter = make_tiny_adapter(tmp_path / "adapter", base)
    merge(base, adapter, tmp_path / "merged", silent)
    parity = check_merge(base, adapter, tmp_path / "merged", TOLERANCE)
    assert parity.weight_error <= 1
    assert parity.effect_kept == pytest.approx(1, abs=0.02)
    assert parity.effect_error < (0.05 if dtype == "bfloat16" else 1e-4)
    assert parity.compared_in == "float32"
    if dtype == "float32":
        assert parity.max_logit_difference < 1e-5
        assert abs(parity.loss_difference) < 1e-6


def test_a_merge_that_did_nothing_is_caught(tmp_path: Path):
    base = make_tiny_model(tmp_path / "base", dtype="bfloat16")
    adapter = make_tiny_adapter(tmp_path / "adapter", base)
    with pytest.raises(Permanent, match="times as far from base"):
        check_merge(base, adapter, base, TOLERANCE)


def test_a_merge_done_twice_is_caught(tmp_path: Path):
    base = make_tiny_model(tmp_path / "base", dtype="bfloat16")
    adapter = make_tiny_adapter(tmp_path / "adapter", base)
    merge(base, adapter, tmp_path / "once", silent)
    merge(tmp_path / "once", adapter, tmp_path / "twice", silent)
    with pytest.raises(Permanent, match="times as far from base"):
        check_merge(base, adapter, tmp_path / "twice", TOLERANCE)


@pytest.mark.parametrize("module", ["model.layers.0.mlp.up_proj", "model.layers.1.self_attn.k_proj"])
def test_a_merge_that_left_out_one_layer_is_caught(tmp_path: Path, module: str):
    base = make_tiny_model(tmp_path / "base")
    adapter = make_tiny_adapter(tmp_path / "adapter", base, size=0.001)
    merge(base, adapter, tmp_path / "merged", silent)
    weights = load_file(tmp_path / "merged" / "model.safetensors")
    weights[f"{module}.weight"] = load_file(base / "model.safetensors")[f"{module}.weight"]
    save_file(weights, tmp_path / "merged" / "model.safetensors", {"format": "pt"})
    with pytest.raises(Permanent, match="times as far from base"):
        check_merge(base, adapter, tmp_path / "merged", TOLERANCE)


def test_a_merge_with_another_scale_is_caught(tmp_path: Path):
    base = make_tiny_model(tmp_path / "base")
    merge(base, make_tiny_adapter(tmp_path / "other", base, lora_alpha=9), tmp_path / "merged", silent)
    adapter = make_tiny_adapter(tmp_path / "adapter", base, lora_alpha=8)
    with pytest.raises(Permanent, match="times as far from base"):
        check_merge(base, adapter, tmp_path / "merged", TOLERANCE)


def test_an_adapter_that_the_rounding_swallows_is_refused(tmp_path: Path):
    base = make_tiny_model(tmp_path / "base", dtype="bfloat16")
    adapter = make_tiny_adapter(tmp_path / "adapter", base, size=0.00002)
    merge(base, adapter, tmp_path / "merged", silent)
    with pytest.raises(Permanent, match="smaller than the rounding of the base's weights"):
        check_merge(base, adapter, tmp_path / "merged", TOLERANCE)


def test_a_wrong_config_beside_right_weights_is_caught(tmp_path: Path):
    base = make_tiny_model(tmp_path / "base")
    adapter = make_tiny_adapter(tmp_path / "adapter", base, size=0.005)
    merge(base, adapter, tmp_path / "merged", silent)
    config = json.loads((base / "config.json").read_text())
    (tmp_path / "merged" / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 10.0}))
    with pytest.raises(Permanent, match="of what the adapter changes"):
        check_merge(base, adapter, tmp_path / "merged", TOLERANCE)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type is IA3"),
        ({"use_dora": True}, "use_dora is set"),
        ({"modules_to_save": ["norm"]}, "modules_to_save names norm, which adapter_model.safetensors does not hold"),
        ({"bias": "all"}, "bias is all"),
        ({"lora_bias": True}, "lora_bias is set"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights pissa changes the base weights"),
        ({"r": 8}, "with rank 8 these are no LoRA"),
        ({"r": None}, "r is None, not a number"),
        ({"lora_alpha": "x"}, "lora_alpha is x, not a number"),
    ],
)
def test_an_adapter_that_is_more_than_lora_is_refused(tmp_path: Path, settings: dict[str, Any], message: str):
    base = make_tiny_model(tmp_path / "base")
    adapter = make_tiny_adapter(tmp_path / "adapter", base)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | settings))
    with pytest.raises(Invalid, match=message):
        read_adapter(adapter)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("base_model.model.model.norm.weight", "is no LoRA matrix"),
        ("base_model.model.model.layers.0.mlp.gate_proj.lora_A.weight", "only one half"),
    ],
)
def test_an_adapter_with_odd_tensors_is_refused(tmp_path: Path, name: str, message: str):
    base = make_tiny_model(tmp_path / "base")
    adapter = make_tiny_adapter(tmp_path / "adapter", base)
    matrices = load_file(adapter / WEIGHTS)
    if name in matrices:
        del matrices[name]
    else:
        matrices[name] = np.zeros((4, 4), np.float32)
    save_file(matrices, adapter / WEIGHTS)
    with pytest.raises(Invalid, match=message):
        read_adapter(adapter)


def test_an_adapter_for_layers_that_the_base_does_not_have_is_refused(tmp_path: Path):
    base = make_tiny_model(tmp_path / "base")
    adapter = make_tiny_adapter(tmp_path / "adapter", base)
    matrices = {name.replace("layers.1", "layers.9"): m for name, m in load_file(adapter / WEIGHTS).items()}
    save_file(matrices, adapter / WEIGHTS)
    with pytest.raises(Invalid, match=r"layers\.9\.[a-z_.]+weight, which the base model does not have"):
        check_fit(read_adapter(adapter), adapter, base)


def test_an_adapter_of_another_shape_is_refused(tmp_path: Path):
    base = make_tiny_model(tmp_path / "base")
    adapter = make_tiny_adapter(tmp_path / "adapter", base)
    matrices = load_file(adapter / WEIGHTS)
    name = "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"
    save_file(matrices | {name: np.zeros((4, 32), np.float32)}, adapter / WEIGHTS)
    with pytest.raises(Invalid, match=r"up_proj.weight is \(128, 64\) in the base, \(128, 32\) in the adapter"):
        check_fit(read_adapter(adapter), adapter, base)


def test_an_adapter_trained_on_other_weights_of_the_same_shape_is_refused(tmp_path: Path):
    base, other = make_tiny_model(tmp_path / "base"), make_tiny_model(tmp_path / "other", seed=1)
    adapter = make_tiny_adapter(tmp_path / "adapter", base)
    changes = read_adapter(adapter)
    assert not check_fit(changes, adapter, base)
    record = {"base_model": {"name": "base", "fingerprint": fingerprint(base)}}
    (adapter / "training.json").write_text(json.dumps(record))
    assert check_fit(changes, adapter, base)
    with pytest.raises(Invalid, match="same shapes, other weights"):
        check_fit(changes, adapter, other)


def test_an_adapter_that_is_not_finite_is_refused_and_leaves_no_weights(tmp_path: Path):
    base = make_tiny_model(tmp_path / "base")
    adapter = make_tiny_adapter(tmp_path / "adapter", base)
    matrices = load_file(adapter / WEIGHTS)
    matrices["base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"][3, 0] = np.nan
    save_file(matrices, adapter / WEIGHTS)
    with pytest.raises(Permanent, match=r"layers.1.mlp.down_proj.weight is not finite"):
        merge(base, adapter, tmp_path / "merged", silent)
    assert not (tmp_path / "merged" / "model.safetensors").exists()


def with_nan(base: Path, name: str) -> Path:
    weights = {key: array.copy() for key, array in load_file(base / "model.safetensors").items()}
    weights[name].flat[3] = np.nan
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    return base


def test_an_untouched_tensor_that_is_not_finite_is_named(tmp_path: Path):
    base = with_nan(make_tiny_model(tmp_path / "base"), "model.norm.weight")
    adapter = make_tiny_adapter(tmp_path / "adapter", base)
    merge(base, adapter, tmp_path / "merged", silent)
    with pytest.raises(Permanent, match=f"model.norm.weight in {base}.* is not finite") as refused:
        check_merge(base, adapter, tmp_path / "merged", TOLERANCE)
    assert refused.value.cause == Cause.DATA


def test_a_changed_tensor_that_is_not_finite_in_the_base_is_no_divergence(tmp_path: Path):
    base = with_nan(make_tiny_model(tmp_path / "base"), "model.layers.1.mlp.down_proj.weight")
    adapter = make_tiny_adapter(tmp_path / "adapter", base)
    with pytest.raises(Permanent, match=r"layers.1.mlp.down_proj.weight .*: the base's own is not"):
        merge(base, adapter, tmp_path / "merged", silent)


def test_an_empty_shard_is_left_out(tmp_path: Path):
    base = make_tiny_model(tmp_path / "base", shards=2)
    save_file({}, base / "model-empty.safetensors")
    index = json.loads((base / INDEX).read_text())
    index["weight_map"]["nothing"] = "model-empty.safetensors"
    (base / INDEX).write_text(json.dumps(index))
    merge(base, make_tiny_adapter(tmp_path / "adapter", base), tmp_path / "merged", silent)
    assert not (tmp_path / "merged" / "model-empty.safetensors").exists()
    assert loaded(tmp_path / "merged").keys() == loaded(base).keys()


def test_the_job_merges_and_says_how_close_it_came(run_here: RunHere, tmp_path: Path):
    base = make_tiny_model(tmp_path / "base", dtype="bfloat16")
    adapter = make_tiny_adapter(tmp_path / "adapter", base)
    job = run_here("adapter.merge", adapter=str(adapter), base_model=str(base))
    assert job.state == State.SUCCEEDED, job.failure
    assert job.result is not None
    assert job.result["tensors_merged"] == LAYERS * len(ALL_LINEAR)
    assert job.result["weight_error"] <= 1
    assert job.result["effect_kept"] == pytest.approx(1, abs=0.02)
    ours, theirs = loaded(run_here.artifact(job.result["model"])), merged_by_peft(base, adapter)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_job_refuses_an_untrained_adapter_and_publishes_nothing(run_here: RunHere, tmp_path: Path):
    base = make_tiny_model(tmp_path / "base")
    adapter = make_tiny_adapter(tmp_path / "adapter", base, size=0)
    job = run_here("adapter.merge", adapter=str(adapter), base_model=str(base))
    assert (job.state, job.cause) == (State.FAILED, "data")
    assert "it was not trained" in str(job.failure)
    assert not (run_here.settings.home / "jobs" / job.id / "model").exists()
    assert not run_here.store.artifacts.ls()


def test_a_retried_merge_begins_anew(run_here: RunHere, tmp_path: Path):
    base = make_tiny_model(tmp_path / "base")
    adapter = make_tiny_adapter(tmp_path / "adapter", base)
    job_id = run_here.submit("adapter.merge", adapter=str(adapter), base_model=str(base))
    left = run_here.settings.home / "jobs" / job_id / "model"
    left.mkdir(parents=True)
    shutil.copyfile(base / "model.safetensors", left / "model-00009-of-00009.safetensors")
    job = run_here.finish(job_id)
    assert job.result is not None
    assert not (run_here.artifact(job.result["model"]) / "model-00009-of-00009.safetensors").exists()
