"""What a fine-tune costs: committed to before it starts, billed whatever its end, and nothing where nothing was."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from api_worker.provider import Order, RemoteState
from api_worker.providers import is_free, open_provider
from api_worker.sandbox.remote_job import Pace
from api_worker.sandbox.rules import Rules
from queue_app.lifecycle import Cause, Reason, State
from settings import ProviderSettings, Settings
from tests.conftest import eventually
from tests.sandbox.server import ENDLESS, FAST, examples_file, serve

if TYPE_CHECKING:
    from pathlib import Path

    from api_worker.provider import Provider, RemoteJob
    from queue_app.store import Bill
    from tests.conftest import RunHere
    from tests.sandbox.server import Served

KIND = "finetune.hosted"
LLAMA = "meta-llama/Meta-Llama-3.1-8B-Instruct-Reference"  # of which Together's part of the sandbox tells a price


@pytest.fixture
def order(tmp_path: Path) -> dict[str, Any]:
    file = examples_file(tmp_path / "examples.jsonl", count=40)
    return {"dataset": str(file), "provider": "acme", "base_model": LLAMA, "epochs": 2}


def at_together(folder: Path, *faults: str, pace: Pace = FAST) -> Any:
    return serve(folder / "state", *faults, rules=Rules(pace=pace, models=(LLAMA,)))


def account(sandbox: Served, **more: Any) -> ProviderSettings:
    return sandbox.account("together").model_copy(update=more)


def reaches(yard: RunHere, job_id: str, reason: Reason) -> None:
    """Run a job until it waits for this."""

    def waits() -> bool:
        yard.runner.run(job_id=job_id)
        return yard.store.read.job(job_id).reason == reason

    eventually(waits, what=f"the wait for {reason}")


def bill(yard: RunHere, job_id: str) -> Bill:
    found = yard.store.bills.get(job_id)
    assert found is not None
    return found


def price(yard: RunHere, job_id: str) -> float:
    quoted = bill(yard, job_id).quoted_high_usd
    assert quoted is not None
    assert quoted > 0
    return quoted


def test_what_is_refused_before_anybody_is_asked_owes_nothing_and_ends_at_once_again(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any]
) -> None:
    with at_together(tmp_path) as sandbox:
        yard = run_here.with_provider("acme", account(sandbox))
        job = yard(KIND, **order, suffix="x" * 39)
        assert (job.state, job.cause) == (State.FAILED, Cause.USER)
        assert "the suffix" in str(job.failure)
        assert bill(yard, job.id).committed_at is None
        yard.store.retry(job.id, actor="test")
        again = yard.finish(job.id, seconds=10)
        assert sandbox.ledger()["jobs_created"] == 0
    assert (again.state, again.cause) == (State.FAILED, Cause.USER)


def test_a_cancelled_run_that_was_billed_and_its_retry_stand_side_by_side(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any]
) -> None:
    with at_together(tmp_path, pace=Pace(0.0, 0.0, 1.5)) as sandbox:
        yard = run_here.with_provider("acme", account(sandbox))
        job_id = yard.submit(KIND, **order)

        def trains() -> bool:
            yard.runner.run(job_id=job_id)
            return int((yard.store.read.job(job_id).progress or {}).get("step", 0)) > 1

        eventually(trains, what="a step")
        quoted = price(yard, job_id)
        yard.store.cancel(job_id, actor="test")
        assert yard.finish(job_id).state == State.CANCELLED
        yard.store.retry(job_id, actor="test")
        assert yard.finish(job_id).state == State.SUCCEEDED
    first, second = yard.store.bills.of(job_id)
    assert first.billed_usd is not None
    assert 0 < first.billed_usd < quoted
    assert first.is_estimate
    assert second.billed_at is not None
    assert len(yard.store.bills.ls()) == 2


def test_what_was_cancelled_before_its_first_step_owes_nothing_where_steps_are_billed(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any]
) -> None:
    with at_together(tmp_path, pace=Pace(0.0, 3600.0, 0.0)) as sandbox:
        yard = run_here.with_provider("acme", account(sandbox))
        job_id = yard.submit(KIND, **order)
        reaches(yard, job_id, Reason.REMOTE)
        eventually(lambda: yard.runner.run(job_id=job_id) and yard.store.memos.get(job_id, "start"), what="the start")
        yard.store.cancel(job_id, actor="test")
        yard.finish(job_id)
        assert bill(yard, job_id).committed_at is None


def test_a_failure_that_nobody_tells_the_price_of_counts_as_it_was_quoted(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any]
) -> None:
    with at_together(tmp_path, "job:broken*1") as sandbox:
        yard = run_here.with_provider("acme", account(sandbox))
        job = yard(KIND, **order)
    assert (job.state, job.cause) == (State.FAILED, Cause.PROVIDER)
    kept = bill(yard, job.id)
    assert (kept.billed_at is not None, kept.billed_usd, kept.is_estimate) == (True, None, True)


def test_a_start_that_is_adopted_is_committed_to_once(tmp_path: Path, run_here: RunHere, order: dict[str, Any]) -> None:
    with at_together(tmp_path, "create:drop-after*1") as sandbox:
        yard = run_here.with_provider("acme", account(sandbox))
        job_id = yard.submit(KIND, **order)
        eventually(lambda: yard.runner.run(job_id=job_id) and sandbox.ledger()["jobs_created"], what="the create")
        capped = run_here.with_provider("acme", account(sandbox, cap_usd=price(yard, job_id) / 2))
        job = capped.finish(job_id)  # it is there already: no cap brings it back
        assert sandbox.ledger()["jobs_created"] == 1
    assert job.state == State.SUCCEEDED, job.failure
    [kept] = yard.store.bills.of(job_id)
    assert kept.committed_at is not None


def test_who_waits_under_a_cap_starts_by_itself_when_there_is_room(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any]
) -> None:
    with at_together(tmp_path, pace=ENDLESS) as sandbox:
        yard = run_here.with_provider("acme", account(sandbox))
        probe = yard.submit(KIND, **order)
        reaches(yard, probe, Reason.REMOTE)
        eventually(lambda: yard.runner.run(job_id=probe) and bill(yard, probe).quoted_high_usd, what="a price")
        cap = price(yard, probe) * 1.5
        capped = run_here.with_provider("acme", account(sandbox, cap_usd=cap))
        second = capped.submit(KIND, reuse=False, **order)
        reaches(capped, second, Reason.APPROVAL)
        assert not capped.runner.run(job_id=second)  # it is left alone meanwhile
        capped.store.cancel(probe, actor="test")
        capped.finish(probe)
        reaches(capped, second, Reason.REMOTE)
    assert bill(capped, second).committed_at is not None


def test_after_a_cancel_that_found_nothing_started_the_caps_are_asked_again(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any]
) -> None:
    with serve(tmp_path / "state", rules=Rules(pace=ENDLESS, models=(LLAMA,))) as sandbox:
        yard = run_here.with_provider("acme", account(sandbox, max_jobs=0))
        job_id = yard.submit(KIND, **order)
        reaches(yard, job_id, Reason.SLOT)
        quoted = price(yard, job_id)
        yard.store.cancel(job_id, actor="test")
        assert yard.finish(job_id).state == State.CANCELLED
        assert bill(yard, job_id).committed_at is None
        capped = run_here.with_provider("acme", account(sandbox, cap_usd=quoted / 2))
        capped.store.retry(job_id, actor="test")
        reaches(capped, job_id, Reason.APPROVAL)
        assert sandbox.ledger()["jobs_created"] == 0


def test_the_hours_of_a_machine_are_billed_whatever_the_end(tmp_path: Path) -> None:
    with (
        serve(tmp_path / "state", "job:broken", rules=Rules(pace=FAST)) as sandbox,
        closing(open_provider("acme", sandbox.account("hf_jobs"))) as provider,
    ):
        file = provider.upload(examples_file(tmp_path / "train.jsonl"))
        remote = provider.start(Order(model_of(provider), file), "ty-aaaaaaaaaa")
        ended = eventually(lambda: final(provider, remote), what="the end")
    assert ended.state == RemoteState.FAILED
    assert ended.is_billed is True
    assert ended.usd is not None


def model_of(provider: Provider) -> str:
    return next(offer.model for offer in provider.offers() if not offer.tuned)


def final(provider: Provider, remote: str) -> RemoteJob | None:
    seen = provider.state(remote)
    return seen if seen.state.is_final else None


def test_only_the_sandbox_itself_is_free_whatever_an_account_is_called() -> None:
    elsewhere = {"base_url": "https://api.example.com/v1", "api_key": "k"}
    settings = Settings(providers={"sandbox": elsewhere, "sandbox2": elsewhere})
    assert not is_free(settings, "sandbox")
    assert not is_free(settings, "sandbox2")
    assert is_free(settings, "sandbox-together")
