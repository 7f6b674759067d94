"""The sandbox's Hugging Face part, asked by plain HTTP as its own client asks."""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from api_worker.sandbox.huggingface_shapes import WORDS
from api_worker.sandbox.remote_job import Phase
from api_worker.sandbox.rules import Rules
from tests.conftest import eventually
from tests.sandbox.server import ENDLESS, SECRET, examples_file, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATA = "api/datasets/sandbox/examples"
JOBS = "api/jobs/sandbox"
TRL = ["trl", "sft", "--model_name_or_path", "sandbox/sandbox-base", "--num_train_epochs", "2"]


@contextmanager
def asking(tmp_path: Path, *faults: str, rules: Rules | None = None) -> Iterator[httpx.Client]:
    """A client of a sandbox."""
    with serve(tmp_path / "state", *faults, rules=rules) as sandbox:
        headers = {"Authorization": f"Bearer {SECRET}"}
        with httpx.Client(base_url=sandbox.base_url("hf_jobs"), headers=headers, trust_env=False) as client:
            yield client


def commit(client: httpx.Client, change: dict[str, Any]) -> httpx.Response:
    rows = [{"key": "header", "value": {"summary": "Examples", "description": ""}}, change]
    return client.post(f"{DATA}/commit/main", content="\n".join(map(json.dumps, rows)).encode())


def committed(client: httpx.Client, path: Path, folder: str = "abc") -> str:
    """The folder of a file that was committed."""
    text = base64.b64encode(path.read_bytes()).decode()
    value = {"content": text, "path": f"{folder}/data.jsonl", "encoding": "base64"}
    assert commit(client, {"key": "file", "value": value}).json()["success"]
    return folder


def order(folder: str, **asked: Any) -> dict[str, Any]:
    volume = {"type": "dataset", "source": "sandbox/examples", "path": folder, "mountPath": "/data/train"}
    plain = {"dockerImage": "uv", "command": TRL, "flavor": "l4x1", "labels": {"tuneyard": "ty-aaaaaaaaaa"}}
    return {**plain, "arguments": [], "environment": {}, "volumes": [volume], **asked}


def log_of(client: httpx.Client, job: str, **query: int) -> list[str]:
    told = client.get(f"{JOBS}/{job}/logs", params=query).text.split("\n\n")
    return [json.loads(event.removeprefix("data: "))["data"] for event in told if event]


def test_every_phase_has_a_word() -> None:
    assert set(WORDS) == set(Phase)


def test_a_repository_is_made_once(tmp_path: Path) -> None:
    asked = {"name": "examples", "organization": "sandbox", "type": "dataset", "visibility": "private"}
    with asking(tmp_path) as client:
        assert client.post("api/repos/create", json={**asked, "visibility": "public"}).status_code == 400
        assert [client.post("api/repos/create", json=asked).status_code for _ in range(2)] == [200, 409]
        assert client.get(DATA).json()["private"]


def test_a_large_file_is_sent_apart_and_then_committed(tmp_path: Path) -> None:
    content = examples_file(tmp_path / "train.jsonl").read_bytes()
    digest, size = hashlib.sha256(content).hexdigest(), len(content)
    with asking(tmp_path) as client:
        sizes = {"small.jsonl": 1000, "large.jsonl": 20 * 1024**2}
        asked = {"files": [{"path": name, "size": size, "sample": ""} for name, size in sizes.items()]}
        modes = [file["uploadMode"] for file in client.post(f"{DATA}/preupload/main", json=asked).json()["files"]]
        assert modes == ["regular", "lfs"]
        large = {"path": "abc/data.jsonl", "algo": "sha256", "oid": digest, "size": size}
        assert commit(client, {"key": "lfsFile", "value": large}).status_code == 400
        batch = client.post(
            "datasets/sandbox/examples.git/info/lfs/objects/batch", json={"objects": [{"oid": digest, "size": size}]}
        )
        actions = batch.json()["objects"][0]["actions"]
        assert client.post(actions["verify"]["href"]).status_code == 404
        assert httpx.put(actions["upload"]["href"], content=b"other").status_code == 400
        assert client.put(actions["upload"]["href"], content=content).status_code == 400  # with a key
        assert httpx.put(actions["upload"]["href"], content=content).status_code == 200
        assert client.post(actions["verify"]["href"]).status_code == 200
        assert commit(client, {"key": "lfsFile", "value": large}).is_success
        assert [file["size"] for file in client.get(f"{DATA}/tree/main/abc").json()] == [size]


def test_a_job_goes_its_way_and_keeps_no_secret(tmp_path: Path) -> None:
    with asking(tmp_path) as client:
        folder = committed(client, examples_file(tmp_path / "train.jsonl"))
        job = client.post(JOBS, json=order(folder, secrets={"HF_TOKEN": SECRET}, timeoutSeconds=60)).json()
        assert (job["status"]["stage"], job["flavor"]) == ("SCHEDULING", "l4x1")
        eventually(lambda: client.get(f"{JOBS}/{job['id']}").json()["status"]["stage"] == "COMPLETED", what="the end")
        assert "4 of 4 steps have passed; nothing was trained." in log_of(client, job["id"])
        assert len(log_of(client, job["id"], tail=1)) == 1
        assert client.post(f"{JOBS}/{job['id']}/cancel").status_code == 400
    assert SECRET not in (tmp_path / "state" / "hf_jobs" / "journal.jsonl").read_text(encoding="utf-8")


def test_a_bad_file_is_found_out_by_the_container(tmp_path: Path) -> None:
    with asking(tmp_path) as client:
        folder = committed(client, examples_file(tmp_path / "bad.jsonl", last_line='{"messages": ['))
        job = client.post(JOBS, json=order(folder)).json()["id"]
        eventually(lambda: client.get(f"{JOBS}/{job}").json()["status"]["stage"] == "ERROR", what="the failure")
        assert log_of(client, job)[-1] == "datasets.exceptions.DatasetGenerationError: Example 13 is not valid JSON."


def test_the_list_is_narrowed_by_labels_and_cut_into_pages(tmp_path: Path) -> None:
    with asking(tmp_path, rules=Rules(pace=ENDLESS)) as client:
        folder = committed(client, examples_file(tmp_path / "train.jsonl"))
        for n in range(51):
            client.post(JOBS, json=order(folder, labels={"tuneyard": f"ty-{n}", "of": "me"})).raise_for_status()
        first = client.get(JOBS, params={"label": "of=me"})
        second = client.get(first.links["next"]["url"])
        keys = [job["labels"]["tuneyard"] for page in (first, second) for job in page.json()]
        assert keys == [f"ty-{n}" for n in range(50, -1, -1)]
        assert "next" not in second.links
        assert len(client.get(JOBS, params=[("label", "of=me"), ("label", "tuneyard=ty-7")]).json()) == 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"colour": "red"}, "knows no 'colour'"),
        ({"flavor": "abacus"}, "no flavor abacus"),
        ({"labels": {"tuneyard": "a b"}}, "A label may have"),
        ({"command": ["python"]}, "nothing but TRL"),
        ({"command": ["trl", "sft", "--model_name_or_path", "x"]}, "no model x"),
        ({"volumes": []}, "nothing to train on"),
        ({"volumes": [{"type": "dataset", "path": "none"}]}, "no dataset folder none"),
        ({"timeoutSeconds": 0}, "from 1 to"),
    ],
)
def test_an_order_that_is_refused(tmp_path: Path, wrong: dict[str, Any], words: str) -> None:
    with asking(tmp_path) as client:
        folder = committed(client, examples_file(tmp_path / "train.jsonl"))
        answer = client.post(JOBS, json=order(folder, **wrong))
        assert answer.status_code == 400
        assert words in answer.json()["error"]


def test_machines_and_models_are_told(tmp_path: Path) -> None:
    with asking(tmp_path) as client:
        machines = {machine["name"]: machine for machine in client.get("api/jobs/hardware").json()}
        assert machines["l4x1"]["unitCostUSD"] * 60 == pytest.approx(0.80)
        assert client.get("api/models/sandbox/sandbox-base").json()["id"] == "sandbox/sandbox-base"
        assert client.get("api/models/no/such").status_code == 404
        assert client.get("api/whoami-v2").json()["name"] == "sandbox"
