"""`finetune.hosted`, through the real store and runner, at the sandbox."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from api_worker.sandbox.remote_job import Pace
from api_worker.sandbox.rules import Rules
from queue_app.lifecycle import Cause, Reason, State
from tests.api_worker.odd_server import odd_server
from tests.conftest import eventually
from tests.sandbox.server import ENDLESS, SECRET, examples_file, preferences_file, serve

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from tests.conftest import RunHere
    from tests.sandbox.server import Served

KIND = "finetune.hosted"
WITHOUT_END = Rules(pace=ENDLESS)


@pytest.fixture
def order(tmp_path: Path) -> dict[str, Any]:
    dataset = examples_file(tmp_path / "data" / "examples.jsonl").parent
    return {"dataset": str(dataset), "provider": "acme", "base_model": "sandbox-base", "epochs": 2}


def test_a_job_succeeds_without_holding_a_worker(tmp_path: Path, run_here: RunHere, order: dict[str, Any]) -> None:
    holdout = examples_file(tmp_path / "holdout.jsonl", count=3)
    unhurried = Rules(pace=Pace(validate_seconds=0.3, queue_seconds=0.3, run_seconds=0.3))
    with serve(tmp_path / "state", rules=unhurried) as sandbox:
        yard = run_here.with_provider("acme", sandbox.account())
        job = yard(KIND, **order, holdout=str(holdout), suffix="tone")
        ledger = sandbox.ledger()
    assert job.state == State.SUCCEEDED, job.failure
    assert job.result is not None
    assert job.result["model"].startswith("ft:sandbox-base:sandbox:tone:")
    assert (job.result["examples"], job.result["holdout_examples"], job.result["steps"]) == (12, 3, 4)
    assert (job.result["trained_tokens"], job.result["train_loss"]) == (0, None)
    assert "nothing is trained" in job.result["warnings"][0]
    assert job.attempt > 1  # it was left and looked at again
    assert job.failures == 0
    assert (ledger["jobs_created"], ledger["uploads_received"]) == (1, 2)
    report = yard.artifact(job.result["report"])
    told = json.loads((report / "training_report.json").read_text())
    assert [row["step"] for row in told["series"]] == [1, 2, 3, 4]
    assert told["order"]["suffix"] == "tone"
    assert (report / "result-1").read_bytes().startswith(b"step,train_loss")


def test_instruct_examples_are_sent_as_chat(tmp_path: Path, run_here: RunHere, order: dict[str, Any]) -> None:
    rows = [{"instruction": f"Add 1 to {n}.", "input": "", "output": str(n + 1)} for n in range(12)]
    file = tmp_path / "instruct.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with serve(tmp_path / "state") as sandbox:
        job = run_here.with_provider("acme", sandbox.account())(KIND, **{**order, "dataset": str(file)})
        with sandbox.client() as client:
            [file_object] = client.files.list()
            content = client.files.content(file_object.id).content
    assert job.state == State.SUCCEEDED, job.failure
    assert file_object.filename == f"{hashlib.sha256(content).hexdigest()[:32]}.jsonl"
    assert json.loads(content.splitlines()[0])["messages"][0] == {"role": "user", "content": "Add 1 to 0."}


@pytest.mark.parametrize("fault", ["create:500-after*1", "create:drop-after*1", "create:429-after*1"])
def test_a_job_whose_create_was_not_answered_is_adopted(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any], fault: str
) -> None:
    with serve(tmp_path / "state", fault, "list:lag=0.5") as sandbox:
        job = run_here.with_provider("acme", sandbox.account(listing_lag_seconds=1.5))(KIND, **order)
        ledger = sandbox.ledger()
    assert job.state == State.SUCCEEDED, job.failure
    assert job.result is not None
    [seen] = ledger["keys"].values()
    assert seen == {"creates_received": 1, "cancels_received": 0, "jobs": [job.result["remote_job"]]}


def test_a_create_that_was_refused_is_tried_again(tmp_path: Path, run_here: RunHere, order: dict[str, Any]) -> None:
    with serve(tmp_path / "state", "create:500*1", "create:429=0.1*1", "upload:drop*0") as sandbox:
        job = run_here.with_provider("acme", sandbox.account())(KIND, **order)
        [seen] = sandbox.ledger()["keys"].values()
    assert job.state == State.SUCCEEDED, job.failure
    assert (seen["creates_received"], len(seen["jobs"])) == (3, 1)


def test_a_cancel_reaches_the_provider_once(tmp_path: Path, run_here: RunHere, order: dict[str, Any]) -> None:
    with serve(tmp_path / "state", "cancel:500-after*1", rules=WITHOUT_END) as sandbox:
        yard = run_here.with_provider("acme", sandbox.account())
        job_id = yard.submit(KIND, **order)
        yard.runner.run(job_id=job_id)
        assert yard.store.read.job(job_id).state == State.WAITING
        yard.store.cancel(job_id, actor="test")
        job = yard.finish(job_id)
        [seen] = sandbox.ledger()["keys"].values()
        with sandbox.client() as client:
            remote = client.fine_tuning.jobs.retrieve(seen["jobs"][0])
    assert job.state == State.CANCELLED
    assert (remote.status, seen["cancels_received"], seen["creates_received"]) == ("cancelled", 1, 1)


def test_a_job_that_was_cancelled_and_is_retried_starts_another(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any]
) -> None:
    with serve(tmp_path / "state", rules=WITHOUT_END) as sandbox:
        yard = run_here.with_provider("acme", sandbox.account())
        job_id = yard.submit(KIND, **order)
        yard.runner.run(job_id=job_id)
        yard.store.cancel(job_id, actor="test")
        assert yard.finish(job_id).state == State.CANCELLED
        yard.store.retry(job_id, actor="test")
        yard.runner.run(job_id=job_id)
        assert yard.store.read.job(job_id).state == State.WAITING
        keys = sandbox.ledger()["keys"]
    assert [len(seen["jobs"]) for seen in keys.values()] == [1, 1]  # each under a key of its own


def test_what_was_finished_before_the_cancel_came_is_collected_by_a_retry(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any]
) -> None:
    with serve(tmp_path / "state") as sandbox, sandbox.client() as client:
        yard = run_here.with_provider("acme", sandbox.account())
        job_id = yard.submit(KIND, **order)
        yard.runner.run(job_id=job_id)
        eventually(lambda: next(iter(client.fine_tuning.jobs.list())).status == "succeeded")
        yard.store.cancel(job_id, actor="test")
        assert yard.finish(job_id).state == State.CANCELLED
        told = yard.store.read.history(job_id)[-1].detail
        yard.store.retry(job_id, actor="test")
        job = yard.finish(job_id)
        [seen] = sandbox.ledger()["keys"].values()
    assert (job.state, (job.result or {})["remote_job"]) == (State.SUCCEEDED, seen["jobs"][0])
    assert told == {"remote_job": seen["jobs"][0], "remote": "succeeded"}
    assert (seen["creates_received"], seen["cancels_received"]) == (1, 0)


def test_a_cancel_finds_the_job_whose_create_was_not_answered(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any]
) -> None:
    with serve(tmp_path / "state", "create:drop-after", rules=WITHOUT_END) as sandbox:
        yard = run_here.with_provider("acme", sandbox.account())
        job_id = yard.submit(KIND, **order)
        yard.runner.run(job_id=job_id)
        yard.store.cancel(job_id, actor="test")
        job = yard.finish(job_id)
        [seen] = sandbox.ledger()["keys"].values()
    assert job.state == State.CANCELLED
    assert (seen["cancels_received"], seen["creates_received"], len(seen["jobs"])) == (1, 1, 1)


def test_a_cancel_before_anything_was_started_starts_nothing(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any]
) -> None:
    with serve(tmp_path / "state", "upload:500") as sandbox:
        yard = run_here.with_provider("acme", sandbox.account(listing_lag_seconds=3600.0))
        job_id = yard.submit(KIND, **order)
        yard.runner.run(job_id=job_id)
        yard.store.cancel(job_id, actor="test")
        job = yard.finish(job_id)
        assert sandbox.ledger()["jobs_created"] == 0
    assert job.state == State.CANCELLED


def test_a_job_cancelled_at_the_provider_says_so_and_a_retry_starts_another(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any]
) -> None:
    with serve(tmp_path / "state", rules=WITHOUT_END) as sandbox, sandbox.client() as client:
        yard = run_here.with_provider("acme", sandbox.account())
        job_id = yard.submit(KIND, **order)
        yard.runner.run(job_id=job_id)
        client.fine_tuning.jobs.cancel(next(iter(client.fine_tuning.jobs.list())).id)
        job = yard.finish(job_id)
        assert (job.state, job.cause) == (State.FAILED, Cause.PROVIDER)
        assert "was cancelled at the provider, by somebody else" in str(job.failure)
        yard.store.retry(job_id, actor="test")
        yard.runner.run(job_id=job_id)
        assert yard.store.read.job(job_id).state == State.WAITING
        assert sandbox.ledger()["jobs_created"] == 2


def test_a_dataset_that_the_provider_refuses_is_sent_anew_after_a_retry(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any]
) -> None:
    file = examples_file(tmp_path / "few.jsonl", count=12)
    with serve(tmp_path / "state", rules=Rules(min_examples=15)) as sandbox:
        yard = run_here.with_provider("acme", sandbox.account())
        job = yard(KIND, **{**order, "dataset": str(file)})
        assert (job.state, job.cause) == (State.FAILED, Cause.DATA)
        assert "The training file has 12 examples; it must have at least 15." in str(job.failure)
        examples_file(file, count=20)
        yard.store.retry(job.id, actor="test")
        again = yard.finish(job.id)
        assert sandbox.ledger()["uploads_received"] == 2
    assert again.state == State.SUCCEEDED, again.failure
    assert again.result is not None
    assert again.result["examples"] == 20


def test_progress_is_shown_while_the_job_runs(tmp_path: Path, run_here: RunHere, order: dict[str, Any]) -> None:
    with serve(tmp_path / "state", rules=Rules(pace=Pace(0.0, 0.0, 3.0))) as sandbox:
        yard = run_here.with_provider("acme", sandbox.account())
        job_id = yard.submit(KIND, **order)

        def shown() -> bool:
            yard.runner.run(job_id=job_id)
            progress = yard.store.read.job(job_id).progress or {}
            return progress.get("remote") == "running" and progress.get("steps") == 4

        eventually(shown, what="a step")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"provider": "acne"}, 'no provider account "acne"; did you mean "acme"?'),
        ({"base_model": "gpt-9"}, "Model gpt-9 is not available for fine-tuning"),
        ({"dataset": "/nowhere"}, "/nowhere"),
    ],
)
def test_what_cannot_be_ordered_fails_with_a_reason(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any], changed: dict[str, Any], words: str
) -> None:
    with serve(tmp_path / "state") as sandbox:
        job = run_here.with_provider("acme", sandbox.account())(KIND, **{**order, **changed})
        assert sandbox.ledger()["jobs_created"] == 0
    assert (job.state, job.cause) == (State.FAILED, Cause.USER)
    assert words in str(job.failure)


def test_a_provider_that_is_not_there_is_named(run_here: RunHere, order: dict[str, Any], tmp_path: Path) -> None:
    with serve(tmp_path / "state") as sandbox:
        account = sandbox.account()
    yard = run_here.with_provider("acme", account)
    yard.store.accounts.failed("acme", "before", pause_seconds=None)
    yard.store.accounts.failed("acme", "before", pause_seconds=None)
    job_id = yard.submit(KIND, **order)
    yard.runner.run(job_id=job_id)
    job = yard.store.read.job(job_id)
    assert (job.state, job.reason, job.failures) == (State.WAITING, Reason.BACKOFF, 0)
    assert f"acme: no answer from {str(account.base_url).removesuffix('/v1')}" in str(job.failure)
    paused = yard.store.accounts.get("acme")
    assert paused.failures == 3
    assert paused.paused_until is not None


def test_the_key_is_written_nowhere(tmp_path: Path, run_here: RunHere, order: dict[str, Any]) -> None:
    said = {"error": {"message": "Wrong key: {authorization}", "type": "x", "code": None, "param": None}}
    with odd_server(said, status=401) as server:
        job = run_here.with_provider("acme", server.account)(KIND, **order)
    assert (job.state, job.cause) == (State.FAILED, Cause.PROVIDER)
    assert "Wrong key: Bearer ***" in str(job.failure)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 2
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]


# -- what goes on at the provider is never lost sight of --------------------------------------------------------------


def started(yard: RunHere, order: dict[str, Any]) -> str:
    """A job whose remote one runs."""
    job_id = yard.submit(KIND, **order)

    def runs() -> bool:
        yard.runner.run(job_id=job_id)
        return yard.store.memos.get(job_id, "start") is not None and yard.store.read.job(job_id).has_slot

    eventually(runs, what="the start")
    return job_id


@pytest.mark.parametrize("fault", ["retrieve:404*1", "retrieve:401*1", "retrieve:400*1"])
def test_a_refused_look_does_not_end_a_job_whose_remote_one_runs(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any], fault: str
) -> None:
    with serve(tmp_path / "state", fault, rules=WITHOUT_END) as sandbox:
        yard = run_here.with_provider("acme", sandbox.account())
        job = yard.store.read.job(started(yard, order))
    assert (job.state, job.has_slot) == (State.WAITING, True)


def test_a_key_that_is_gone_does_not_end_a_job_whose_remote_one_runs(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any]
) -> None:
    with serve(tmp_path / "state", rules=WITHOUT_END) as sandbox:
        account = sandbox.account()
        job_id = started(run_here.with_provider("acme", account), order)
        keyless = run_here.with_provider("acme", account.model_copy(update={"api_key": None}))

        def looked() -> bool:
            keyless.runner.run(job_id=job_id)
            return "no API key" in str(keyless.store.read.job(job_id).failure)

        eventually(looked, what="a look without a key")
        job = keyless.store.read.job(job_id)
    assert (job.state, job.has_slot) == (State.WAITING, True)


def test_a_cancel_that_is_refused_is_tried_again_and_the_slot_is_kept(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any]
) -> None:
    with serve(tmp_path / "state", "cancel:401*1", rules=WITHOUT_END) as sandbox:
        yard = run_here.with_provider("acme", sandbox.account())
        job_id = started(yard, order)
        yard.store.cancel(job_id, actor="test")
        yard.runner.run(job_id=job_id)
        refused = yard.store.read.job(job_id)
        job = yard.finish(job_id)
        [seen] = sandbox.ledger()["keys"].values()
    assert (refused.state, refused.has_slot) == (State.WAITING, True)
    assert (job.state, job.has_slot, seen["cancels_received"]) == (State.CANCELLED, False, 2)


def test_a_model_is_not_lost_for_want_of_a_result_file(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any]
) -> None:
    with serve(tmp_path / "state", "content:404") as sandbox:
        job = run_here.with_provider("acme", sandbox.account())(KIND, **order)
    assert job.state == State.SUCCEEDED, job.failure
    assert job.result is not None
    assert any("could not be had" in warning for warning in job.result["warnings"])


@pytest.mark.parametrize("api", ["openai", "together", "fireworks"])
def test_preferences_reach_a_provider_as_preferences(tmp_path: Path, run_here: RunHere, api: str) -> None:
    def side(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    rows = [
        {
            "input": {"messages": [{"role": "user", "content": f"Say {number}."}]},
            "preferred_output": side(f"It is {number}."),
            "non_preferred_output": side("No."),
        }
        for number in range(12)
    ]
    file = tmp_path / "preferences.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with serve(tmp_path / "state") as sandbox:
        yard = run_here.with_provider("acme", sandbox.account(api))
        job = yard(KIND, dataset=str(file), provider="acme", base_model="sandbox-base", method="dpo", epochs=1)
    assert job.state == State.SUCCEEDED, job.failure
    assert job.result is not None
    assert job.result["dropped"] == {}


def test_a_job_that_ends_for_want_of_money_pauses_the_account_and_waits(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any]
) -> None:
    with serve(tmp_path / "state", "job:quota*1") as sandbox:
        yard = run_here.with_provider("acme", sandbox.account())
        job_id = yard.submit(KIND, **order)

        def waits() -> bool:
            yard.runner.run(job_id=job_id)
            return yard.store.read.job(job_id).reason == Reason.BUDGET

        eventually(waits, what="the wait for money")
        waiting, account = yard.store.read.job(job_id), yard.store.accounts.get("acme")
        assert (waiting.due_at, waiting.has_slot) == (None, False)  # another one would cost as much, and end so too
        assert (account.is_paused, account.paused_until) == (True, None)
        assert "`tuneyard providers resume acme` starts another one" in str(waiting.failure)
        yard.store.accounts.resume("acme")
        job = yard.finish(job_id)
    assert job.state == State.SUCCEEDED, job.failure


@pytest.mark.parametrize("a_day", [1, 3])
def test_every_create_of_a_day_counts_and_a_job_does_not_stand_in_its_own_way(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any], a_day: int
) -> None:
    with serve(tmp_path / "state", f"job:broken*{a_day - 1}") as sandbox:
        yard = run_here.with_provider("acme", sandbox.account().model_copy(update={"max_jobs_a_day": a_day}))
        job_id = yard.submit(KIND, **order)
        for _ in range(a_day - 1):
            assert yard.finish(job_id).state == State.FAILED
            yard.store.retry(job_id, actor="test")
        assert yard.finish(job_id, seconds=20).state == State.SUCCEEDED
        late = yard.submit(KIND, **{**order, "epochs": 1})
        eventually(
            lambda: (
                yard.runner.run(job_id=late) and f"takes {a_day} jobs a day" in str(yard.store.read.job(late).failure)
            ),
            what="the wait for another day",
        )
        assert sandbox.ledger()["jobs_created"] == a_day


def test_what_another_server_made_is_not_reused(tmp_path: Path, run_here: RunHere, order: dict[str, Any]) -> None:
    with serve(tmp_path / "rehearsal") as sandbox:
        assert run_here.with_provider("acme", sandbox.account())(KIND, **order).state == State.SUCCEEDED
    with serve(tmp_path / "real") as sandbox:
        job = run_here.with_provider("acme", sandbox.account())(KIND, **order)
        assert sandbox.ledger()["jobs_created"] == 1
    assert (job.state, job.reused_from) == (State.SUCCEEDED, None)


def test_a_cancel_without_a_key_is_tried_again(tmp_path: Path, run_here: RunHere, order: dict[str, Any]) -> None:
    with serve(tmp_path / "state", rules=WITHOUT_END) as sandbox:
        account = sandbox.account()
        yard = run_here.with_provider("acme", account)
        job_id = started(yard, order)
        yard.store.cancel(job_id, actor="test")
        keyless = run_here.with_provider("acme", account.model_copy(update={"api_key": None}))
        keyless.runner.run(job_id=job_id)
        refused = keyless.store.read.job(job_id)
        assert yard.finish(job_id).state == State.CANCELLED
    assert (refused.state, refused.has_slot) == (State.WAITING, True)


def test_a_cancel_of_what_the_provider_does_not_know_ends(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any]
) -> None:
    with serve(tmp_path / "state", rules=WITHOUT_END) as sandbox:
        yard = run_here.with_provider("acme", sandbox.account())
        job_id = started(yard, order)
    with serve(tmp_path / "another", rules=WITHOUT_END) as sandbox:
        elsewhere = run_here.with_provider("acme", sandbox.account())
        elsewhere.store.cancel(job_id, actor="test")
        job = elsewhere.finish(job_id)
    assert (job.state, job.has_slot) == (State.FAILED, False)
    assert "HTTP 404" in str(job.failure)


def test_a_file_that_the_provider_could_not_process_says_what_to_check(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any]
) -> None:
    with serve(tmp_path / "state", "file:broken*1") as sandbox:
        job = run_here.with_provider("acme", sandbox.account())(KIND, **order)
    assert (job.state, job.cause) == (State.FAILED, Cause.PROVIDER)
    assert "`tuneyard data check FILE --target openai` shows" in str(job.failure)


def test_a_model_that_an_own_server_does_not_have_is_refused_with_the_nearest(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any]
) -> None:
    with serve(tmp_path / "state") as sandbox:
        job = run_here.with_provider("acme", sandbox.account())(KIND, **order | {"base_model": "sandbox-bas"})
    assert (job.state, job.cause) == (State.FAILED, Cause.USER)
    assert str(job.failure).endswith("; nearest: sandbox-base")


@pytest.mark.parametrize("fault", ["file:refused=7*1"])
def test_what_a_provider_says_of_a_file_names_the_data_that_it_was_made_of(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any], fault: str
) -> None:
    rows = examples_file(tmp_path / "rows" / "examples.jsonl").parent
    published = run_here.runner.artifacts.publish(rows, kind="dataset", name=None, job_id=None, parents=[])
    with serve(tmp_path / "state", fault) as sandbox:
        job = run_here.with_provider("acme", sandbox.account())(KIND, **{**order, "dataset": published.id})
    assert (job.state, job.cause) == (State.FAILED, Cause.DATA)
    assert f"what was sent is the dataset {published.id[7:19]}, row by row" in (job.failure or "")


def test_what_we_refuse_to_send_names_the_data_its_line_and_its_repair(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any]
) -> None:
    asked = {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": ""}]}
    rows = examples_file(tmp_path / "rows" / "examples.jsonl", last_line=json.dumps(asked)).parent
    published = run_here.runner.artifacts.publish(rows, kind="dataset", name=None, job_id=None, parents=[])
    name = published.id[7:19]
    with serve(tmp_path / "state") as sandbox:
        job = run_here.with_provider("acme", sandbox.account())(KIND, **{**order, "dataset": published.id})
        assert sandbox.ledger()["uploads_received"] == 0
    assert (job.state, job.cause) == (State.FAILED, Cause.DATA)
    first, line, *_, last = (job.failure or "").splitlines()
    assert first == f"openai would refuse the dataset {name}:"
    assert line.startswith(f"{name} line 13: ")
    assert last.startswith(f"`tuneyard data check {name} --target openai --fix`")


# -- files that are gone, methods that are not there, slots that are left ----------------------------------------------


def delete_files(sandbox: Served) -> str:
    """Somebody deletes the only file at the provider; its id."""
    with sandbox.client() as client:
        [file] = client.files.list()
        client.files.delete(file.id)
    return file.id


def make_due(yard: RunHere) -> None:
    with yard.store.database.writing() as connection:
        connection.exec_driver_sql("UPDATE job SET due_at = submitted_at WHERE due_at IS NOT NULL")


def test_a_file_that_was_deleted_there_is_sent_again_before_anything_is_created(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any]
) -> None:
    with serve(tmp_path / "state") as sandbox:
        yard = run_here.with_provider("acme", sandbox.account())
        assert yard(KIND, **order).state == State.SUCCEEDED
        file = delete_files(sandbox)
        job = yard(KIND, **{**order, "suffix": "again"})
        ledger = sandbox.ledger()
    assert job.state == State.SUCCEEDED, job.failure
    assert (ledger["uploads_received"], ledger["jobs_created"]) == (2, 2)
    said = [event.detail.get("why", "") for event in run_here.store.read.history(job.id)]
    assert [why for why in said if "sent again" in why] == [
        f"acme: there is no file {file} any more; the dataset is sent again"
    ]


def test_a_file_that_is_deleted_again_and_again_is_sent_once_more_only(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any]
) -> None:
    with serve(tmp_path / "state", "files:404") as sandbox:
        job = run_here.with_provider("acme", sandbox.account())(KIND, **order)
        ledger = sandbox.ledger()
    assert (job.state, ledger["uploads_received"], ledger["jobs_created"]) == (State.FAILED, 2, 0)
    assert "a retry sends the file again" in str(job.failure)


def test_a_file_that_is_missed_by_the_create_is_sent_again(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any]
) -> None:
    with serve(tmp_path / "state", "create:500*1") as sandbox:
        yard = run_here.with_provider("acme", sandbox.account())
        job_id = yard.submit(KIND, **order)
        yard.runner.run(job_id=job_id)  # nobody knows whether it was created, so the file is not looked at first
        delete_files(sandbox)
        job = yard.finish(job_id)
        ledger = sandbox.ledger()
    assert job.state == State.SUCCEEDED, job.failure
    assert (ledger["uploads_received"], ledger["jobs_created"]) == (2, 1)


def test_the_files_of_another_server_are_not_asked_for(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any]
) -> None:
    with serve(tmp_path / "one", "create:503") as sandbox:
        before = run_here.with_provider("acme", sandbox.account())
        job_id = before.submit(KIND, **order)
        before.runner.run(job_id=job_id)
        assert before.store.memos.get(job_id, "upload") is not None
    with serve(tmp_path / "two") as sandbox:
        after = run_here.with_provider("acme", sandbox.account())
        make_due(after)
        job = after.finish(job_id)
        ledger = sandbox.ledger()
    assert job.state == State.SUCCEEDED, job.failure
    assert (ledger["uploads_received"], ledger["jobs_created"]) == (1, 1)


@pytest.mark.parametrize("api", ["nebius", "mistral", "hf_jobs"])
def test_a_method_that_a_provider_does_not_have_is_refused_before_anything_is_sent(
    tmp_path: Path, run_here: RunHere, api: str
) -> None:
    rows = preferences_file(tmp_path / "pairs.jsonl")
    asked = {"dataset": str(rows), "provider": "acme", "base_model": "sandbox-base", "method": "dpo"}
    with serve(tmp_path / "state") as sandbox:
        job = run_here.with_provider("acme", sandbox.account(api))(KIND, **asked)
        told = sandbox.ledger()["vendors"][api]
    assert (job.state, told["uploads_received"]) == (State.FAILED, 0)
    assert "acme does not train by dpo; it trains by sft; " in str(job.failure)
    assert "together" in str(job.failure).rpartition(";")[2]


def test_a_slot_is_free_for_the_next_while_the_result_is_still_collected(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any]
) -> None:
    with serve(tmp_path / "state", "content:503") as sandbox:  # the result's files do not come
        yard = run_here.with_provider("acme", sandbox.account().model_copy(update={"max_jobs": 1}))
        first, second = (yard.submit(KIND, **order, suffix=name) for name in ("first", "second"))
        yard.runner.run(job_id=first)
        yard.runner.run(job_id=second)
        assert yard.store.read.job(second).reason == Reason.SLOT

        def given() -> bool:
            yard.runner.run(job_id=first)
            return yard.store.read.job(second).has_slot

        eventually(given, what="the slot")
        assert yard.store.read.job(first).state == State.WAITING
        assert not yard.store.read.job(first).has_slot
        yard.runner.run(job_id=second)
        make_due(yard)
        yard.runner.run(job_id=first)  # it looks again, and asks for no slot
        assert yard.store.slots.held_at("acme") <= 1
        assert sandbox.ledger()["most_held_at_once"] == 1


def test_a_start_in_doubt_without_a_slot_waits_for_one(
    tmp_path: Path, run_here: RunHere, order: dict[str, Any]
) -> None:
    with serve(tmp_path / "state", "create:500*1", rules=WITHOUT_END) as sandbox:
        yard = run_here.with_provider("acme", sandbox.account().model_copy(update={"max_jobs": 1}))
        first, second = (yard.submit(KIND, **order, suffix=name) for name in ("first", "second"))
        yard.runner.run(job_id=first)  # nobody knows whether it was created
        with yard.store.database.writing() as connection:
            connection.exec_driver_sql("UPDATE job SET has_slot = 0")
        yard.runner.run(job_id=second)
        make_due(yard)
        yard.runner.run(job_id=first)
        waiting = yard.store.read.job(first)
        assert (waiting.state, waiting.reason) == (State.WAITING, Reason.SLOT)
        assert sandbox.ledger()["most_held_at_once"] == 1


def test_a_limit_that_only_the_provider_tells_holds(tmp_path: Path, run_here: RunHere, order: dict[str, Any]) -> None:
    with serve(tmp_path / "state", rules=WITHOUT_END) as sandbox:
        yard = run_here.with_provider("acme", sandbox.account())
        yard.store.slots.tell("acme/sandbox-base", at_once=1, a_day=None)
        first, second = (yard.submit(KIND, **order, suffix=name) for name in ("first", "second"))
        yard.runner.run(job_id=first)
        yard.runner.run(job_id=second)
        assert yard.store.read.job(second).reason == Reason.SLOT
        pool = yard.store.slots.get("acme/sandbox-base")
    assert (pool.size, pool.source) == (1, "acme itself")
