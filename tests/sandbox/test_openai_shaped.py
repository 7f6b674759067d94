"""OpenAI's methods, hyperparameters and files at the sandbox, and how Nebius and Azure differ."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import openai
import pytest

from api_worker.sandbox.remote_job import Pace
from api_worker.sandbox.rules import Rules
from tests.conftest import eventually
from tests.sandbox.server import ENDLESS, examples_file, preferences_file, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from openai.types.fine_tuning import FineTuningJob

    from tests.sandbox.server import Served

USER = {"role": "user", "content": "What is 1?"}
ANSWER = {"role": "assistant", "content": "It is 1."}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One for every test that wants no limits of its own."""
    with serve(tmp_path_factory.mktemp("state")) as served:
        yield served


@pytest.fixture(scope="module")
def client(sandbox: Served) -> Iterator[openai.OpenAI]:
    with sandbox.client() as opened:
        yield opened


def upload(client: openai.OpenAI, path: Path) -> str:
    return client.files.create(file=path, purpose="fine-tune").id


def end_of(client: openai.OpenAI, job_id: str) -> FineTuningJob:
    def ended() -> FineTuningJob | None:
        job = client.fine_tuning.jobs.retrieve(job_id)
        return job if job.status in ("succeeded", "failed") else None

    return eventually(ended, what="the end")


def lines(path: Path, row: Any, count: int = 12) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for _ in range(count)))
    return path


@pytest.mark.parametrize("kind", ["chat", "preference"])
@pytest.mark.parametrize("method", ["supervised", "dpo"])
def test_a_method_takes_the_examples_that_are_meant_for_it(
    client: openai.OpenAI, tmp_path: Path, kind: str, method: str
) -> None:
    make = examples_file if kind == "chat" else preferences_file
    asked: Any = {"type": method, method: {"hyperparameters": {"n_epochs": 2}}}
    file = upload(client, make(tmp_path / "train.jsonl"))
    job = client.fine_tuning.jobs.create(model="sandbox-base", training_file=file, method=asked)
    assert job.method is not None
    assert job.method.type == method
    done = end_of(client, job.id)
    if (kind, method) in (("chat", "supervised"), ("preference", "dpo")):
        assert done.status == "succeeded"
    else:
        assert done.error is not None
        assert done.error.code == "invalid_file_format"
        assert f"Example 1 is of the format {kind}" in (done.error.message or "")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"messages": [USER, {**ANSWER, "weight": 2}]}, '"weight" that is not 0 or 1'),
        ({"messages": [USER, {**ANSWER, "weight": True}]}, '"weight" that is not 0 or 1'),
        ({"messages": [{**USER, "weight": 1}, ANSWER]}, '"weight" that is not 0 or 1'),
        ({"messages": [USER, {**ANSWER, "reasoning": "so"}]}, 'contains an extra "reasoning".'),
        ({"messages": [USER, {"role": "tool", "content": "2", "tool_call_id": "c9"}, ANSWER]}, "which nobody has made"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": [{"id": "c1"}]}]}, "without an id or a function"),
        (
            {"messages": [USER, {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "a"}}]}]},
            '"arguments" are no string',
        ),
        ({"messages": [USER, ANSWER], "tools": {}}, '"tools" that are no list'),
        ({"messages": [USER, ANSWER], "tools": [{"type": "function"}]}, "no function with a"),
        ({"input": {"messages": [USER, ANSWER]}, "preferred_output": [ANSWER]}, 'an "input" that ends with'),
        ({"input": {"messages": [USER]}, "preferred_output": [ANSWER]}, 'has no "non_preferred_output".'),
        (
            {"input": {"messages": [USER]}, "preferred_output": [USER], "non_preferred_output": [ANSWER]},
            "it has a message that is not from the assistant",
        ),
    ],
)
def test_an_example_that_is_wrong_fails_the_job_in_its_words(
    client: openai.OpenAI, tmp_path: Path, row: Any, problem: str
) -> None:
    file = upload(client, lines(tmp_path / "train.jsonl", row))
    error = end_of(client, client.fine_tuning.jobs.create(model="sandbox-base", training_file=file).id).error
    assert error is not None
    assert error.code == "invalid_file_format"
    assert "Invalid file format. Example 1 " in (error.message or "")
    assert problem in (error.message or "")


def test_tools_their_calls_and_weights_are_taken(client: openai.OpenAI, tmp_path: Path) -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        USER,
        {"role": "assistant", "tool_calls": [CALL], "weight": 0},
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {**ANSWER, "weight": 1},
    ]
    row = {"messages": messages, "tools": [TOOL], "parallel_tool_calls": False}
    file = upload(client, lines(tmp_path / "train.jsonl", row))
    job = client.fine_tuning.jobs.create(model="sandbox-base", training_file=file)
    assert end_of(client, job.id).status == "succeeded"


@pytest.mark.parametrize(
    ("method", "given", "said"),
    [
        ("supervised", {"n_epochs": 0}, "'n_epochs' must be a whole number from 1 to 50."),
        ("supervised", {"n_epochs": 2.5}, "'n_epochs' must be a whole number from 1 to 50."),
        ("supervised", {"n_epochs": True}, "'n_epochs' must be a whole number from 1 to 50."),
        ("supervised", {"batch_size": 257}, "'batch_size' must be a whole number from 1 to 256."),
        ("supervised", {"learning_rate_multiplier": 0}, "'learning_rate_multiplier' must be a number above 0."),
        ("supervised", {"beta": 0.1}, "Unknown parameter: 'hyperparameters.beta'."),
        ("supervised", {"lora_r": 16}, "Unknown parameter: 'hyperparameters.lora_r'."),
        ("dpo", {"beta": 2.1}, "'beta' must be a number above 0 and at most 2."),
    ],
)
def test_hyperparameters_keep_to_the_specifications_limits(
    client: openai.OpenAI, tmp_path: Path, method: str, given: dict[str, Any], said: str
) -> None:
    file = upload(client, examples_file(tmp_path / "train.jsonl"))
    asked: Any = {"type": method, method: {"hyperparameters": given}}
    with pytest.raises(openai.BadRequestError, match=said):
        client.fine_tuning.jobs.create(model="sandbox-base", training_file=file, method=asked)
    assert file not in {job.training_file for job in client.fine_tuning.jobs.list(limit=100)}


def test_a_job_stands_still_between_pause_and_resume(tmp_path: Path) -> None:
    unhurried = Rules(pace=Pace(0.0, 0.0, 0.4), max_concurrent=1)
    with serve(tmp_path / "state", rules=unhurried) as sandbox, sandbox.client() as client:
        jobs = client.fine_tuning.jobs
        file = upload(client, examples_file(tmp_path / "train.jsonl"))
        job = jobs.create(model="sandbox-base", training_file=file)
        with pytest.raises(openai.BadRequestError, match="is not paused"):
            jobs.resume(job.id)
        paused_at = time.monotonic()
        assert str(jobs.pause(job.id).status) == "paused"
        eventually(lambda: time.monotonic() > paused_at + 0.5, what="more time than the job needs")
        assert str(jobs.retrieve(job.id).status) == "paused"
        with pytest.raises(openai.RateLimitError):  # it keeps its slot
            jobs.create(model="sandbox-base", training_file=file)
        assert jobs.resume(job.id).status == "running"
        assert end_of(client, job.id).status == "succeeded"
        with pytest.raises(openai.BadRequestError, match="can no longer be paused"):
            jobs.pause(job.id)


def test_a_job_that_stands_still_can_be_cancelled(tmp_path: Path) -> None:
    with serve(tmp_path / "state", rules=Rules(pace=ENDLESS)) as sandbox, sandbox.client() as client:
        jobs = client.fine_tuning.jobs
        job = jobs.create(model="sandbox-base", training_file=upload(client, examples_file(tmp_path / "train.jsonl")))
        jobs.pause(job.id)
        assert jobs.cancel(job.id).status == "cancelled"


def test_models_tell_when_they_shut_down_and_how_many_jobs_they_take(tmp_path: Path) -> None:
    rules = Rules(pace=ENDLESS, max_concurrent=3, max_jobs_a_day=8)
    with serve(tmp_path / "state", rules=rules) as sandbox, sandbox.client() as client:
        file = upload(client, examples_file(tmp_path / "train.jsonl"))
        client.fine_tuning.jobs.create(model="sandbox-base", training_file=file)
        dates = {model.id: model.shutdown_date for model in client.models.list()}
        assert dates == {
            "sandbox-base": None,
            "gpt-4.1-2025-04-14": "2027-01-14",
            "gpt-4.1-mini-2025-04-14": "2027-01-14",
        }
        limits: Any = client.get("/fine_tuning/model_limits", cast_to=object)
        assert limits["sandbox-base"] == {"max_total_jobs": 8, "max_concurrent_jobs": 3, "active_jobs": 1}
        assert limits["gpt-4.1-2025-04-14"]["active_jobs"] == 0


# -- Nebius and Azure -------------------------------------------------------------------------------------------------


def test_nebius_takes_its_hyperparameters_in_one_place_and_tells_its_steps(tmp_path: Path) -> None:
    unhurried = Rules(pace=Pace(0.0, 5.0, 5.0))
    with serve(tmp_path / "state", rules=unhurried) as sandbox, sandbox.client("nebius") as client:
        path = examples_file(tmp_path / "train.jsonl")
        assert client.files.create(file=path, purpose="fine-tune").status is None
        file = upload(client, path)
        order: dict[str, Any] = {"model": "sandbox-base", "training_file": file}
        lora: Any = {"n_epochs": 2, "lora": True, "lora_r": 16}
        many: Any = {"n_epochs": 21}
        small: Any = {"lora_r": 4}
        job = client.fine_tuning.jobs.create(**order, hyperparameters=lora, metadata={"a": "b"}, suffix="tone-ty-abc")
        assert (job.status, job.metadata) == ("running", None)
        assert job.model_extra == {"trained_steps": 0, "total_steps": 4, "suffix": "tone-ty-abc"}
        assert sandbox.ledger()["vendors"]["nebius"]["keys"]["ty-abc"]["jobs"] == [job.id]
        supervised: Any = {"type": "supervised", "supervised": {}}
        with pytest.raises(openai.BadRequestError, match="Only one of 'method' or 'hyperparameters'"):
            client.fine_tuning.jobs.create(**order, hyperparameters=lora, method=supervised)
        with pytest.raises(openai.BadRequestError, match="'n_epochs' must be a whole number from 1 to 20."):
            client.fine_tuning.jobs.create(**order, hyperparameters=many)
        with pytest.raises(openai.BadRequestError, match="'lora_r' must be a whole number from 8 to 128."):
            client.fine_tuning.jobs.create(**order, hyperparameters=small)


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b""])
def test_azure_wants_a_byte_order_mark(tmp_path: Path, mark: bytes) -> None:
    with serve(tmp_path / "state") as sandbox, sandbox.client("azure") as client:
        content = mark + examples_file(tmp_path / "train.jsonl").read_bytes()
        file = client.files.create(file=("train.jsonl", content), purpose="fine-tune").id
        done = end_of(client, client.fine_tuning.jobs.create(model="sandbox-base", training_file=file).id)
        assert done.status == ("succeeded" if mark else "failed")
        assert mark or (done.error is not None and "UTF-8 with a BOM" in (done.error.message or ""))


@pytest.mark.parametrize("suffix", ["x" * 19, "v1.2"])
def test_azure_takes_short_suffixes_without_dots(tmp_path: Path, suffix: str) -> None:
    with serve(tmp_path / "state") as sandbox, sandbox.client("azure") as client:
        file = upload(client, examples_file(tmp_path / "train.jsonl"))
        with pytest.raises(openai.BadRequestError, match="'suffix'"):
            client.fine_tuning.jobs.create(model="sandbox-base", training_file=file, suffix=suffix)
