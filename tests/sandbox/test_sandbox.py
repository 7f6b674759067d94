"""What the sandbox keeps, refuses and never claims."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import openai
import pytest

from api_worker.sandbox.faults import parse_fault
from api_worker.sandbox.remote_job import most_at_once
from api_worker.sandbox.rules import Rules
from api_worker.sandbox.state import SandboxState
from tests.conftest import eventually
from tests.sandbox.server import ENDLESS, FAST, ROOT, SECRET, examples_file, serve, serve_in_process

if TYPE_CHECKING:
    from pathlib import Path

    from openai.types.fine_tuning import FineTuningJob

    from tests.sandbox.server import Served


def upload(sandbox: Served, path: Path) -> str:
    with sandbox.client() as client:
        return client.files.create(file=path, purpose="fine-tune").id


def create(sandbox: Served, file: str, key: str = "ty-1") -> FineTuningJob:
    with sandbox.client() as client:
        return client.fine_tuning.jobs.create(model="sandbox-base", training_file=file, metadata={"tuneyard": key})


def wait_for(sandbox: Served, job_id: str, status: str) -> FineTuningJob:
    def reached() -> FineTuningJob | None:
        job = client.fine_tuning.jobs.retrieve(job_id)
        return job if job.status == status else None

    with sandbox.client() as client:
        found: FineTuningJob = eventually(reached, what=f"{job_id} {status}")
        return found


def test_a_killed_sandbox_forgets_no_job(tmp_path: Path) -> None:
    options = ["--run-seconds", "3600", "--validate-seconds", "0", "--queue-seconds", "0"]
    with serve_in_process(tmp_path / "state", *options) as (sandbox, process):
        job = create(sandbox, upload(sandbox, examples_file(tmp_path / "train.jsonl")))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    with serve_in_process(tmp_path / "state", *options) as (sandbox, _), sandbox.client() as client:
        again = client.fine_tuning.jobs.retrieve(job.id)
        assert (again.status, again.metadata) == ("running", {"tuneyard": "ty-1"})
        assert client.files.content(again.training_file).content.count(b"\n") == 12
        assert sandbox.ledger()["keys"]["ty-1"] == {"creates_received": 1, "cancels_received": 0, "jobs": [job.id]}


def test_a_line_that_was_cut_short_is_dropped(tmp_path: Path) -> None:
    state = SandboxState(tmp_path)
    state.ask("upload")
    state.close()
    journal = tmp_path / "journal.jsonl"
    with journal.open("ab") as file:
        file.write(b'{"event": "asked", "requ')
    state = SandboxState(tmp_path)
    state.ask("upload")
    state.close()
    again = SandboxState(tmp_path)
    again.close()
    assert again.requests.uploads == 2


def test_a_sandbox_on_a_taken_port_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "api_worker.sandbox", "--port", port, "--state", str(tmp_path)]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    assert f"cannot start on 127.0.0.1:{port}" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_fault_that_does_not_exist_is_refused_with_the_list(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "api_worker.sandbox", "--state", str(tmp_path), "--fault", "crate:500"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 2
    assert 'there is no route "crate"; there are upload' in run.stderr


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_sandbox_that_is_told_to_stop_leaves_no_traceback(tmp_path: Path, stop: signal.Signals) -> None:
    command = [sys.executable, "-m", "api_worker.sandbox", "--port", "0", "--state", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.send_signal(stop)
        assert process.stderr.read() == ""
        assert process.wait(timeout=30) in (0, -stop)


def test_no_secret_is_written_down(tmp_path: Path) -> None:
    with serve_in_process(tmp_path / "state") as (sandbox, process):
        create(sandbox, upload(sandbox, examples_file(tmp_path / "train.jsonl")))
        process.terminate()
        assert process.stdout is not None
        assert SECRET not in process.stdout.read()
    for file in (tmp_path / "state").rglob("*"):
        assert file.is_dir() or SECRET not in file.read_text()


def test_nothing_claims_to_have_been_trained(tmp_path: Path) -> None:
    with serve(tmp_path / "state") as sandbox, sandbox.client() as client:
        job = create(sandbox, upload(sandbox, examples_file(tmp_path / "train.jsonl")))
        done = wait_for(sandbox, job.id, "succeeded")
        assert "sandbox" in str(done.fine_tuned_model)
        assert done.trained_tokens == 0
        events = list(client.fine_tuning.jobs.list_events(job.id))
        assert "nothing is trained" in [event.message for event in events if event.level == "warn"][0]
        assert all("nothing" in event.message for event in events if event.type == "metrics")
        assert not any("loss" in name for event in events for name in dict(event.data or {}))  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"messages": [{"role": "assistant", "content": "x"}], "weight": 1}', 'contains an extra "weight".'),
        ('{"messages": [', "is not valid JSON."),
        ("[1]", "is not an object."),
        ('{"prompt": "a", "completion": "b"}', 'has no "messages".'),
        ('{"messages": [{"role": "robot", "content": "x"}]}', 'number 1 has the unknown role "robot".'),
        ('{"messages": [{"role": "user", "content": "x"}]}', 'does not end with a message from "assistant".'),
        ('{"messages": [{"role": "assistant", "content": ""}]}', "number 1 has no content."),
    ],
)
def test_a_bad_line_fails_the_job_and_not_the_upload(tmp_path: Path, line: str, problem: str) -> None:
    with serve(tmp_path / "state") as sandbox:
        job = create(sandbox, upload(sandbox, examples_file(tmp_path / "train.jsonl", last_line=line)))
        failed = wait_for(sandbox, job.id, "failed")
        assert failed.error is not None
        assert (failed.error.code, failed.error.param) == ("invalid_file_format", "training_file")
        said = failed.error.message or ""
        assert said.startswith("The job failed due to a file format error in the training file. Invalid file format. ")
        assert "Example 13 " in said
        assert said.endswith(problem)


def test_a_bad_validation_file_is_told_apart(tmp_path: Path) -> None:
    with serve(tmp_path / "state") as sandbox, sandbox.client() as client:
        good = upload(sandbox, examples_file(tmp_path / "good.jsonl"))
        bad = upload(sandbox, examples_file(tmp_path / "bad.jsonl", last_line="{}"))
        job = client.fine_tuning.jobs.create(model="sandbox-base", training_file=good, validation_file=bad)
        error = wait_for(sandbox, job.id, "failed").error
        assert error is not None
        assert error.param == "validation_file"


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"model": "gpt-4o-mini"}, "Model gpt-4o-mini is not available for fine-tuning or does not exist."),
        ({"suffix": "x" * 65}, "'suffix' must have 1 to 64 characters."),
        ({"hyperparameters": {"n_epochs": 51}}, "'n_epochs' must be a whole number from 1 to 50."),
        ({"training_file": "file-none"}, "There is no file file-none."),
        ({"method": {"type": "reinforcement"}}, "supervised"),
        ({"metadata": {f"k{n}": "v" for n in range(17)}}, "at most 16 pairs"),
    ],
)
def test_an_order_outside_the_limits_creates_nothing(tmp_path: Path, wish: dict[str, object], said: str) -> None:
    with serve(tmp_path / "state") as sandbox, sandbox.client() as client:
        file = upload(sandbox, examples_file(tmp_path / "train.jsonl"))
        order = {"model": "sandbox-base", "training_file": file, **wish}
        with pytest.raises(openai.BadRequestError, match=said):
            client.post("/fine_tuning/jobs", body=order, cast_to=object)
        assert sandbox.ledger()["jobs_created"] == 0


def test_the_list_is_filtered_by_metadata_and_comes_in_pages(tmp_path: Path) -> None:
    with serve(tmp_path / "state") as sandbox, sandbox.client() as client:
        file = upload(sandbox, examples_file(tmp_path / "train.jsonl"))
        made = [create(sandbox, file, key).id for key in ("ty-a", "ty-b", "ty-b")]
        jobs = client.fine_tuning.jobs
        assert [job.id for job in jobs.list(limit=2)] == made[::-1]
        assert [job.id for job in jobs.list(metadata={"tuneyard": "ty-b"})] == [made[2], made[1]]
        assert jobs.list(after=made[1]).data[0].id == made[0]
        assert jobs.list(limit=2).has_more
        assert not jobs.list(limit=3).has_more


def test_one_job_more_than_allowed_at_once_is_refused(tmp_path: Path) -> None:
    with serve(tmp_path / "state", rules=Rules(pace=ENDLESS, max_concurrent=2)) as sandbox, sandbox.client() as client:
        file = upload(sandbox, examples_file(tmp_path / "train.jsonl"))
        first, _ = create(sandbox, file), create(sandbox, file)
        with pytest.raises(openai.RateLimitError, match="already has as many unfinished"):
            create(sandbox, file)
        client.fine_tuning.jobs.cancel(first.id)
        create(sandbox, file)
        ledger = sandbox.ledger()
        assert (ledger["jobs_created"], ledger["most_held_at_once"]) == (3, 2)


def test_a_listing_that_lags_shows_a_job_late(tmp_path: Path) -> None:
    with serve(tmp_path / "state", "list:lag=0.4") as sandbox, sandbox.client() as client:
        job = create(sandbox, upload(sandbox, examples_file(tmp_path / "train.jsonl")))
        assert not client.fine_tuning.jobs.list().data
        assert client.fine_tuning.jobs.retrieve(job.id).id == job.id
        eventually(lambda: client.fine_tuning.jobs.list().data, what="the job in the list")


def test_a_slow_upload_takes_its_time(tmp_path: Path) -> None:
    with serve(tmp_path / "state", "upload:slow=0.3*1") as sandbox:
        start = time.monotonic()
        upload(sandbox, examples_file(tmp_path / "train.jsonl"))
        assert time.monotonic() - start >= 0.3


@pytest.mark.parametrize("fault", ["create:500-after*1", "create:drop-after*1"])
def test_a_job_whose_answer_was_lost_exists(tmp_path: Path, fault: str) -> None:
    with serve(tmp_path / "state", fault) as sandbox, sandbox.client() as client:
        file = upload(sandbox, examples_file(tmp_path / "train.jsonl"))
        with pytest.raises((openai.InternalServerError, openai.APIConnectionError)):
            create(sandbox, file)
        assert len(client.fine_tuning.jobs.list().data) == 1
        create(sandbox, file)
        ledger = sandbox.ledger()
        assert ledger["jobs_created"] == 2
        assert ledger["faults_committed"] == {fault.removesuffix("*1"): 1}


@pytest.mark.parametrize("fault", ["create:500*1", "create:drop*1", "create:429=7*1"])
def test_a_request_that_was_refused_is_counted_and_creates_nothing(tmp_path: Path, fault: str) -> None:
    with serve(tmp_path / "state", fault) as sandbox:
        file = upload(sandbox, examples_file(tmp_path / "train.jsonl"))
        with pytest.raises(openai.APIError):
            create(sandbox, file)
        assert sandbox.ledger()["keys"]["ty-1"] == {"creates_received": 1, "cancels_received": 0, "jobs": []}


def test_faults_by_chance_repeat_with_the_seed(tmp_path: Path) -> None:
    def failures(name: str, seed: int) -> list[bool]:
        def fails() -> bool:
            try:
                client.models.list()
            except openai.InternalServerError:
                return True
            return False

        with serve(tmp_path / name, "models:500@0.5", seed=seed) as sandbox, sandbox.client() as client:
            return [fails() for _ in range(20)]

    first = failures("a", 3)
    assert failures("b", 3) == first != failures("c", 4)
    assert 0 < sum(first) < 20


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("create", "write ROUTE:FAULT"),
        ("create:five", 'there is no fault "five"; write an HTTP status, or one of drop'),
        ("upload:slow", "say how long, or which one, as in upload:slow=2"),
        ("create:lag=2", "only the list lags; write list:lag=2"),
        ("create:500*", "write ROUTE:FAULT"),
    ],
)
def test_a_fault_that_makes_no_sense_says_what_would(text: str, said: str) -> None:
    with pytest.raises(ValueError, match="no fault|say how long|only the list") as caught:
        parse_fault(text)
    assert said in str(caught.value)


def test_a_request_without_a_key_is_refused(tmp_path: Path) -> None:
    with (
        serve(tmp_path / "state") as sandbox,
        sandbox.client(default_headers={"Authorization": ""}) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()


def test_the_most_at_once_counts_spans_that_meet_as_apart() -> None:
    assert most_at_once([]) == 0
    assert most_at_once([(0, 1), (1, 2)]) == 1
    assert most_at_once([(0, 2), (1, 3), (2, 4), (1, 1)]) == 2


def test_the_pace_is_kept_by_jobs_made_before_a_restart(tmp_path: Path) -> None:
    with serve(tmp_path / "state", rules=Rules(pace=ENDLESS)) as sandbox:
        job = create(sandbox, upload(sandbox, examples_file(tmp_path / "train.jsonl")))
    with serve(tmp_path / "state", rules=Rules(pace=FAST)) as sandbox:
        wait_for(sandbox, job.id, "running")
        assert sandbox.ledger()["most_running_at_once"] == 1
