"""Merges that are more than layer by layer: other types and files, whole weights, ties, vocabularies, full disks."""

from __future__ import annotations

import json
import os
import resource
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from gpu_worker import merging
from gpu_worker.adapter import HEAD, WEIGHTS
from gpu_worker.base_model import INDEX, read_header, read_model, weight_files
from gpu_worker.child_side import Channel
from gpu_worker.merge_check import check_merge
from gpu_worker.merge_plan import Form, plan_merge
from gpu_worker.merging import merge
from queue_app.errors import Invalid, Permanent
from queue_app.lifecycle import State
from tests.tiny_adapter import make_tiny_adapter
from tests.tiny_model import CONTEXT, LAYERS, VOCABULARY, WIDTH, make_tiny_model

if TYPE_CHECKING:
    from tests.conftest import RunHere

EMBEDDING = "model.embed_tokens.weight"
NORM = "model.norm.weight"


def silent(_: str) -> None: ...


def stored(folder: Path) -> dict[str, np.ndarray]:
    return {name: array for file in weight_files(folder) for name, array in load_file(file).items()}


def config_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "config.json").read_text()))


def set_in(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def bring(adapter: Path, **whole: np.ndarray) -> None:
    """Put whole weights into an adapter; in the names, `__` stands for a point."""
    named = {f"base_model.model.{name.replace('__', '.')}": array for name, array in whole.items()}
    save_file(load_file(adapter / WEIGHTS) | named, adapter / WEIGHTS, {"format": "pt"})


def matrix(rows: int, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, (rows, WIDTH)).astype(np.float32)


def add_tokens(adapter: Path, base: Path, *tokens: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_special_tokens({"additional_special_tokens": list(tokens)})
    tokenizer.save_pretrained(adapter)


@pytest.mark.parametrize(("dtype", "spelt"), [("float16", "F16"), ("bfloat16", "BF16"), ("float32", "F32")])
def test_a_model_is_stored_in_the_type_asked_for(tmp_path: Path, dtype: Any, spelt: str):
    base = make_tiny_model(tmp_path / "base")
    adapter = make_tiny_adapter(tmp_path / "adapter", base)
    merge(base, adapter, tmp_path / "exact", silent)
    merge(base, adapter, tmp_path / "merged", silent, Form(dtype=dtype))
    assert {t.dtype for file in weight_files(tmp_path / "merged") for t in read_header(file)} == {spelt}
    exact = AutoModelForCausalLM.from_pretrained(tmp_path / "exact").to(getattr(torch, dtype)).state_dict()
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").state_dict()
    assert [name for name in found if not torch.equal(found[name], exact[name])] == []
    parity = check_merge(base, adapter, tmp_path / "merged", prompts=8)
    assert parity.tolerance == {"F32": 0.01, "F16": 0.1, "BF16": 0.5}[spelt]
    assert parity.compared_texts == 8


def test_a_weight_that_the_type_cannot_hold_is_named(tmp_path: Path):
    base = make_tiny_model(tmp_path / "base")
    weights = {name: array.copy() for name, array in stored(base).items()}
    weights[NORM][3] = 1e6
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    adapter = make_tiny_adapter(tmp_path / "adapter", base)
    with pytest.raises(Permanent, match=r"model.norm.weight holds a weight that torch.float16 cannot"):
        merge(base, adapter, tmp_path / "merged", silent, Form(dtype="float16"))


@pytest.mark.parametrize("shards", [1, 3])
def test_files_are_as_small_as_asked_for_whatever_the_base_has(tmp_path: Path, shards: int):
    base = make_tiny_model(tmp_path / "base", shards=shards)
    adapter = make_tiny_adapter(tmp_path / "adapter", base)
    plan = merge(base, adapter, tmp_path / "merged", silent, Form(shard_bytes=100_000))
    sizes = [path.stat().st_size for path in weight_files(tmp_path / "merged")]
    assert len(sizes) == len(plan.files) > 3
    assert max(sizes) < 110_000
    merge(base, adapter, tmp_path / "whole", silent, Form(shard_bytes=1 << 30))
    assert [path.name for path in weight_files(tmp_path / "whole")] == ["model.safetensors"]
    assert not (tmp_path / "whole" / INDEX).exists()
    ours, whole = stored(tmp_path / "merged"), stored(tmp_path / "whole")
    assert ours.keys() == whole.keys()
    assert all(np.array_equal(ours[name], whole[name]) for name in whole)


def test_a_trained_norm_takes_the_place_of_the_bases(tmp_path: Path):
    base = make_tiny_model(tmp_path / "base", dtype="bfloat16")
    adapter = make_tiny_adapter(tmp_path / "adapter", base, modules_to_save=["model.norm"])
    bring(adapter, model__norm__weight=np.full(WIDTH, 1.3, np.float32))
    plan = merge(base, adapter, tmp_path / "merged", silent)
    assert (plan.replaced, plan.untied, plan.vocabulary) == (1, False, VOCABULARY)
    parity = check_merge(base, adapter, tmp_path / "merged")
    assert parity.weight_error <= 1
    with pytest.raises(Permanent, match="times as far from base"):
        check_merge(base, adapter, base)


@pytest.mark.filterwarnings("ignore:.*tied.*")  # PEFT's, about what is tested
@pytest.mark.parametrize("module", ["embed_tokens", "lm_head"])
def test_a_head_and_an_embedding_that_were_trained_apart_are_no_longer_tied(tmp_path: Path, module: str):
    base = make_tiny_model(tmp_path / "base")
    adapter = make_tiny_adapter(tmp_path / "adapter", base, modules_to_save=[module])
    trained, before = matrix(VOCABULARY), stored(base)[EMBEDDING]
    bring(adapter, **{"model__embed_tokens__weight" if module == "embed_tokens" else "lm_head__weight": trained})
    plan = merge(base, adapter, tmp_path / "merged", silent)
    assert plan.untied
    assert config_of(tmp_path / "merged")["tie_word_embeddings"] is False
    found = stored(tmp_path / "merged")
    assert np.array_equal(found[EMBEDDING], trained if module == "embed_tokens" else before)
    assert np.array_equal(found[HEAD], trained if module == "lm_head" else before)
    assert check_merge(base, adapter, tmp_path / "merged").max_logit_difference < 1e-4


@pytest.mark.filterwarnings("ignore:.*tie.*")
def test_lora_on_a_tied_head_leaves_the_embedding_alone(tmp_path: Path):
    base = make_tiny_model(tmp_path / "base")
    adapter = make_tiny_adapter(tmp_path / "adapter", base)
    set_in(adapter / "adapter_config.json", target_modules=["lm_head"])
    a, b = matrix(4), matrix(VOCABULARY)[:, :4].copy()
    halves = {"base_model.model.lm_head.lora_A.weight": a, "base_model.model.lm_head.lora_B.weight": b}
    save_file(halves, adapter / WEIGHTS, {"format": "pt"})
    assert merge(base, adapter, tmp_path / "merged", silent).untied
    found, before = stored(tmp_path / "merged"), stored(base)[EMBEDDING]
    assert np.array_equal(found[EMBEDDING], before)
    assert np.allclose(found[HEAD], before + 2 * b @ a, atol=1e-6)
    assert check_merge(base, adapter, tmp_path / "merged").max_logit_difference < 1e-4


@pytest.mark.filterwarnings("ignore:.*tie.*")
def test_an_adapter_with_added_tokens_gives_the_model_its_vocabulary_and_tokenizer(tmp_path: Path):
    base = make_tiny_model(tmp_path / "base")
    adapter = make_tiny_adapter(tmp_path / "adapter", base)
    add_tokens(adapter, base, "<think>", "</think>")
    grown = np.concatenate([stored(base)[EMBEDDING], matrix(2)])
    bring(adapter, model__embed_tokens__weight=grown, lm_head__weight=grown)
    plan = merge(base, adapter, tmp_path / "merged", silent)
    assert (plan.vocabulary_before, plan.vocabulary, plan.untied) == (VOCABULARY, VOCABULARY + 2, False)
    assert config_of(tmp_path / "merged")["vocab_size"] == VOCABULARY + 2
    assert np.array_equal(stored(tmp_path / "merged")[EMBEDDING], grown)
    assert AutoTokenizer.from_pretrained(tmp_path / "merged")("<think>")["input_ids"] == [VOCABULARY]
    parity = check_merge(base, adapter, tmp_path / "merged")
    assert parity.compared_texts == 5  # the added tokens are one more
    assert parity.max_logit_difference < 1e-4


def test_added_tokens_that_nobody_names_or_that_have_no_row_are_refused(tmp_path: Path):
    base = make_tiny_model(tmp_path / "base")
    adapter = make_tiny_adapter(tmp_path / "adapter", base)
    add_tokens(adapter, base, "<think>")
    with pytest.raises(Invalid, match="knows 301 tokens, the embedding 300"):
        plan_merge(base, adapter)
    (adapter / "tokenizer.json").unlink()
    bring(adapter, model__embed_tokens__weight=matrix(VOCABULARY + 1))
    with pytest.raises(Invalid, match="trained with 301 tokens and holds no tokenizer.json"):
        plan_merge(base, adapter)


def test_a_grown_embedding_without_its_head_is_refused(tmp_path: Path):
    base = make_tiny_model(tmp_path / "base")
    save_file(stored(base) | {HEAD: matrix(VOCABULARY)}, base / "model.safetensors", {"format": "pt"})
    set_in(base / "config.json", tie_word_embeddings=False)
    adapter = make_tiny_adapter(tmp_path / "adapter", base)
    bring(adapter, model__embed_tokens__weight=matrix(VOCABULARY + 1))
    with pytest.raises(Invalid, match="the embedding would have 301 tokens and the head 300"):
        plan_merge(base, adapter)


def test_a_base_that_contradicts_itself_about_its_head_is_refused(tmp_path: Path):
    base = make_tiny_model(tmp_path / "base")
    adapter = make_tiny_adapter(tmp_path / "adapter", base)
    save_file(stored(base) | {HEAD: matrix(VOCABULARY)}, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        Invalid, match="config.json ties lm_head.weight to model.embed_tokens.weight, and the files hold"
    ):
        plan_merge(base, adapter)
    save_file(stored(base) | {HEAD: stored(base)[EMBEDDING]}, base / "model.safetensors", {"format": "pt"})
    assert HEAD not in [made.name for made in plan_merge(base, adapter).tensors]
    other = make_tiny_model(tmp_path / "other")
    set_in(other / "config.json", tie_word_embeddings=False)
    with pytest.raises(Invalid, match="is not tied to the embedding, and no file holds it"):
        plan_merge(other, adapter)


def test_a_pickle_is_not_read_and_a_cut_off_adapter_is_named(tmp_path: Path):
    base = make_tiny_model(tmp_path / "base")
    adapter = make_tiny_adapter(tmp_path / "adapter", base)
    whole = (adapter / WEIGHTS).read_bytes()
    (adapter / WEIGHTS).write_bytes(whole[:-100])
    with pytest.raises(Invalid, match=f"{adapter / WEIGHTS} has {len(whole) - 100} bytes, its header says"):
        plan_merge(base, adapter)
    (adapter / WEIGHTS).rename(adapter / "adapter_model.bin")
    with pytest.raises(Invalid, match=r"adapter_model.bin is a pickle, which can run code, and is not read"):
        plan_merge(base, adapter)


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path):
    base = make_tiny_model(tmp_path / "base")
    adapter = make_tiny_adapter(tmp_path / "adapter", base)
    paths = {"base_model": str(base), "adapter": str(adapter), "folder": str(tmp_path / "merged")}
    form: dict[str, Any] = {"dtype": "base", "shard_bytes": None, "prompts": 1, "tolerance": None, "lineage": []}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Path(os.devnull).open("wb") as nobody:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
        try:
            with pytest.raises(OSError, match="too large"):
                merging.run(paths | form, Channel(nobody.fileno(), tmp_path))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "merged").exists()


def test_a_disk_without_room_is_refused_before_a_byte_is_written(tmp_path: Path):
    base = make_tiny_model(tmp_path / "base")
    free = shutil.disk_usage(tmp_path).free
    rows = 2 * free // (WIDTH * 4)
    with (base / "model.safetensors").open("r+b") as file:  # a hole: it takes no room itself
        entry = {"model.embed_tokens.weight": {"dtype": "F32", "shape": [rows, WIDTH], "data_offsets": [0, rows * 256]}}
        text = json.dumps(entry).encode()
        file.truncate(0)
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + rows * 256)
    adapter = make_tiny_adapter(tmp_path / "adapter", make_tiny_model(tmp_path / "twin"))
    halves = {f"base_model.model.lm_head.lora_{half}.weight": np.zeros(shape, np.float32)
              for half, shape in (("A", (4, WIDTH)), ("B", (8, 4)))}  # fmt: skip
    save_file(halves, adapter / WEIGHTS, {"format": "pt"})
    with pytest.raises(Permanent, match=r"the merged model needs [\d.]+ GiB, .* has [\d.]+ GiB free"):
        merge(base, adapter, tmp_path / "merged", silent)
    assert not weight_files_in(tmp_path / "merged")


def weight_files_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors*")) + sorted(folder.glob("*.partial"))


def test_the_card_tells_lineage_training_figures_and_licence(run_here: RunHere, tmp_path: Path):
    base = make_tiny_model(tmp_path / "tiny-base", dtype="bfloat16")
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\nThe base's own words.\n")
    adapter = make_tiny_adapter(tmp_path / "adapter", base)
    record = {"base_model": {"name": "sha256:0123"}, "hyperparameters": {"lora_r": 4, "learning_rate": 0.0005},
              "steps": 12, "losses": [3.25, 2.5], "holdout_losses": [{"step": 12, "loss": 2.75}]}  # fmt: skip
    (adapter / "training.json").write_text(json.dumps(record))
    artifacts = run_here.runner.artifacts
    data = tmp_path / "examples.jsonl"
    data.write_text("{}\n")

    def publish(path: Path, kind: str, name: str | None, *parents: str) -> str:
        return artifacts.publish(path, kind=kind, name=name, job_id=None, parents=parents).id

    dataset = publish(data, "dataset", "books")
    base_id = publish(base, "base-model", "tiny-base")
    adapter_id = publish(adapter, "adapter", None, dataset, base_id)
    job = run_here("adapter.merge", adapter=adapter_id, base_model="tiny-base", dtype="float16", shard_gib=0.0001)
    assert job.state == State.SUCCEEDED, job.failure
    assert job.result is not None
    assert (job.result["dtype"], job.result["tokenizer"], job.result["tolerance"]) == ("F16", "base", 0.1)
    assert job.result["files"] > 1
    folder = run_here.artifact(job.result["model"])
    assert read_model(folder).context_length == CONTEXT
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n")
    for line in (
        "# tiny-base, tuned",
        f"| dataset | books | `{dataset}` |",
        f"| base-model | tiny-base | `{base_id}` |",
        f"| adapter | – | `{adapter_id}` |",
        "| learning_rate | 0.0005 |",
        "| last loss | 2.5 |",
        "| holdout loss | 2.75 at step 12 |",
        f"| weights changed by the adapter | {7 * LAYERS} |",
    ):
        assert line in card
    assert (folder / "README.base.md").read_text().endswith("The base's own words.\n")
