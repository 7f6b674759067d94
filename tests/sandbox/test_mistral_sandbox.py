"""Every answer of the sandbox at Mistral's address is what Mistral's last specification with them says it is."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from api_worker.sandbox.mistral_shapes import SAID, WORDS
from api_worker.sandbox.remote_job import Phase, Reason
from api_worker.sandbox.rules import Rules
from tests.conftest import eventually
from tests.sandbox.server import ENDLESS, SECRET, examples_file, serve
from tests.sandbox.specification import Specification, load_specification

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.sandbox.server import Served

JOBS = "fine_tuning/jobs"


@pytest.fixture
def mistral() -> Specification:
    return load_specification("mistral.yaml", prefix="/mistral")


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A sandbox at which no job is created."""
    with serve(tmp_path_factory.mktemp("quiet") / "state") as sandbox:
        yield sandbox


@contextmanager
def at(url: str, specification: Specification) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {SECRET}"}
    with httpx.Client(base_url=url, headers=headers, event_hooks={"response": [specification.hook]}) as client:
        yield client


@contextmanager
def asking(
    tmp_path: Path, specification: Specification, *faults: str, rules: Rules | None = None
) -> Iterator[httpx.Client]:
    """A judged client of a sandbox of its own."""
    with (
        serve(tmp_path / "state", *faults, rules=rules) as sandbox,
        at(sandbox.base_url("mistral"), specification) as client,
    ):
        yield client


def uploaded(client: httpx.Client, path: Path) -> str:
    sent = client.post("files", files={"file": (path.name, path.read_bytes())}, data={"purpose": "fine-tune"})
    file: str = sent.raise_for_status().json()["id"]
    return file


def order(file: str, **asked: Any) -> dict[str, Any]:
    training = [{"file_id": file, "weight": 1}]
    return {"model": "sandbox-base", "training_files": training, "hyperparameters": {"epochs": 2}, **asked}


def story(client: httpx.Client, job: str) -> list[dict[str, Any]]:
    """The events of a job, newest first."""
    found: list[dict[str, Any]] = client.get(f"{JOBS}/{job}").json()["events"]
    return found


def test_every_phase_has_a_word() -> None:
    assert set(WORDS) == set(Phase)


def test_the_answers_on_a_jobs_whole_way(tmp_path: Path, mistral: Specification) -> None:
    with asking(tmp_path, mistral) as client:
        file = uploaded(client, examples_file(tmp_path / "train.jsonl"))
        assert client.get(f"files/{file}").json()["num_lines"] == 12
        assert client.get("files").json()["total"] == 1
        price = client.post(JOBS, params={"dry_run": "true"}, json=order(file)).json()
        assert (price["object"], price["cost_currency"]) == ("job.metadata", "USD")
        assert client.get(JOBS).json()["total"] == 0
        job = client.post(JOBS, json=order(file, validation_files=[file], suffix="ty-aaaaaaaaaa")).json()["id"]

        def ended() -> bool:
            return bool(client.get(f"{JOBS}/{job}").json()["status"] == "SUCCESS")

        eventually(ended, what="the end")
        made = client.get(f"{JOBS}/{job}").json()
        assert [row["step_number"] for row in made["checkpoints"]] == [4, 2]
        assert made["fine_tuned_model"].startswith("ft:sandbox-base:sandbox:")
        assert [model["type"] for model in client.get("models").json()["data"]] == [*["base"] * 3, "fine-tuned"]
        assert client.get(f"models/{made['fine_tuned_model']}").json()["job"] == job
        assert client.delete(f"files/{file}").json()["deleted"]
        assert len(mistral.seen) > 12


def test_a_job_that_does_not_start_by_itself_waits_validated(tmp_path: Path, mistral: Specification) -> None:
    with asking(tmp_path, mistral) as client:
        file = uploaded(client, examples_file(tmp_path / "train.jsonl"))
        job = client.post(JOBS, json=order(file, auto_start=False)).json()
        assert (job["status"], job["auto_start"]) == ("VALIDATED", False)
        assert client.post(f"{JOBS}/{job['id']}/start").is_success
        eventually(lambda: client.get(f"{JOBS}/{job['id']}").json()["status"] == "SUCCESS", what="the end")
        assert client.post(f"{JOBS}/{job['id']}/start").status_code == 400


def test_a_job_that_is_cancelled(tmp_path: Path, mistral: Specification) -> None:
    with asking(tmp_path, mistral, rules=Rules(pace=ENDLESS)) as client:
        file = uploaded(client, examples_file(tmp_path / "train.jsonl"))
        job = client.post(JOBS, json=order(file)).json()["id"]
        assert client.post(f"{JOBS}/{job}/cancel").json()["status"] == "CANCELLED"
        assert client.post(f"{JOBS}/{job}/cancel").status_code == 400


def test_a_job_too_many_is_created_and_fails_its_validation(tmp_path: Path, mistral: Specification) -> None:
    with asking(tmp_path, mistral, rules=Rules(pace=ENDLESS, max_concurrent=1)) as client:
        file = uploaded(client, examples_file(tmp_path / "train.jsonl"))
        client.post(JOBS, json=order(file, suffix="first")).raise_for_status()
        job = client.post(JOBS, json=order(file, suffix="second")).raise_for_status().json()["id"]
        eventually(lambda: client.get(f"{JOBS}/{job}").json()["status"] == "FAILED_VALIDATION", what="the failure")
        assert story(client, job)[0]["data"]["error"] == SAID[Reason.SLOT]


@pytest.mark.parametrize(
    ("fault", "word", "said"),
    [("job:quota", "FAILED_VALIDATION", "free trial"), ("job:broken", "FAILED", "internal error")],
)
def test_a_job_that_comes_to_grief(tmp_path: Path, mistral: Specification, fault: str, word: str, said: str) -> None:
    with asking(tmp_path, mistral, fault) as client:
        file = uploaded(client, examples_file(tmp_path / "train.jsonl"))
        job = client.post(JOBS, json=order(file)).json()["id"]
        eventually(lambda: client.get(f"{JOBS}/{job}").json()["status"] == word, what=word)
        assert said in story(client, job)[0]["data"]["error"]


def test_a_job_like_one_that_runs_is_refused(tmp_path: Path, mistral: Specification) -> None:
    with asking(tmp_path, mistral, rules=Rules(pace=ENDLESS)) as client:
        file = uploaded(client, examples_file(tmp_path / "train.jsonl"))
        answers = [client.post(JOBS, json=order(file, suffix=suffix)) for suffix in ("one", "one", "two")]
        assert [answer.status_code for answer in answers] == [200, 409, 200]


def test_the_list_is_narrowed_and_cut_into_pages(tmp_path: Path, mistral: Specification) -> None:
    with asking(tmp_path, mistral, rules=Rules(pace=ENDLESS)) as client:
        file = uploaded(client, examples_file(tmp_path / "train.jsonl"))
        for n in range(5):
            client.post(JOBS, json=order(file, suffix=f"job-{n}")).raise_for_status()
        pages = [client.get(JOBS, params={"page": page, "page_size": 2}).json() for page in range(4)]
        assert [[job["suffix"] for job in page["data"]] for page in pages] == [
            ["job-4", "job-3"],
            ["job-2", "job-1"],
            ["job-0"],
            [],
        ]
        assert {page["total"] for page in pages} == {5}
        assert [job["suffix"] for job in client.get(JOBS, params={"suffix": "job-1"}).json()["data"]] == ["job-1"]
        assert client.get(JOBS, params={"colour": "red"}).status_code == 422
        assert client.get(JOBS, params={"page": "first"}).status_code == 422


def test_a_file_with_the_name_and_content_of_another_is_that_one(
    tmp_path: Path, quiet: Served, mistral: Specification
) -> None:
    with at(quiet.base_url("mistral"), mistral) as client:
        path = examples_file(tmp_path / "train.jsonl")
        assert uploaded(client, path) == uploaded(client, path)
        assert uploaded(client, path) != uploaded(client, examples_file(tmp_path / "other.jsonl"))


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, mistral: Specification) -> None:
    path = examples_file(tmp_path / "train.jsonl")
    with asking(tmp_path, mistral, rules=Rules(max_file_mib=0.0001)) as client:
        assert client.post("files", files={"file": (path.name, path.read_bytes())}).status_code == 413


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('{"messages": [{"role": "developer", "content": "a"}]}', 'unknown role "developer"'),
        ('{"messages": [{"role": "user", "content": "a"}]}', "does not end with"),
        ('{"messages": [{"role": "assistant", "content": "a"}], "weight": 1}', 'an extra "weight"'),
        ("{}", 'has no "messages"'),
    ],
)
def test_a_row_that_mistral_does_not_take_fails_the_validation(
    tmp_path: Path, mistral: Specification, row: str, problem: str
) -> None:
    with asking(tmp_path, mistral) as client:
        file = uploaded(client, examples_file(tmp_path / "bad.jsonl", last_line=row))
        job = client.post(JOBS, json=order(file)).json()["id"]
        eventually(lambda: client.get(f"{JOBS}/{job}").json()["status"] == "FAILED_VALIDATION", what="the failure")
        assert problem in story(client, job)[0]["data"]["error"]


@pytest.mark.parametrize(("call_id", "is_taken"), [("abcdefgh9", True), ("call_123456", False)])
def test_the_id_of_a_tool_call_has_nine_characters(
    tmp_path: Path, mistral: Specification, call_id: str, *, is_taken: bool
) -> None:
    call = {"id": call_id, "type": "function", "function": {"name": "look", "arguments": "{}"}}
    rows = [
        {"role": "user", "content": "Look."},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call_id, "content": "Here."},
        {"role": "assistant", "content": "Here it is."},
    ]
    with asking(tmp_path, mistral) as client:
        path = examples_file(tmp_path / "calls.jsonl", last_line=json.dumps({"messages": rows}))
        job = client.post(JOBS, json=order(uploaded(client, path))).json()["id"]
        word = "SUCCESS" if is_taken else "FAILED_VALIDATION"
        eventually(lambda: client.get(f"{JOBS}/{job}").json()["status"] == word, what=word)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"model": "gpt-9"}, "Model not available for this type of fine-tuning (completion)."),
        ({"job_type": "classifier"}, "Model not available"),
        ({"training_files": []}, "At least one training file or repository is required."),
        ({"training_files": [{"file_id": "none"}]}, "no file none"),
        ({"training_files": [{"weight": 1}]}, "'file_id'"),
        ({"training_files": ["none"]}, "must be an object"),
        ({"validation_files": [{}]}, "by its id"),
        ({"suffix": "x" * 19}, "1 to 18 characters"),
        ({"suffix": "with.dot"}, "1 to 18 characters"),
        ({"hyperparameters": None}, "Field required"),
        ({"hyperparameters": {"epochs": 0}}, "above 0"),
        ({"hyperparameters": {"learning_rate": 2}}, "at most 1"),
        ({"hyperparameters": {"batch_size": 2}}, "knows no 'batch_size'"),
        ({"repositories": [{"type": "github"}]}, "serves no 'repositories'"),
        ({"colour": "red"}, "knows no 'colour'"),
    ],
)
def test_an_order_that_mistral_would_refuse(
    tmp_path: Path, quiet: Served, mistral: Specification, wrong: dict[str, Any], words: str
) -> None:
    with at(quiet.base_url("mistral"), mistral) as client:
        file = uploaded(client, examples_file(tmp_path / "train.jsonl"))
        answer = client.post(JOBS, json=order(file, **wrong))
        assert answer.status_code == 422
        assert words in json.dumps(answer.json()["detail"])
        assert client.get(JOBS).json()["total"] == 0


def test_the_answers_of_the_faults(tmp_path: Path, mistral: Specification) -> None:
    statuses = [400, 401, 402, 403, 404, 409, 410, 422, 429, 500, 503]
    faults = [f"list:{status}*1" for status in statuses] + ["list:quota*1"]
    with asking(tmp_path, mistral, *faults) as client:
        seen = [client.get(JOBS).status_code for _ in range(len(faults) + 1)]
    assert seen == [*statuses, 402, 200]
