"""The cap of a recipe meets the jobs of its run, that of a job the job alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from queue_app.dispatcher import Dispatcher
from queue_app.lifecycle import Cause, Reason, State
from queue_app.recipe import parse_recipe
from tests.sandbox.server import examples_file, serve

if TYPE_CHECKING:
    from pathlib import Path

    from queue_app.store import Job
    from tests.conftest import RunHere

STEPS = """
steps:
  tune: {job: finetune.hosted, dataset: examples.jsonl, provider: acme, base_model: sandbox-base}
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return examples_file(tmp_path / "examples.jsonl").parent


def tuned(yard: RunHere, data: Path, text: str, **overrides: str) -> Job:
    """The one job of a recipe, after its first attempt."""
    recipe = parse_recipe(text + STEPS, data / "tune.yaml", overrides=overrides)
    _, ids = Dispatcher(yard.store, "user:me").run(recipe)
    yard.runner.run(job_id=ids["tune"])
    return yard.store.read.job(ids["tune"])


@pytest.mark.parametrize(
    ("head", "overrides", "said"),
    [
        ("name: tune\ncap_usd: 5", {}, "the recipe's cap is $5.00"),
        ("name: tune", {"steps.tune.cap_usd": "3"}, "the job's cap is $3.00"),
        ("name: tune\ncap_usd: 5", {"cap_usd": "7"}, "the recipe's cap is $7.00"),
    ],
)
def test_a_price_that_nobody_knows_waits_for_approval_under_a_cap(
    tmp_path: Path, run_here: RunHere, data: Path, head: str, overrides: dict[str, Any], said: str
) -> None:
    with serve(tmp_path / "state") as sandbox:
        yard = run_here.with_provider("acme", sandbox.account())
        job = tuned(yard, data, head, **overrides)
        assert (job.state, job.reason) == (State.WAITING, Reason.APPROVAL)
        assert said in yard.store.read.history(job.id)[-1].detail["why"]
        assert sandbox.ledger()["jobs_created"] == 0
        yard.store.bills.approve(job.id, actor="user:me")
        assert yard.finish(job.id).state == State.SUCCEEDED


def test_a_cap_of_nothing_ends_the_job_before_anything_is_started(
    tmp_path: Path, run_here: RunHere, data: Path
) -> None:
    with serve(tmp_path / "state") as sandbox:
        yard = run_here.with_provider("acme", sandbox.account())
        job = tuned(yard, data, "name: tune\ncap_usd: 0")
        assert (job.state, job.cause) == (State.FAILED, Cause.GATE)
        assert "the recipe's cap is $0.00; raise it in the recipe and run that again" in str(job.failure)
        assert sandbox.ledger()["jobs_created"] == 0


def test_without_a_cap_nothing_waits(tmp_path: Path, run_here: RunHere, data: Path) -> None:
    with serve(tmp_path / "state") as sandbox:
        yard = run_here.with_provider("acme", sandbox.account())
        job = tuned(yard, data, "name: tune")
        assert yard.finish(job.id).state == State.SUCCEEDED
