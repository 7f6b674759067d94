"""Every answer of the sandbox is what OpenAI's specification says it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import openai
import pytest

from api_worker.sandbox.openai_routes import Rules
from api_worker.sandbox.remote_job import Pace
from tests.conftest import eventually
from tests.sandbox.server import ENDLESS, examples_file, serve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx2

    from tests.sandbox.specification import Specification


def checking(specification: Specification, seen: list[str]) -> Callable[[httpx2.Response], None]:
    """A hook for the SDK's own HTTP client that judges each answer as it passes."""

    def check(response: httpx2.Response) -> None:
        path = response.request.url.path.removeprefix("/v1")
        seen.append(f"{response.request.method} {path}")
        response.read()
        if not path.endswith("/content"):
            specification.check(response.request.method, path, response.status_code, response.json())

    return check


@pytest.fixture
def seen() -> list[str]:
    return []


@pytest.fixture
def judged(specification: Specification, seen: list[str]) -> openai.DefaultHttpxClient:
    return openai.DefaultHttpxClient(event_hooks={"response": [checking(specification, seen)]})


def test_the_answers_on_a_jobs_whole_way(tmp_path: Path, judged: openai.DefaultHttpxClient, seen: list[str]) -> None:
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
        assert len(seen) > 15


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


def test_the_answers_of_the_models_and_the_chat(tmp_path: Path, judged: openai.DefaultHttpxClient) -> None:
    with serve(tmp_path / "state") as sandbox, sandbox.client(http_client=judged) as client:
        assert client.models.retrieve("sandbox-base").owned_by == "sandbox"
        answer = client.chat.completions.create(model="sandbox-base", messages=[{"role": "user", "content": "Hello"}])
        assert "sandbox" in str(answer.choices[0].message.content)


@pytest.mark.parametrize("fault", ["400", "401", "403", "404", "410", "429", "500", "503", "daily-cap", "quota"])
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
