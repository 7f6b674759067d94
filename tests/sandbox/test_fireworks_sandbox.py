"""The sandbox's Fireworks part, asked by plain HTTP as a client of Fireworks would."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from api_worker.sandbox.fireworks_shapes import WORDS
from api_worker.sandbox.remote_job import Pace, Phase
from api_worker.sandbox.rules import Rules
from tests.conftest import eventually
from tests.sandbox.server import ENDLESS, SECRET, examples_file, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ACCOUNT = "/v1/accounts/sandbox"
SFT = f"{ACCOUNT}/supervisedFineTuningJobs"
BASE = "accounts/fireworks/models/sandbox-base"


@contextmanager
def asking(tmp_path: Path, *faults: str, rules: Rules | None = None) -> Iterator[httpx.Client]:
    """A client of a sandbox."""
    with serve(tmp_path / "state", *faults, rules=rules) as sandbox:
        headers = {"Authorization": f"Bearer {SECRET}"}
        with httpx.Client(base_url=sandbox.base_url("fireworks"), headers=headers, trust_env=False) as client:
            yield client


def send_dataset(client: httpx.Client, path: Path, dataset: str = "d-1") -> dict[str, Any]:
    """Make a dataset of a file, and return how it stands then."""
    record = {"datasetId": dataset, "dataset": {"userUploaded": {}, "exampleCount": "12"}}
    assert client.post(f"{ACCOUNT}/datasets", json=record).json()["state"] == "UPLOADING"
    sent = client.post(f"{ACCOUNT}/datasets/{dataset}:upload", files={"file": (path.name, path.read_bytes())})
    assert sent.status_code == 200
    found: dict[str, Any] = client.get(f"{ACCOUNT}/datasets/{dataset}").json()
    return found


def create(client: httpx.Client, job: str, **asked: Any) -> httpx.Response:
    body = {"dataset": "accounts/sandbox/datasets/d-1", "baseModel": BASE, **asked}
    return client.post(SFT, params={"supervisedFineTuningJobId": job}, json=body)


def said(answer: httpx.Response) -> tuple[int, int, str]:
    body = answer.json()
    assert body["details"] == []
    return answer.status_code, body["code"], body["message"]


def test_every_phase_has_a_word() -> None:
    assert set(WORDS) == set(Phase)


def test_a_dataset_is_a_record_until_its_content_comes(tmp_path: Path) -> None:
    with asking(tmp_path) as client:
        dataset = send_dataset(client, examples_file(tmp_path / "train.jsonl"))
        assert (dataset["state"], dataset["exampleCount"], dataset["format"]) == ("READY", "12", "CHAT")
        again = client.post(f"{ACCOUNT}/datasets", json={"datasetId": "d-1", "dataset": {}})
        assert said(again) == (409, 6, "dataset d-1 already exists")


def test_a_record_outlives_the_sandbox(tmp_path: Path) -> None:
    with asking(tmp_path) as client:
        client.post(f"{ACCOUNT}/datasets", json={"datasetId": "d-1", "dataset": {"exampleCount": "7"}})
    with asking(tmp_path) as client:
        dataset = client.get(f"{ACCOUNT}/datasets/d-1").json()
        assert (dataset["state"], dataset["exampleCount"]) == ("UPLOADING", "7")


@pytest.mark.parametrize("dataset", ["Train", "-d", "d_1", "d" * 64])
def test_an_id_that_fireworks_does_not_take_is_refused(tmp_path: Path, dataset: str) -> None:
    with asking(tmp_path) as client:
        status, code, words = said(client.post(f"{ACCOUNT}/datasets", json={"datasetId": dataset, "dataset": {}}))
        assert (status, code) == (400, 3)
        assert dataset in words


def test_the_store_takes_what_was_signed_for_and_nothing_else(tmp_path: Path) -> None:
    with asking(tmp_path) as client:
        client.post(f"{ACCOUNT}/datasets", json={"datasetId": "d-1", "dataset": {}})
        content = examples_file(tmp_path / "train.jsonl").read_bytes()
        size = str(len(content))
        validate = f"{ACCOUNT}/datasets/d-1:validateUpload"
        assert said(client.post(validate, json={})) == (400, 9, "dataset d-1 has no content")
        signing = f"{ACCOUNT}/datasets/d-1:getUploadEndpoint"
        url = client.post(signing, json={"filenameToSize": {"t.jsonl": size}}).json()["filenameToSignedUrls"]["t.jsonl"]
        headers = {"X-Goog-Content-Length-Range": f"{size},{size}"}
        assert client.put(url, content=content, headers=headers).status_code == 400  # the key was sent along
        assert httpx.put(url, content=content, trust_env=False).status_code == 403
        assert httpx.put(url, content=content[1:], headers=headers, trust_env=False).status_code == 403
        assert httpx.put(url, content=content, headers=headers, trust_env=False).status_code == 200
        assert client.get(f"{ACCOUNT}/datasets/d-1").json()["state"] == "UPLOADING"
        assert client.post(validate, json={}).json() == {}
        assert client.get(f"{ACCOUNT}/datasets/d-1").json()["state"] == "READY"


def test_a_job_has_the_id_that_was_chosen_and_only_one_has_it(tmp_path: Path) -> None:
    with asking(tmp_path, rules=Rules(pace=ENDLESS)) as client:
        send_dataset(client, examples_file(tmp_path / "train.jsonl"))
        job = create(client, "ty-1", epochs=2).json()
        assert (job["name"], job["state"]) == ("accounts/sandbox/supervisedFineTuningJobs/ty-1", "JOB_STATE_RUNNING")
        assert said(create(client, "ty-1")) == (409, 6, "job ty-1 already exists")
        assert said(client.get(f"{ACCOUNT}/dpoJobs/ty-1")) == (404, 5, "job ty-1 not found")


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        ({"baseModel": "sandbox-base"}, 5, "model sandbox-base not found"),
        ({"dataset": "accounts/sandbox/datasets/d-2"}, 5, "dataset accounts/sandbox/datasets/d-2 not found"),
        ({"epochs": 0}, 3, "'epochs' must be a whole number"),
        ({"outputModel": "accounts/other/models/m"}, 3, "is no id"),
    ],
)
def test_an_order_that_cannot_be_is_refused(tmp_path: Path, asked: dict[str, Any], code: int, words: str) -> None:
    with asking(tmp_path) as client:
        send_dataset(client, examples_file(tmp_path / "train.jsonl"))
        answer = create(client, "ty-1", **asked).json()
        assert answer["code"] == code
        assert words in answer["message"]


def test_chat_is_no_data_for_dpo(tmp_path: Path) -> None:
    with asking(tmp_path) as client:
        send_dataset(client, examples_file(tmp_path / "train.jsonl"))
        body = {"dataset": "accounts/sandbox/datasets/d-1", "trainingConfig": {"baseModel": BASE}}
        client.post(f"{ACCOUNT}/dpoJobs", params={"dpoJobId": "ty-1"}, json=body)
        job = f"{ACCOUNT}/dpoJobs/ty-1"
        eventually(lambda: client.get(job).json()["state"] == "JOB_STATE_FAILED", what="failure")
        status = client.get(job).json()["status"]
        assert (status["code"], status["details"][0]["reason"]) == ("INVALID_ARGUMENT", "DATASET_INVALID")
        assert "takes preference" in status["message"]


def test_lists_come_in_pages_by_name(tmp_path: Path) -> None:
    with asking(tmp_path, rules=Rules(pace=ENDLESS)) as client:
        send_dataset(client, examples_file(tmp_path / "train.jsonl"))
        for job in ("ty-c", "ty-a", "ty-b"):
            create(client, job)
        first = client.get(SFT, params={"pageSize": 2}).json()
        rest = client.get(SFT, params={"pageSize": 2, "pageToken": first["nextPageToken"]}).json()
        listed = [job["name"][-4:] for page in (first, rest) for job in page["supervisedFineTuningJobs"]]
        assert (listed, rest["nextPageToken"], rest["totalSize"]) == (["ty-a", "ty-b", "ty-c"], "", 3)
        assert said(client.get(SFT, params={"orderBy": "createTime desc"}))[:2] == (400, 3)
        assert said(client.get(SFT, params={"pageSize": "none"}))[:2] == (400, 3)


def test_metrics_are_in_the_store_from_the_first_step_on_and_hold_no_figure_of_training(tmp_path: Path) -> None:
    pace = Pace(validate_seconds=0.0, queue_seconds=0.3, run_seconds=0.1)
    with asking(tmp_path, rules=Rules(pace=pace)) as client:
        send_dataset(client, examples_file(tmp_path / "train.jsonl"))
        url = create(client, "ty-1").json()["metricsFileSignedUrl"]
        assert httpx.get(url, trust_env=False).status_code == 404
        eventually(lambda: httpx.get(url, trust_env=False).text.count("\n") == 2, what="two steps")
        assert "loss" not in httpx.get(url, trust_env=False).text


def test_an_account_is_suspended_once_a_fault_has_said_so(tmp_path: Path) -> None:
    with asking(tmp_path, "create:quota*1") as client:
        send_dataset(client, examples_file(tmp_path / "train.jsonl"))
        assert client.get(ACCOUNT).json()["suspendState"] == "UNSUSPENDED"
        status, code, words = said(create(client, "ty-1"))
        assert (status, code) == (412, 9)
        assert "is suspended" in words
        assert client.get(ACCOUNT).json()["suspendState"] == "MONTHLY_SPEND_LIMIT_EXCEEDED"


def test_there_is_one_account(tmp_path: Path) -> None:
    with asking(tmp_path) as client:
        status, code, words = said(client.get("/v1/accounts/acme/models"))
        assert (status, code) == (404, 5)
        assert "the account at the sandbox is accounts/sandbox" in words


def test_a_job_that_has_ended_is_not_cancelled(tmp_path: Path) -> None:
    with asking(tmp_path) as client:
        send_dataset(client, examples_file(tmp_path / "train.jsonl"))
        create(client, "ty-1")
        eventually(lambda: client.get(f"{SFT}/ty-1").json()["state"] == "JOB_STATE_COMPLETED", what="success")
        assert said(client.post(f"{SFT}/ty-1:cancel", json={})) == (400, 9, "job ty-1 has ended")
        models = client.get(f"{ACCOUNT}/models").json()["models"]
        assert [model["fineTuningJob"][-4:] for model in models] == ["ty-1"]
        assert "sandbox" in models[0]["name"]


def test_a_request_without_a_key_is_refused_in_fireworks_terms(tmp_path: Path) -> None:
    with asking(tmp_path) as client:
        assert said(client.get(SFT, headers={"Authorization": ""}))[:2] == (401, 16)
