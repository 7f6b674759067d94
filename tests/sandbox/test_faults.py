"""The faults that the sandbox commits, at one vendor or at all, and what comes of a job or a file later."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING

import openai
import pytest

from api_worker.sandbox.__main__ import main
from api_worker.sandbox.desk import Desk
from api_worker.sandbox.faults import Faults, parse_fault
from api_worker.sandbox.ledger import ledger_of
from api_worker.sandbox.rehearsals import REHEARSALS
from api_worker.sandbox.remote_job import Pace, Phase, Plan, Reason
from api_worker.sandbox.rules import Rules
from api_worker.sandbox.state import SandboxState
from api_worker.sandbox.training_files import TrainingFile
from api_worker.sandbox.vendor import vendors
from tests.conftest import eventually
from tests.sandbox.server import ENDLESS, FAST, examples_file, serve, serve_in_process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from openai.types.fine_tuning import FineTuningJob

    from tests.sandbox.server import Served


def create(sandbox: Served, folder: Path, vendor: str = "openai") -> FineTuningJob:
    with sandbox.client(vendor) as client:
        file = client.files.create(file=examples_file(folder / "train.jsonl"), purpose="fine-tune")
        return client.fine_tuning.jobs.create(model="sandbox-base", training_file=file.id)


def wait_for(sandbox: Served, job_id: str, status: str) -> FineTuningJob:
    def reached() -> FineTuningJob | None:
        job = client.fine_tuning.jobs.retrieve(job_id)
        return job if job.status == status else None

    with sandbox.client() as client:
        return eventually(reached, what=f"{job_id} {status}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("create:lag=2", "only the list lags; write list:lag=2"),
        ("job:500", 'there is no fault "500"; write one of slot, quota, broken, restart, odd-word'),
        ("file:quota", 'there is no fault "quota"; write one of broken, refused, slow'),
        ("create:restart", 'there is no fault "restart"; write an HTTP status, or one of drop'),
        ("job:odd-word", "say how long, or which one, as in job:odd-word=2"),
        ("job:quota-after", "only the answer to a request is lost after it; write job:quota"),
        ("list:lag-after=2", "only the answer to a request is lost after it; write list:lag"),
        ("create:500@25", "a chance is 0 to 1, as in create:500@0.5"),
        ("jobs:slot", 'there is no route "jobs"; there are upload'),
    ],
)
def test_a_fault_that_makes_no_sense_says_what_would(text: str, said: str) -> None:
    with pytest.raises(ValueError, match="no fault|say how long|only the|no route|a chance") as caught:
        parse_fault(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--faults", "acme/create:500"], 'there is no "acme"; there are azure'),
        (["--faults", "openai/job:restart"], "openai restarts no job under another id"),
        (["--max-concurrent", "acme=2"], '"acme=2" is no limit; write N or VENDOR=N'),
        (["--max-concurrent", "two"], '"two" is no limit'),
        (["--rehearse", "doomsday"], "invalid choice: 'doomsday'"),
    ],
)
def test_an_option_that_makes_no_sense_says_what_would(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, options: list[str], said: str
) -> None:
    with pytest.raises(SystemExit):
        main(["--state", str(tmp_path), *options])
    assert said in capsys.readouterr().err


def test_the_help_tells_the_faults_and_the_bad_days(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert "[VENDOR/]ROUTE:FAULT*COUNT" in said
    for name in (*REHEARSALS, *vendors()):
        assert name in said


def test_a_fault_at_one_vendor_leaves_the_others_alone(tmp_path: Path) -> None:
    with serve(tmp_path / "state", "azure/models:500", "models:503*1") as sandbox:
        with sandbox.client("azure") as client, pytest.raises(openai.InternalServerError) as first:
            client.models.list()
        with sandbox.client("nebius") as client:
            with pytest.raises(openai.InternalServerError) as busy:
                client.models.list()
            client.models.list()
        told = sandbox.ledger()
    assert (first.value.status_code, busy.value.status_code) == (500, 503)
    assert told["vendors"]["azure"]["faults_committed"] == {"models:500": 1}
    assert told["vendors"]["openai"]["faults_committed"] == {}
    assert told["faults_committed"] == {"models:500": 1, "models:503": 1}
    assert told["vendors"]["nebius"]["requests_refused"] == {"models 503": 1}
    assert told["requests_received"] == {"models": 3}


def test_what_is_asked_elsewhere_changes_no_chance() -> None:
    def drawn(*, disturbed: bool) -> list[bool]:
        faults = Faults([parse_fault("create:500@0.5"), parse_fault("list:500@0.5")], seed=3).at("openai")
        seen = []
        for _ in range(20):
            if disturbed:
                faults.draw("list")
            seen.append(faults.draw("create") is not None)
        return seen

    assert drawn(disturbed=True) == drawn(disturbed=False)


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ("slot", "rate_limit_exceeded", "as many unfinished"),
        ("quota", "exceeded_quota", "You exceeded your current quota"),
        ("broken", "server_error", "internal error"),
    ],
)
def test_a_job_may_come_to_grief_after_it_was_created(tmp_path: Path, fault: str, code: str, words: str) -> None:
    with serve(tmp_path / "state", f"job:{fault}*1") as sandbox:
        doomed, lucky = create(sandbox, tmp_path), create(sandbox, tmp_path)
        error = wait_for(sandbox, doomed.id, "failed").error
        assert error is not None
        assert error.code == code
        assert words in (error.message or "")
        wait_for(sandbox, lucky.id, "succeeded")
        assert sandbox.ledger()["vendors"]["openai"]["jobs"][doomed.id]["reason"] == fault
        assert sandbox.ledger()["faults_committed"] == {f"job:{fault}": 1}


def test_a_status_that_nobody_knows_is_shown_for_a_while(tmp_path: Path) -> None:
    unhurried = Rules(pace=Pace(0.0, 0.0, 0.6))
    with serve(tmp_path / "state", "job:odd-word=0.3", rules=unhurried) as sandbox:
        job = create(sandbox, tmp_path)
        assert str(job.status) == "reticulating"
        wait_for(sandbox, job.id, "running")
        wait_for(sandbox, job.id, "succeeded")


@pytest.fixture
def restarting(tmp_path: Path) -> Iterator[Desk]:
    """The desk of a vendor that restarts every job half-way through its second of running."""
    vendor = next(vendor for vendor in vendors().values() if vendor.restarts)
    faults = Faults([parse_fault("job:restart*1")]).at(vendor.name)
    with closing(SandboxState(tmp_path / "state")) as state:
        desk = Desk(vendor, state, Rules(pace=Pace(0.0, 0.0, 1.0), max_concurrent=1), faults)
        asyncio.run(desk.keep_file("file-1", "train.jsonl", b"{}", lambda _: TrainingFile(12)))
        yield desk


def test_a_job_that_is_restarted_goes_on_under_another_id_and_counts_once(restarting: Desk) -> None:
    job = restarting.create(Plan(id="ft-1", key="ty-1", model="m", training_file="file-1"))
    before, after, end = job.created_at + 0.4, job.created_at + 0.6, job.created_at + 1.6
    assert [found.id for found in restarting.jobs(before)] == ["ft-1"]
    second, first = restarting.jobs(after)
    assert (first.phase(before), first.phase(after)) == (Phase.RUNNING, Phase.FAILED)
    assert first.failure is not None
    assert (first.failure.reason, first.successor, second.predecessor) == (Reason.RESTARTED, second.id, "ft-1")
    assert (second.key, second.phase(after), second.phase(end)) == ("ty-1", Phase.RUNNING, Phase.SUCCEEDED)
    assert restarting.held(after) == 1
    told = ledger_of([restarting], end)
    assert (told["jobs_created"], told["most_held_at_once"], told["keys"]["ty-1"]["jobs"]) == (1, 1, ["ft-1"])


def test_a_job_that_is_cancelled_is_not_restarted(restarting: Desk) -> None:
    job = restarting.cancel(restarting.create(Plan(id="ft-1", key="ty-1", model="m", training_file="file-1")))
    assert [found.id for found in restarting.jobs(job.created_at + 9.0)] == ["ft-1"]
    assert job.phase(job.created_at + 9.0) == Phase.CANCELLED


def test_a_vendor_that_restarts_no_job_is_armed_with_no_restart(tmp_path: Path) -> None:
    with serve(tmp_path / "state", "job:restart") as sandbox:
        wait_for(sandbox, create(sandbox, tmp_path).id, "succeeded")


def test_a_file_may_take_its_time_and_be_broken(tmp_path: Path) -> None:
    with serve(tmp_path / "state", "file:slow=0.3", "file:broken*1") as sandbox, sandbox.client() as client:
        files = [
            client.files.create(file=examples_file(tmp_path / "train.jsonl"), purpose="fine-tune") for _ in range(2)
        ]
        assert [file.status for file in files] == ["uploaded", "uploaded"]
        eventually(lambda: client.files.retrieve(files[0].id).status == "error", what="the broken file")
        assert "told to" in (client.files.retrieve(files[0].id).status_details or "")
        eventually(lambda: client.files.retrieve(files[1].id).status == "processed", what="the good file")
        doomed = client.fine_tuning.jobs.create(model="sandbox-base", training_file=files[0].id)
        assert wait_for(sandbox, doomed.id, "failed").error is not None


def test_a_vendor_has_limits_of_its_own(tmp_path: Path) -> None:
    rules = {"nebius": Rules(pace=ENDLESS, max_concurrent=1), "openai": Rules(pace=ENDLESS, max_concurrent=2)}
    with serve(tmp_path / "state", rules=rules) as sandbox:
        for vendor, slots in (("nebius", 1), ("openai", 2)):
            for _ in range(slots):
                create(sandbox, tmp_path, vendor)
            with pytest.raises(openai.RateLimitError, match="as many unfinished"):
                create(sandbox, tmp_path, vendor)
        told = sandbox.ledger()["vendors"]
    assert {name: told[name]["most_held_at_once"] for name in rules} == {"nebius": 1, "openai": 2}
    assert told["nebius"]["requests_refused"] == {"create 429": 1}
    assert list(told["nebius"]["uploads"].values()) == [2]  # the same bytes both times


def test_a_model_is_not_started_more_often_than_a_day_allows(tmp_path: Path) -> None:
    with serve(tmp_path / "state", rules=Rules(pace=FAST, max_jobs_a_day=1)) as sandbox:
        create(sandbox, tmp_path)
        with pytest.raises(openai.RateLimitError) as caught:
            create(sandbox, tmp_path)
    assert caught.value.code == "daily_rate_limit_exceeded"


def test_a_bad_day_can_be_rehearsed_with_faults_of_ones_own(tmp_path: Path) -> None:
    options = [
        "--rehearse",
        "full-slots",
        "--faults",
        "models:503*1",
        "nebius/create:410",
        "--max-concurrent",
        "azure=1",
    ]
    never = ["--run-seconds", "3600", "--validate-seconds", "0", "--queue-seconds", "0"]
    with serve_in_process(tmp_path / "state", *options, *never) as (sandbox, process):
        assert process.stdout is not None
        there = {process.stdout.readline().split(":")[0].strip() for _ in range(len(vendors()) - 1)}
        create(sandbox, tmp_path)
        create(sandbox, tmp_path)
        with pytest.raises(openai.RateLimitError):
            create(sandbox, tmp_path)
        with pytest.raises(openai.APIStatusError, match="gone"):
            create(sandbox, tmp_path, "nebius")
        with sandbox.client() as client, pytest.raises(openai.InternalServerError):
            client.models.list()
        told = sandbox.ledger()["vendors"]
    assert there == {f"as {name}" for name in vendors() if name != "openai"}
    assert [told[name]["max_concurrent"] for name in ("openai", "azure")] == [2, 1]


@pytest.mark.parametrize("name", REHEARSALS)
def test_a_bad_day_is_made_of_faults_that_exist(name: str) -> None:
    day = REHEARSALS[name]
    assert day.told
    assert day.faults or day.max_concurrent
    assert [parse_fault(text) for text in day.faults] or day.max_concurrent
