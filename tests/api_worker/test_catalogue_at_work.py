"""What the catalogue says decides over jobs at a vendor's own cloud: here a sandbox, which a catalogue calls so."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from queue_app.lifecycle import Cause, State
from tests.sandbox.server import examples_file, serve

if TYPE_CHECKING:
    from pathlib import Path

    from queue_app.store import Job
    from tests.conftest import RunHere
    from tests.sandbox.server import Served

SOURCED = 'source = "its page"\ngrade = "P"\nseen = 2026-11-21\n'
SHIPPED = '["gpt-4o-2024-08-06", "gpt-4o-2024-11-20", "gpt-4o-mini-2024-07-18", "gpt-4.1-2025-04-14", '
SHIPPED += '"gpt-4.1-mini-2025-04-14"]'  # the models of a row that comes along, whose place is taken here
NEVER = date(2099, 1, 1)


def closing(what: str, on: date, models: str) -> str:
    head = f'[[closing]]\nprovider = "openai"\nwhat = "{what}"\non = {on}\nmodels = {models}\n'
    return f'{head}instead = "nebius"\n{SOURCED}'


@pytest.fixture
def at(tmp_path: Path, run_here: RunHere) -> Any:
    """Run a fine-tune where OpenAI's cloud is this machine, and its training and its models' answers end on days."""

    def tune(sandbox: Served, model: str, training: date = NEVER, inference: date = NEVER) -> Job:
        file = tmp_path / "own.toml"
        file.write_text(
            '[[provider]]\napi = "openai"\ntitle = "OpenAI"\nslots = "model"\n'
            'domains = ["127.0.0.1"]\nall_models = true\n'
            + closing("training", training, '["*"]')
            + closing("inference", inference, SHIPPED)
        )
        settings = run_here.settings.model_copy(
            update={"providers": {"mine": sandbox.account()}, "catalogue": file, "home": tmp_path / "home"}
        )
        yard = type(run_here)(run_here.store, settings)
        dataset = examples_file(tmp_path / "data" / "examples.jsonl").parent
        return yard("finetune.hosted", dataset=str(dataset), provider="mine", base_model=model, epochs=1)

    return tune


def log_of(run_here: RunHere, job: Job) -> str:
    return (run_here.settings.home / "jobs" / job.id / "logs" / "job.log").read_text()


def test_a_model_without_its_date_is_ordered_by_the_name_with_it(tmp_path: Path, at: Any) -> None:
    with serve(tmp_path / "state") as sandbox:
        job = at(sandbox, "gpt-4.1-mini")
        with sandbox.client() as client:
            [remote] = client.fine_tuning.jobs.list()
    assert job.state == State.SUCCEEDED, job.failure
    assert remote.model == "gpt-4.1-mini-2025-04-14"
    assert job.pool == "mine/gpt-4.1-mini-2025-04-14"


def test_a_model_that_is_not_tuned_there_is_refused_before_anything_is_sent(tmp_path: Path, at: Any) -> None:
    with serve(tmp_path / "state") as sandbox:
        job = at(sandbox, "gpt-4.1-mimi")
        ledger = sandbox.ledger()
    assert (job.state, job.cause) == (State.FAILED, Cause.USER)
    assert 'OpenAI tunes no model "gpt-4.1-mimi"; nearest: gpt-4.1-mini-2025-04-14' in (job.failure or "")
    assert (ledger["uploads_received"], ledger["jobs_created"]) == (0, 0)


@pytest.mark.parametrize(
    ("ends", "says"),
    [({"training": -1}, "training ended on"), ({"training": 0}, "training ended on"), ({"inference": 3}, "ends on")],
)
def test_what_ends_before_a_job_can_be_done_is_refused(
    tmp_path: Path, at: Any, ends: dict[str, int], says: str
) -> None:
    today = datetime.now(UTC).date()
    with serve(tmp_path / "state") as sandbox:
        job = at(sandbox, "gpt-4.1-mini", **{what: today + timedelta(days=days) for what, days in ends.items()})
        ledger = sandbox.ledger()
    assert (job.state, job.cause) == (State.FAILED, Cause.PROVIDER)
    assert says in (job.failure or "")
    assert "instead: nebius" in (job.failure or "")
    assert ledger["uploads_received"] == 0


@pytest.mark.parametrize(("days", "warns"), [(89, True), (92, False)])
def test_what_ends_soon_is_warned_of_in_the_log_and_in_the_result(
    tmp_path: Path, run_here: RunHere, at: Any, days: int, warns: bool
) -> None:
    end = datetime.now(UTC).date() + timedelta(days=days)
    with serve(tmp_path / "state") as sandbox:
        job = at(sandbox, "gpt-4.1-2025-04-14", inference=end)
    assert job.state == State.SUCCEEDED, job.failure
    assert job.result is not None
    said = f"the use of its fine-tunes ends on {end}"
    assert (said in log_of(run_here, job), any(said in warning for warning in job.result["warnings"])) == (warns, warns)
