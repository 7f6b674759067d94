"""Every answer of the sandbox is what OpenAI's specification says it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest

from api_worker.sandbox.remote_job import Pace
from api_worker.sandbox.rules import Rules
from tests.conftest import eventually
from tests.sandbox.server import ENDLESS, examples_file, preferences_file, serve

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.specification import Specification


@pytest.fixture
def judged(specification: Specification) -> openai.DefaultHttpxClient:
    return openai.DefaultHttpxClient(event_hooks={"response": [specification.hook]})


def test_the_answers_on_a_jobs_whole_way(
    tmp_path: Path, judged: openai.DefaultHttpxClient, specification: Specification
) -> None:
    slowly = Rules(pace=Pace(validate_seconds=0.3, queue_seconds=0.3, run_seconds=0.6))
    with serve(tmp_path / "state", rules=slowly) as sandbox, sandbox.client(http_client=judged) as client:
        file = client.files.create(file=examples_file(tmp_path / "train.jsonl"), purpose="fine-tune")
        client.files.retrieve(file.id)
        client.files.list()
        hyperparameters = {"n_epochs": 2}
        job = client.fine_tuning.jobs.create(
            model="sandbox-base",
            training_file=file.id,
            validation_file=file.id,
            suffix="tone",
            seed=7,
            metadata={"tuneyard": "ty-abc"},
            method={"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},  # type: ignore[arg-type]
        )
        states = []

        def look() -> bool:
            now = client.fine_tuning.jobs.retrieve(job.id)
            client.fine_tuning.jobs.list_events(job.id)
            if now.status not in states:
                states.append(now.status)
            return now.status == "succeeded"

        eventually(look, what="success")
        assert states == ["validating_files", "queued", "running", "succeeded"]
        checkpoints = client.fine_tuning.jobs.checkpoints.list(job.id).data
        assert [checkpoint.step_number for checkpoint in checkpoints] == [4, 2]
        done = client.fine_tuning.jobs.retrieve(job.id)
        client.files.retrieve(done.result_files[0])
        assert client.files.content(done.result_files[0]).content.startswith(b"step,train_loss")
        assert done.fine_tuned_model in [model.id for model in client.models.list()]
        client.files.delete(file.id)
        assert len(specification.seen) > 15


def test_the_answers_to_a_job_that_is_cancelled(tmp_path: Path, judged: openai.DefaultHttpxClient) -> None:
    with serve(tmp_path / "state", rules=Rules(pace=ENDLESS)) as sandbox, sandbox.client(http_client=judged) as client:
        file = client.files.create(file=examples_file(tmp_path / "train.jsonl"), purpose="fine-tune")
        job = client.fine_tuning.jobs.create(model="sandbox-base", training_file=file.id)
        assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
        assert client.fine_tuning.jobs.list().data[0].status == "cancelled"
        with pytest.raises(openai.BadRequestError):
            client.fine_tuning.jobs.cancel(job.id)


def test_the_answers_to_a_job_that_fails(tmp_path: Path, judged: openai.DefaultHttpxClient) -> None:
    with serve(tmp_path / "state") as sandbox, sandbox.client(http_client=judged) as client:
        file = client.files.create(file=examples_file(tmp_path / "few.jsonl", count=3), purpose="fine-tune")
        job = client.fine_tuning.jobs.create(model="sandbox-base", training_file=file.id)
        eventually(lambda: client.fine_tuning.jobs.retrieve(job.id).status == "failed", what="failure")
        client.fine_tuning.jobs.list_events(job.id)


def test_the_answers_to_a_job_of_preferences(tmp_path: Path, judged: openai.DefaultHttpxClient) -> None:
    with serve(tmp_path / "state") as sandbox, sandbox.client(http_client=judged) as client:
        file = client.files.create(file=preferences_file(tmp_path / "train.jsonl"), purpose="fine-tune")
        dpo: Any = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.1, "batch_size": 4}}}
        job = client.fine_tuning.jobs.create(model="sandbox-base", training_file=file.id, method=dpo)
        assert job.method is not None
        assert job.method.dpo is not None
        eventually(lambda: client.fine_tuning.jobs.retrieve(job.id).status == "succeeded", what="success")


@pytest.mark.parametrize("fault", ["job:slot", "job:quota", "job:broken", "file:broken"])
def test_the_answers_to_a_job_that_comes_to_grief(
    tmp_path: Path, judged: openai.DefaultHttpxClient, fault: str
) -> None:
    with serve(tmp_path / "state", fault) as sandbox, sandbox.client(http_client=judged) as client:
        file = client.files.create(file=examples_file(tmp_path / "train.jsonl"), purpose="fine-tune")
        client.files.retrieve(file.id)
        job = client.fine_tuning.jobs.create(model="sandbox-base", training_file=file.id)
        eventually(lambda: client.fine_tuning.jobs.retrieve(job.id).status == "failed", what="failure")
        client.fine_tuning.jobs.list_events(job.id)


def test_a_pause_is_told_by_a_word_that_the_specification_lacks(
    tmp_path: Path, judged: openai.DefaultHttpxClient
) -> None:
    with serve(tmp_path / "state", rules=Rules(pace=ENDLESS)) as sandbox, sandbox.client(http_client=judged) as client:
        file = client.files.create(file=examples_file(tmp_path / "train.jsonl"), purpose="fine-tune")
        job = client.fine_tuning.jobs.create(model="sandbox-base", training_file=file.id)
        with pytest.raises(AssertionError, match=r"\$.status: 'paused' is not one of"):
            client.fine_tuning.jobs.pause(job.id)
        assert client.fine_tuning.jobs.resume(job.id).status == "running"


def test_the_answers_of_the_models_and_the_chat(tmp_path: Path, judged: openai.DefaultHttpxClient) -> None:
    with serve(tmp_path / "state") as sandbox, sandbox.client(http_client=judged) as client:
        assert client.models.retrieve("sandbox-base").owned_by == "sandbox"
        assert client.models.retrieve("gpt-4.1-2025-04-14").shutdown_date == "2027-01-14"
        answer = client.chat.completions.create(model="sandbox-base", messages=[{"role": "user", "content": "Hello"}])
        assert "sandbox" in str(answer.choices[0].message.content)


@pytest.mark.parametrize(
    "fault", ["400", "401", "403", "404", "410", "429", "500", "503", "daily-cap", "quota", "slot"]
)
def test_the_answers_of_the_faults(tmp_path: Path, judged: openai.DefaultHttpxClient, fault: str) -> None:
    with (
        serve(tmp_path / "state", f"list:{fault}") as sandbox,
        sandbox.client(http_client=judged) as client,
        pytest.raises(openai.APIStatusError),
    ):
        client.fine_tuning.jobs.list()


def test_an_answer_outside_the_specification_is_noticed(specification: Specification) -> None:
    model = {"id": "m", "object": "model", "created": 1, "owned_by": "somebody"}
    specification.check("GET", "/models/m", 200, model)
    for wrong in ({**model, "created": "yesterday"}, {**model, "colour": "red"}, {"id": "m"}):
        with pytest.raises(AssertionError, match="outside its specification"):
            specification.check("GET", "/models/m", 200, wrong)
