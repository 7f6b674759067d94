"""Every answer of the sandbox at Together's address is what Together's specification and its newer SDK say it is."""

from __future__ import annotations

import copy
import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from api_worker.sandbox.rules import Rules
from tests.conftest import eventually
from tests.sandbox.server import ENDLESS, SECRET, examples_file, serve
from tests.sandbox.specification import Specification, load_specification

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.sandbox.server import Served

TEXT, NUMBER, TRUTH = {"type": "string"}, {"type": "number"}, {"type": "boolean"}
OBJECT: dict[str, Any] = {"type": "object"}


@pytest.fixture
def together() -> Specification:
    """Together's document with what the SDK (3.1.1) has beside it, and corrects in it."""
    older = load_specification("together.yaml", prefix="/together/v1", error="ErrorData")
    document = copy.deepcopy(older.document)
    schemas, paths = document["components"]["schemas"], document["paths"]
    statuses = ["PENDING", "QUEUED", "RUNNING", "COMPLETED", "FAILED", "INVALID_FORMAT"]
    schemas["FileResponse"]["properties"] |= {"processing_status": {"enum": statuses}, "validation_report": OBJECT}
    schemas["FinetuneResponse"]["properties"] |= {"user_id": TEXT}
    schemas["FinetuneJobStatus"]["enum"].append("user_error")
    schemas["TrainingMethodSFT"]["properties"]["train_on_inputs"].pop("type")
    limits = schemas["FineTuneModelLimits"]["properties"]
    limits["lora_training"]["properties"] |= {"default_rank": NUMBER}
    names = ("max_num_checkpoints", "max_seq_length_sft", "max_seq_length_dpo", "min_max_seq_length")
    limits |= dict.fromkeys((*names, "default_gradient_accumulation_steps"), NUMBER)
    limits |= {"supports_full_training": TRUTH}
    price = paths["/fine-tunes/estimate-price"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    price["properties"] |= {"estimation_available": TRUTH, "unavailable_reason": TEXT}
    paths["/files/{id}/preprocess"] = {"post": paths["/files/{id}"]["get"]}
    return Specification(document, older.prefix, older.error)


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


def uploaded(client: httpx.Client, path: Path) -> str:
    """Send a file in Together's three steps."""
    content = path.read_bytes()
    checksum = hashlib.sha256(content).hexdigest()
    form = {"purpose": "fine-tune", "file_name": path.name, "file_type": "jsonl", "checksum": checksum}
    fields = {name: (None, value) for name, value in form.items()}
    with httpx.Client() as unjudged:  # of these requests Together's document knows nothing
        asked = unjudged.post(f"{client.base_url}files", files=fields, headers=client.headers)
        if asked.status_code == 409:
            return str(asked.json()["file_id"])
        assert unjudged.put(asked.headers["location"], content=content).status_code == 200
    file: str = client.post(f"files/{asked.headers['x-together-file-id']}/preprocess").raise_for_status().json()["id"]
    return file


def test_the_answers_on_a_jobs_whole_way(tmp_path: Path, together: Specification) -> None:
    with serve(tmp_path / "state") as sandbox, at(sandbox.base_url("together"), together) as client:
        file = uploaded(client, examples_file(tmp_path / "train.jsonl"))
        assert client.get(f"files/{file}").json()["processing_status"] == "COMPLETED"
        assert len(client.get("files").json()["data"]) == 1
        model = client.get("fine-tunes/models/supported").json()["models"][0]
        client.get("fine-tunes/models/limits", params={"model_name": model}).raise_for_status()
        order = {"model": model, "training_file": file, "validation_file": file, "n_epochs": 2, "n_evals": 2}
        price = client.post("fine-tunes/estimate-price", json=order).json()
        assert price["estimated_total_price"] > 0
        job = client.post("fine-tunes", json={**order, "suffix": "tone-ty-aaaaaaaaaa", "random_seed": 7}).json()
        assert job["suffix"] == "tone-ty-aaaaaaaaaa"

        def ended() -> bool:
            assert client.get(f"fine-tunes/{job['id']}/events").is_success
            return bool(client.get(f"fine-tunes/{job['id']}").json()["status"] == "completed")

        eventually(ended, what="the end")
        rows = client.get(f"fine-tunes/{job['id']}/metrics").json()["metrics"]
        assert [row["train/global_step"] for row in rows] == [1, 2, 3, 4]
        assert [made["step"] for made in client.get(f"fine-tunes/{job['id']}/checkpoints").json()["data"]] == [4]
        assert "sandbox" in client.get("fine-tunes").json()["data"][0]["model_output_name"]
        client.delete(f"files/{file}").raise_for_status()
        assert len(together.seen) > 12


def test_the_answers_to_a_job_that_is_cancelled(tmp_path: Path, together: Specification) -> None:
    with (
        serve(tmp_path / "state", rules=Rules(pace=ENDLESS)) as sandbox,
        at(sandbox.base_url("together"), together) as client,
    ):
        file = uploaded(client, examples_file(tmp_path / "train.jsonl"))
        lora = {"type": "Lora", "lora_r": 8, "lora_alpha": 16}
        job = client.post("fine-tunes", json={"model": "sandbox-base", "training_file": file, "training_type": lora})
        cancel = f"fine-tunes/{job.json()['id']}/cancel"
        assert client.post(cancel).json()["status"] == "cancelled"
        assert client.post(cancel).status_code == 400


@pytest.mark.parametrize(
    ("fault", "word", "event"),
    [
        ("job:quota", "cancelled", "billing_limit"),
        ("job:broken", "error", "job_error"),
        ("job:restart", "error", "refund"),
    ],
)
def test_the_answers_to_a_job_that_comes_to_grief(
    tmp_path: Path, together: Specification, fault: str, word: str, event: str
) -> None:
    with serve(tmp_path / "state", fault) as sandbox, at(sandbox.base_url("together"), together) as client:
        file = uploaded(client, examples_file(tmp_path / "train.jsonl"))
        job = client.post("fine-tunes", json={"model": "sandbox-base", "training_file": file}).json()["id"]
        eventually(lambda: client.get(f"fine-tunes/{job}").json()["status"] == word, what=word)
        assert event in [told["type"] for told in client.get(f"fine-tunes/{job}/events").json()["data"]]


def test_a_file_says_what_is_wrong_with_it(tmp_path: Path, together: Specification) -> None:
    with serve(tmp_path / "state") as sandbox, at(sandbox.base_url("together"), together) as client:
        bad = uploaded(client, examples_file(tmp_path / "bad.jsonl", last_line='{"messages": [{"role": "wizard"}]}'))
        told = client.get(f"files/{bad}").json()
        assert told["processing_status"] == "INVALID_FORMAT"
        assert (
            'Example 13 has a bad message: number 1 has the unknown role "wizard".'
            in told["validation_report"]["error"]
        )
        order = {"model": "sandbox-base", "training_file": bad}
        price = client.post("fine-tunes/estimate-price", json=order).json()
        assert price == {"estimation_available": False, "unavailable_reason": "train_file_invalid"}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('{"prompt": "a", "completion": ""}', 'has no text "completion"'),
        ('{"text": "a"}', "is of the format GENERAL, where the first is of the format CONVERSATION"),
        (
            '{"messages": [{"role": "assistant", "content": "a"}], "weight": -1}',
            'has a "weight" that is no number from 0',
        ),
        ('{"input": {"messages": [{"role": "user", "content": "a"}]}}', 'must have one message in "preferred_output"'),
        ("{}", 'has none of "messages", "input", "prompt" and "text"'),
    ],
)
def test_a_row_that_together_does_not_take(
    tmp_path: Path, quiet: Served, together: Specification, row: str, problem: str
) -> None:
    with at(quiet.base_url("together"), together) as client:
        file = uploaded(client, examples_file(tmp_path / "bad.jsonl", last_line=row))
        assert problem in client.get(f"files/{file}").json()["validation_report"]["error"]


@pytest.mark.parametrize(
    ("wrong", "status", "words"),
    [
        ({"model": "gpt-9"}, 404, "gpt-9 is not available"),
        ({"training_file": "file-none"}, 400, "no file file-none"),
        ({"suffix": "x" * 41}, 400, "40 characters at the most"),
        ({"n_epochs": 0}, 400, "from 1 to 20"),
        ({"n_evals": 1}, 400, "needs a 'validation_file'"),
        ({"training_type": {"type": "Lora"}}, 400, "needs 'lora_r' and 'lora_alpha'"),
        ({"training_type": {"type": "QLoRA"}}, 400, "must be Lora or Full"),
        ({"training_method": {"method": "ppo"}}, 400, "must be one of sft, dpo"),
        ({"colour": "red"}, 400, "knows no 'colour'"),
    ],
)
def test_an_order_that_together_would_refuse(
    tmp_path: Path, quiet: Served, together: Specification, wrong: dict[str, Any], status: int, words: str
) -> None:
    with at(quiet.base_url("together"), together) as client:
        file = uploaded(client, examples_file(tmp_path / "train.jsonl"))
        answer = client.post("fine-tunes", json={"model": "sandbox-base", "training_file": file, **wrong})
        assert answer.status_code == status
        assert words in answer.json()["error"]["message"]
        assert client.get("fine-tunes").json()["data"] == []


def test_a_file_with_the_content_of_another_is_that_one(tmp_path: Path, quiet: Served, together: Specification) -> None:
    with at(quiet.base_url("together"), together) as client:
        file = uploaded(client, examples_file(tmp_path / "train.jsonl"))
        assert uploaded(client, examples_file(tmp_path / "again.jsonl")) == file


def test_a_file_that_is_not_the_one_announced_is_not_kept(tmp_path: Path, quiet: Served) -> None:
    form = {"purpose": "fine-tune", "file_name": "a.jsonl", "file_type": "jsonl", "checksum": "0" * 64}
    with httpx.Client(base_url=quiet.base_url("together"), headers={"Authorization": f"Bearer {SECRET}"}) as client:
        asked = client.post("files", files={name: (None, value) for name, value in form.items()})
        assert httpx.put(asked.headers["location"], content=b"other").status_code == 400
        assert client.get(f"files/{asked.headers['x-together-file-id']}").status_code == 404


def test_the_answers_of_the_faults(tmp_path: Path, together: Specification) -> None:
    statuses = [400, 401, 402, 403, 404, 409, 429, 500, 503, 529]
    faults = [f"list:{status}*1" for status in statuses] + ["list:daily-cap*1", "list:quota*1"]
    with serve(tmp_path / "state", *faults) as sandbox, at(sandbox.base_url("together"), together) as client:
        seen = [client.get("fine-tunes").status_code for _ in range(len(faults) + 1)]
    assert seen == [*statuses, 429, 402, 200]
