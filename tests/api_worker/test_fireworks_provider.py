"""The Fireworks provider over a real socket, against the sandbox and against servers that misbehave."""

from __future__ import annotations

import json
import logging
import traceback
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest
from pydantic import SecretStr

from api_worker import fireworks_answers as answers
from api_worker.provider import Method, Order, RemoteState, Tuned
from api_worker.providers.fireworks import Account
from api_worker.sandbox.remote_job import Pace
from api_worker.sandbox.rules import Rules
from queue_app.errors import (
    AccountPaused,
    Invalid,
    NotFound,
    Permanent,
    SlotRefused,
    Transient,
    TuneyardError,
    Unauthorized,
)
from queue_app.lifecycle import Cause
from settings import ProviderSettings
from tests.api_worker.odd_server import odd_server
from tests.conftest import eventually
from tests.sandbox.server import ENDLESS, ORGANIZATION, SECRET, examples_file, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from api_worker.provider import RemoteJob
    from tests.api_worker.odd_server import OddServer
    from tests.sandbox.server import Served

JOB = "accounts/sandbox/supervisedFineTuningJobs/ty-1"
DPO_JOB = "accounts/sandbox/dpoJobs/ty-1"


@contextmanager
def opened(account: ProviderSettings, **options: int) -> Iterator[Account]:
    with closing(Account("acme", account, **options)) as provider:
        yield provider


@contextmanager
def yard(tmp_path: Path, *faults: str, rules: Rules | None = None) -> Iterator[tuple[Account, Served, Order]]:
    """A provider on a sandbox, and an order whose file is there already."""
    with serve(tmp_path / "state", *faults, rules=rules) as sandbox, opened(sandbox.account("fireworks")) as provider:
        file = provider.upload(examples_file(tmp_path / "train.jsonl"))
        yield provider, sandbox, Order("sandbox-base", file, epochs=2, suffix="Warm tone")


@contextmanager
def at(server: OddServer) -> Iterator[Account]:
    """A provider at a server that gives one answer to everything."""
    url = f"http://127.0.0.1:{server.port}"
    with opened(ProviderSettings(base_url=url, api_key=SecretStr(SECRET), organization=ORGANIZATION)) as provider:
        yield provider


def part(sandbox: Served) -> dict[str, Any]:
    found: dict[str, Any] = sandbox.ledger()["vendors"]["fireworks"]
    return found


def shown(sandbox: Served, remote_id: str) -> dict[str, Any]:
    """A job as the sandbox itself shows it."""
    url = f"{sandbox.base_url('fireworks')}/v1/{remote_id}"
    found: dict[str, Any] = httpx.get(url, headers={"Authorization": f"Bearer {SECRET}"}, trust_env=False).json()
    return found


def preferences(path: Path) -> Path:
    rows = [
        {
            "input": {"messages": [{"role": "user", "content": f"What is {n}?"}]},
            "preferred_output": [{"role": "assistant", "content": f"It is {n}."}],
            "non_preferred_output": [{"role": "assistant", "content": "Who knows."}],
        }
        for n in range(4)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def ended(provider: Account, remote_id: str) -> RemoteJob:
    eventually(lambda: provider.state(remote_id).state.is_final, what="an end")
    return provider.state(remote_id)


# -- a job's way ----------------------------------------------------------------------------------------------------


def test_a_job_goes_its_way_and_its_result_is_collected(tmp_path: Path) -> None:
    with yard(tmp_path) as (provider, _, order):
        remote_id = provider.start(order, "ty-1")
        assert remote_id == JOB
        seen = ended(provider, remote_id)
        assert (seen.state, seen.key, seen.base_model) == (
            RemoteState.SUCCEEDED,
            "ty-1",
            "accounts/fireworks/models/sandbox-base",
        )
        made = provider.result(remote_id)
        assert made.model == "accounts/sandbox/models/ty-1-warm-tone"
        assert [row["step"] for row in made.series] == [1, 2, 3, 4]
        assert (made.trained_tokens, made.usd) == (None, 0.0)
        assert any("nothing is trained" in warning for warning in made.warnings)
        assert any("own estimate" in warning for warning in made.warnings)
        assert made.files["metrics.jsonl"].count(b"\n") == 4


def test_a_job_by_dpo_is_found_in_its_own_collection(tmp_path: Path) -> None:
    with yard(tmp_path) as (provider, sandbox, order):
        file = provider.upload(preferences(tmp_path / "pairs.jsonl"))
        remote_id = provider.start(replace(order, training_file=file, method=Method.DPO), "ty-1")
        assert provider.find("ty-1") == remote_id == DPO_JOB
        assert shown(sandbox, remote_id)["lossConfig"] == {"method": "DPO"}
        seen = ended(provider, remote_id)
        assert (seen.state, seen.base_model) == (RemoteState.SUCCEEDED, "accounts/fireworks/models/sandbox-base")
        assert provider.result(remote_id).model == "accounts/sandbox/models/ty-1-warm-tone"
        assert [job.id for job in provider.listed()] == [DPO_JOB]


def test_a_running_job_tells_the_step_of_its_newest_metrics(tmp_path: Path) -> None:
    pace = Pace(validate_seconds=0.0, queue_seconds=0.0, run_seconds=5.0)
    with yard(tmp_path, rules=Rules(pace=pace)) as (provider, _, order):
        remote_id = provider.start(replace(order, epochs=100), "ty-1")
        eventually(lambda: (provider.state(remote_id).step or 0) > 2, what="steps")
        assert provider.state(remote_id).state == RemoteState.RUNNING


def test_what_is_wished_is_in_the_order(tmp_path: Path) -> None:
    wishes: dict[str, Any] = {"epochs": 4, "learning_rate": 1e-4, "batch_size": 8, "lora_r": 16, "suffix": None}
    with yard(tmp_path, rules=Rules(pace=ENDLESS)) as (provider, sandbox, order):
        first = provider.start(replace(order, **wishes, validation_file=order.training_file), "ty-1")
        full = provider.start(replace(order, tuned=Tuned.FULL), "ty-2")
        asked = shown(sandbox, first)
        names = ("epochs", "learningRate", "batchSizeSamples", "loraRank", "outputModel", "evaluationDataset")
        assert {name: asked[name] for name in names} == {
            "epochs": 4,
            "learningRate": 1e-4,
            "batchSizeSamples": 8,
            "loraRank": 16,
            "outputModel": "accounts/sandbox/models/ty-1",
            "evaluationDataset": order.training_file,
        }
        assert shown(sandbox, full)["loraRank"] == 0
        assert set(order.wishes) | set(wishes) | {"validation_file", "tuned"} == provider.takes


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"tuned": Tuned.FULL, "lora_r": 8}, "lora_r is of a LoRA's"),
        ({"method": Method.DPO, "validation_file": "v"}, "takes no validation file"),
        ({"suffix": "x" * 59}, "is too long; 58 characters are the most"),
    ],
)
def test_what_contradicts_itself_is_refused_before_anything_is_sent(wishes: dict[str, Any], words: str) -> None:
    with odd_server({}) as server, at(server) as provider:
        with pytest.raises(Permanent, match=words) as caught:
            provider.start(Order("m", "f", **wishes), "ty-1")
        assert (caught.value.cause, server.asked) == (Cause.USER, [])


@pytest.mark.parametrize(("suffix", "model"), [("Für Ä", "ty-1-f-r"), ("--", "ty-1"), ("x" * 58, "ty-1-" + "x" * 58)])
def test_a_suffix_shows_in_the_models_name_as_far_as_ids_go(tmp_path: Path, suffix: str, model: str) -> None:
    with yard(tmp_path, rules=Rules(pace=ENDLESS)) as (provider, sandbox, order):
        remote_id = provider.start(replace(order, suffix=suffix), "ty-1")
        assert shown(sandbox, remote_id)["outputModel"] == f"accounts/sandbox/models/{model}"


# -- datasets -------------------------------------------------------------------------------------------------------


def test_the_same_content_is_not_sent_twice(tmp_path: Path) -> None:
    with yard(tmp_path) as (provider, sandbox, order):
        again = examples_file(tmp_path / "under-another-name.jsonl")
        assert provider.upload(again) == order.training_file
        assert part(sandbox)["uploads_received"] == 1


def test_a_large_file_goes_to_a_signed_url_without_the_key(tmp_path: Path) -> None:
    with serve(tmp_path / "state") as sandbox, opened(sandbox.account("fireworks"), direct_bytes=100) as provider:
        file = provider.upload(examples_file(tmp_path / "train.jsonl"))  # the store turns away who shows it a key
        assert provider.is_ready(file)
        assert part(sandbox)["uploads_received"] == 1


def test_a_dataset_whose_upload_was_lost_is_sent_at_the_next_try(tmp_path: Path) -> None:
    with serve(tmp_path / "state", "upload:drop*1") as sandbox, opened(sandbox.account("fireworks")) as provider:
        path = examples_file(tmp_path / "train.jsonl")
        with pytest.raises(Transient):
            provider.upload(path)
        assert provider.is_ready(provider.upload(path))


@pytest.mark.parametrize("direct_bytes", [10**9, 100])
def test_an_upload_that_meets_a_conflict_is_not_taken_for_done(tmp_path: Path, direct_bytes: int) -> None:
    with (
        serve(tmp_path / "state", "upload:409") as sandbox,
        opened(sandbox.account("fireworks"), direct_bytes=direct_bytes) as provider,
        pytest.raises(Transient),
    ):
        provider.upload(examples_file(tmp_path / "train.jsonl"))


def test_a_store_that_refuses_says_so_without_the_signed_url(tmp_path: Path) -> None:
    with (
        serve(tmp_path / "state", "upload:503") as sandbox,
        opened(sandbox.account("fireworks"), direct_bytes=100) as provider,
        pytest.raises(Transient) as caught,
    ):
        provider.upload(examples_file(tmp_path / "train.jsonl"))
    assert "the store at 127.0.0.1 refused a signed URL" in str(caught.value)
    assert "signature" not in "".join(traceback.format_exception(caught.value))


def test_a_file_that_is_refused_is_a_matter_of_the_data(tmp_path: Path) -> None:
    with serve(tmp_path / "state", "upload:400") as sandbox, opened(sandbox.account("fireworks")) as provider:
        with pytest.raises(Permanent, match="because it was told to") as caught:
            provider.upload(examples_file(tmp_path / "train.jsonl"))
        assert caught.value.cause == Cause.DATA
        assert part(sandbox)["uploads_received"] == 1


def test_a_dataset_in_which_an_example_is_bad_is_refused_with_its_number(tmp_path: Path) -> None:
    with yard(tmp_path) as (provider, _, _order):
        bad = provider.upload(examples_file(tmp_path / "bad.jsonl", last_line='{"messages": []}'))
        with pytest.raises(Permanent, match=r'Example 13 has no "messages"\. \(INVALID_ARGUMENT\)') as caught:
            provider.is_ready(bad)
        assert caught.value.cause == Cause.DATA


def test_a_dataset_that_could_not_be_processed_is_the_providers_matter(tmp_path: Path) -> None:
    with yard(tmp_path, "file:broken") as (provider, _, order), pytest.raises(Permanent, match="INTERNAL") as caught:
        provider.is_ready(order.training_file)
    assert caught.value.cause == Cause.PROVIDER


def test_a_dataset_is_waited_for(tmp_path: Path) -> None:
    with yard(tmp_path, "file:slow=0.3") as (provider, _, order):
        assert not provider.is_ready(order.training_file)
        with pytest.raises(Permanent, match="not READY"):
            provider.start(order, "ty-1")
        eventually(lambda: provider.is_ready(order.training_file), what="a dataset that is ready")


def test_a_dataset_that_is_gone_is_sent_again_by_a_retry(tmp_path: Path) -> None:
    with yard(tmp_path) as (provider, _, _order), pytest.raises(Permanent, match="a retry sends it again") as caught:
        provider.is_ready("accounts/sandbox/datasets/nothing")
    assert caught.value.cause == Cause.PROVIDER


# -- exactly once ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["create:drop-after", "create:500-after", "create:429-after"])
def test_a_job_whose_create_was_not_answered_is_found_by_its_key(tmp_path: Path, fault: str) -> None:
    with yard(tmp_path, fault) as (provider, sandbox, order):
        with pytest.raises(Transient):
            provider.start(order, "ty-1")
        assert part(sandbox)["keys"]["ty-1"]["creates_received"] == 1
        assert provider.find("ty-1") == JOB
        assert provider.find("ty-2") is None


@pytest.mark.parametrize("fault", ["create:500", "create:503", "create:drop", "create:429", "create:409"])
def test_a_create_that_fails_is_sent_once(tmp_path: Path, fault: str) -> None:
    with yard(tmp_path, fault) as (provider, sandbox, order):
        with pytest.raises(Transient):
            provider.start(order, "ty-1")
        assert part(sandbox)["keys"]["ty-1"] == {"creates_received": 1, "cancels_received": 0, "jobs": []}
        assert provider.find("ty-1") is None


def test_a_job_that_is_there_already_under_our_key_is_adopted(tmp_path: Path) -> None:
    with yard(tmp_path, "create:drop-after*1", rules=Rules(pace=ENDLESS)) as (provider, sandbox, order):
        with pytest.raises(Transient):
            provider.start(order, "ty-1")
        assert provider.start(order, "ty-1") == JOB
        assert part(sandbox)["jobs_created"] == 1


def test_a_look_that_fails_is_repeated(tmp_path: Path) -> None:
    with yard(tmp_path, "retrieve:500*2", "list:drop*1", rules=Rules(pace=ENDLESS)) as (provider, _, order):
        remote_id = provider.start(order, "ty-1")
        assert provider.state(remote_id).state == RemoteState.RUNNING
        assert [job.id for job in provider.listed()] == [remote_id]


def test_a_look_that_is_told_to_wait_long_is_left_to_the_job(tmp_path: Path) -> None:
    with yard(tmp_path, "retrieve:429=60", rules=Rules(pace=ENDLESS)) as (provider, sandbox, order):
        remote_id = provider.start(order, "ty-1")
        with pytest.raises(Transient) as caught:
            provider.state(remote_id)
        assert caught.value.retry_after == 60
        assert part(sandbox)["requests_received"]["retrieve"] == 1


def test_a_job_is_not_taken_for_missing_because_a_page_says_404() -> None:
    page = odd_server("<h1>Not here</h1>", status=404)
    with page as server, at(server) as provider, pytest.raises(Permanent, match="Not here"):
        provider.find("ty-1")


# -- cancel ---------------------------------------------------------------------------------------------------------


def test_a_cancel_is_sent_once_however_often_it_is_asked_for(tmp_path: Path) -> None:
    pace = replace(ENDLESS, cancel_seconds=3600.0)
    with yard(tmp_path, rules=Rules(pace=pace)) as (provider, sandbox, order):
        remote_id = provider.start(order, "ty-1")
        assert [provider.cancel(remote_id), provider.cancel(remote_id)] == [RemoteState.CANCELLING] * 2
        assert part(sandbox)["keys"]["ty-1"]["cancels_received"] == 1


def test_a_job_that_ended_keeps_its_end_when_it_is_cancelled(tmp_path: Path) -> None:
    with yard(tmp_path) as (provider, sandbox, order):
        remote_id = provider.start(order, "ty-1")
        ended(provider, remote_id)
        assert provider.cancel(remote_id) == RemoteState.SUCCEEDED
        assert part(sandbox)["keys"]["ty-1"]["cancels_received"] == 0


def test_a_cancel_whose_answer_was_lost_is_not_sent_again(tmp_path: Path) -> None:
    with yard(tmp_path, "cancel:500-after*1", rules=Rules(pace=ENDLESS)) as (provider, sandbox, order):
        remote_id = provider.start(order, "ty-1")
        with pytest.raises(Transient):
            provider.cancel(remote_id)
        assert provider.cancel(remote_id) == RemoteState.CANCELLED
        assert part(sandbox)["keys"]["ty-1"]["cancels_received"] == 1


def test_a_cancel_that_is_refused_while_the_job_runs_is_an_error(tmp_path: Path) -> None:
    with yard(tmp_path, "cancel:400", rules=Rules(pace=ENDLESS)) as (provider, _, order):
        remote_id = provider.start(order, "ty-1")
        with pytest.raises(Permanent, match="because it was told to"):
            provider.cancel(remote_id)


def test_a_job_of_another_account_is_not_asked_after() -> None:
    with odd_server({}) as server, at(server) as provider:
        with pytest.raises(NotFound, match="is no job of accounts/sandbox"):
            provider.state("accounts/other/supervisedFineTuningJobs/ty-1")
        assert server.asked == []


# -- states ---------------------------------------------------------------------------------------------------------


def seen_as(**fields: Any) -> RemoteJob:
    return answers.seen(msgspec.convert({"name": JOB, **fields}, answers.Job))


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (RemoteState.VALIDATING, "CREATING CREATING_INPUT_DATASET VALIDATING"),
        (RemoteState.QUEUED, "PENDING RE_QUEUEING"),
        (RemoteState.RUNNING, "RUNNING"),
        (RemoteState.FINISHING, "WRITING_RESULTS"),
        (RemoteState.PAUSED, "IDLE PAUSED"),
        (RemoteState.CANCELLING, "CANCELLING DELETING DELETING_CLEANING_UP"),
        (RemoteState.SUCCEEDED, "COMPLETED EARLY_STOPPED"),
        (RemoteState.FAILED, "FAILED EXPIRED"),
        (RemoteState.CANCELLED, "CANCELLED DELETED"),
        (RemoteState.UNKNOWN, "UNSPECIFIED RETICULATING"),
    ],
)
def test_every_word_of_fireworks_has_its_state(state: RemoteState, words: str) -> None:
    for word in words.split():
        seen = seen_as(state=f"JOB_STATE_{word}")
        assert (seen.state, seen.word) == (state, f"JOB_STATE_{word}")


def test_a_job_without_a_state_may_still_run() -> None:
    assert seen_as(createTime="2026-11-21T10:00:00.123456789Z").state == RemoteState.UNKNOWN


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        ({"code": "INVALID_ARGUMENT", "message": "row 3"}, Cause.DATA),
        ({"code": "INTERNAL", "message": "Internal error"}, Cause.PROVIDER),
        ({"code": "FAILED_PRECONDITION", "message": "no"}, Cause.USER),
        (None, Cause.PROVIDER),
    ],
)
def test_a_failed_job_tells_the_providers_words(status: dict[str, str] | None, cause: Cause) -> None:
    seen = seen_as(state="JOB_STATE_FAILED", status=status)
    assert (seen.cause, seen.wants_slot) == (cause, False)
    assert (status or {"message": "no reason was given"})["message"] in str(seen.failure)


def test_a_reason_that_is_told_goes_before_the_code() -> None:
    reason = {"@type": answers.ERROR_INFO, "reason": "DATASET_INVALID", "domain": "training.fireworks.ai"}
    seen = seen_as(state="JOB_STATE_FAILED", status={"code": "UNKNOWN", "message": "m", "details": [{}, reason]})
    assert (seen.cause, seen.failure) == (Cause.DATA, "m (DATASET_INVALID)")


@pytest.mark.parametrize(("percent", "wants_slot"), [(None, True), (0, True), (40, False)])
def test_a_job_for_which_there_was_no_machine_waits_if_nothing_was_trained(
    percent: int | None, *, wants_slot: bool
) -> None:
    status = {"code": "RESOURCE_EXHAUSTED", "message": "no capacity"}
    seen = seen_as(state="JOB_STATE_FAILED", status=status, jobProgress={"percent": percent})
    assert seen.wants_slot == wants_slot


@pytest.mark.parametrize(
    ("fault", "cause", "wants_slot"),
    [("job:slot", Cause.PROVIDER, True), ("job:quota", Cause.QUOTA, False), ("job:broken", Cause.PROVIDER, False)],
)
def test_a_job_that_comes_to_grief_says_whose_matter_it_is(
    tmp_path: Path, fault: str, cause: Cause, *, wants_slot: bool
) -> None:
    with yard(tmp_path, fault) as (provider, _, order):
        seen = ended(provider, provider.start(order, "ty-1"))
        assert (seen.state, seen.cause, seen.wants_slot) == (RemoteState.FAILED, cause, wants_slot)


def test_too_few_examples_are_a_matter_of_the_data(tmp_path: Path) -> None:
    with yard(tmp_path) as (provider, _, order):
        file = provider.upload(examples_file(tmp_path / "few.jsonl", 2))
        seen = ended(provider, provider.start(replace(order, training_file=file), "ty-1"))
        assert seen.cause == Cause.DATA
        assert "at least 3" in str(seen.failure)


# -- lists ----------------------------------------------------------------------------------------------------------


def test_jobs_of_both_kinds_are_listed_newest_first(tmp_path: Path) -> None:
    with yard(tmp_path, rules=Rules(pace=ENDLESS)) as (provider, _, order):
        pairs = replace(order, training_file=provider.upload(preferences(tmp_path / "p.jsonl")), method=Method.DPO)
        for key, asked in (("ty-2", order), ("ty-3", pairs), ("ty-1", order)):
            provider.start(asked, key)
        assert [job.key for job in provider.listed()] == ["ty-1", "ty-3", "ty-2"]


def test_a_server_that_sends_the_first_page_for_ever_is_left() -> None:
    page = {"supervisedFineTuningJobs": [{"name": JOB}], "nextPageToken": "again"}
    with odd_server(page) as server, at(server) as provider:
        assert {job.id for job in provider.listed()} == {JOB}
        collection = f"GET /v1/{JOB.rpartition('/')[0]}?pageSize=200"
        assert server.asked[:2] == [collection, f"{collection}&pageToken=again"]
        assert len(server.asked) == 4


def test_a_job_that_is_not_ours_carries_no_key() -> None:
    names = [f"accounts/sandbox/dpoJobs/{name}" for name in ("my-job", "ty-" + "x" * 16, "ty-abcdefghij-2")]
    page = {"dpoJobs": [{"name": name} for name in names]}
    with odd_server(page) as server, at(server) as provider:
        assert {job.key for job in provider.listed()} == {None, "ty-abcdefghij-2"}


def test_models_are_offered_with_what_an_example_may_have() -> None:
    models = [
        {"name": "accounts/fireworks/models/a", "supervisedLoraTunable": True, "trainingContextLength": 131_079},
        {"name": "accounts/fireworks/models/b", "tunable": False, "trainingContextLength": 4096},
        {"name": "accounts/sandbox/models/c", "fineTuningJob": JOB},
    ]
    with odd_server({"models": models}) as server, at(server) as provider:
        offers = list(provider.offers())
        assert [(offer.model[-1], offer.max_tokens, offer.tuned) for offer in offers[:2]] == [
            ("a", 131_072, False),
            ("c", None, True),
        ]
        assert {(offer.max_jobs, offer.shuts_down) for offer in offers} == {(None, None)}
        assert provider.estimate(Order("a", "f")) is None


# -- results --------------------------------------------------------------------------------------------------------


def result_of(**fields: Any) -> Any:
    job = {"name": JOB, "state": "JOB_STATE_COMPLETED", **fields}
    with odd_server(job) as server, at(server) as provider:
        return provider.result(JOB)


def test_a_result_without_figures_has_none() -> None:
    made = result_of()
    assert made.model == "accounts/sandbox/models/ty-1"
    assert (made.usd, made.trained_tokens, made.series, made.files, made.warnings) == (None, None, (), {}, ())


def test_what_the_provider_tells_of_price_and_tokens_is_kept() -> None:
    cost = {"currencyCode": "USD", "units": "3", "nanos": 250_000_000}
    made = result_of(estimatedCost=cost, jobProgress={"inputTokens": "12000"}, outputModel="mine")
    assert (made.usd, made.trained_tokens, made.model) == (3.25, 12_000, "accounts/sandbox/models/mine")


def test_a_price_in_another_currency_is_told_and_not_taken_for_dollars() -> None:
    made = result_of(estimatedCost={"currencyCode": "EUR", "units": "3", "nanos": 500_000_000})
    assert made.usd is None
    assert made.warnings == ("Fireworks estimates the cost at 3.5 EUR",)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://store.invalid/metrics?signature=s3cret", 'leads to "store.invalid" by "http", not https'),
        ("https://127.0.0.1:1/metrics?signature=s3cret", "no answer from 127.0.0.1"),
        ("nonsense", "not https"),
    ],
)
def test_metrics_that_cannot_be_collected_do_not_cost_the_model(url: str, words: str) -> None:
    made = result_of(metricsFileSignedUrl=url)
    assert made.model == "accounts/sandbox/models/ty-1"
    assert words in "".join(made.warnings)
    assert "s3cret" not in "".join(made.warnings)


def test_metrics_are_read_in_both_forms_that_were_seen() -> None:
    lines = (
        b'{"step": 1, "train/loss": 2.5}\n\n{"step": 2, "data": {"train/loss": 1.5, "eval/loss": 2}}\nnonsense\n[]\n'
    )
    rows, unread = answers.rows_of(lines)
    assert unread == 2
    assert rows == [{"step": 1, "train_loss": 2.5}, {"step": 2, "train_loss": 1.5, "valid_loss": 2}]


def test_a_job_that_has_not_succeeded_has_no_result() -> None:
    with pytest.raises(Permanent, match='is "JOB_STATE_RUNNING" and has no model') as caught:
        result_of(state="JOB_STATE_RUNNING")
    assert caught.value.cause == Cause.PROVIDER


# -- refusals -------------------------------------------------------------------------------------------------------


def refused(status: int, body: object, **headers: str) -> TuneyardError:
    with odd_server(body, status=status, **headers) as server, at(server) as provider:
        with pytest.raises(TuneyardError) as caught:
            provider.start(Order("m", "f"), "ty-1")
        assert sum(line.startswith("POST") for line in server.asked) == 1
    return caught.value


@pytest.mark.parametrize(
    ("status", "code", "kind", "words"),
    [
        (400, 3, Permanent, "INVALID_ARGUMENT"),
        (401, 16, Unauthorized, "a key for inference alone is refused here"),
        (403, 7, Unauthorized, "PERMISSION_DENIED"),
        (404, 5, NotFound, "NOT_FOUND"),
        (410, 5, Permanent, "the provider has closed this"),
        (412, 9, Permanent, "training shape may not be enabled"),
        (402, 9, AccountPaused, "providers resume acme"),
        (429, 8, SlotRefused, "RESOURCE_EXHAUSTED"),
        (409, 10, Transient, "ABORTED"),
        (500, 13, Transient, "INTERNAL"),
        (503, 14, Transient, "UNAVAILABLE"),
        (504, 4, Transient, "DEADLINE_EXCEEDED"),
    ],
)
def test_a_refused_create_means_what_fireworks_says_it_means(
    status: int, code: int, kind: type[TuneyardError], words: str
) -> None:
    error = refused(status, {"code": code, "message": "because", "details": []})
    assert type(error) is kind
    assert "acme: because" in str(error)
    assert words in str(error)


@pytest.mark.parametrize("body", [{"error": {"code": "X", "message": "because"}}, {"error": "because"}])
def test_a_refusal_in_another_shape_is_read_too(body: dict[str, Any]) -> None:
    assert "because" in str(refused(400, body))


def test_a_refusal_without_words_says_that_there_were_none() -> None:
    assert "no reason was given (HTTP 403, PERMISSION_DENIED)" in str(refused(403, {"code": 7, "message": ""}))


def test_a_slot_is_waited_for_as_long_as_is_asked() -> None:
    error = refused(429, {"code": 8, "message": "quota"}, Retry_After="90")
    assert isinstance(error, SlotRefused)
    assert error.retry_after == 90


def test_a_full_account_is_a_slot_refused(tmp_path: Path) -> None:
    with yard(tmp_path, rules=Rules(pace=ENDLESS, max_concurrent=1)) as (provider, _, order):
        provider.start(order, "ty-1")
        with pytest.raises(SlotRefused, match="quota of GPUs"):
            provider.start(order, "ty-2")


def test_a_suspended_account_is_told_from_a_shape_that_is_not_enabled(tmp_path: Path) -> None:
    words = "the account is suspended: MONTHLY_SPEND_LIMIT_EXCEEDED"
    with yard(tmp_path, "create:quota") as (provider, _, order), pytest.raises(AccountPaused, match=words):
        provider.start(order, "ty-1")


def test_a_base_model_that_is_not_there_is_refused_in_the_providers_words(tmp_path: Path) -> None:
    words = "model accounts/fireworks/models/gpt-9 not found"
    with yard(tmp_path) as (provider, _, order), pytest.raises(Permanent, match=words):
        provider.start(replace(order, base_model="gpt-9"), "ty-1")


def test_a_server_that_is_not_there_is_named() -> None:
    with odd_server({}) as server, at(server) as provider:
        pass
    with at(server) as provider, pytest.raises(Transient, match=r"no answer from http://127\.0\.0\.1:\d+: "):
        provider.state(JOB)


def test_a_server_that_answers_with_a_web_page_is_no_provider() -> None:
    with odd_server("<h1>Welcome</h1>") as server, at(server) as provider:
        for call in (lambda: provider.find("ty-1"), lambda: provider.state(JOB), lambda: list(provider.offers())):
            with pytest.raises(
                Permanent, match="answered with text/html, not a JSON object; check the account's base_url"
            ):
                call()


def test_an_answer_that_is_not_understood_is_looked_at_again_later() -> None:
    words = r"answered what is not understood here: .*\$\.status"
    answer = odd_server({"name": JOB, "status": "fine"})
    with answer as server, at(server) as provider, pytest.raises(Transient, match=words):
        provider.state(JOB)


# -- the account ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("organization", [None, "", "  "])
def test_an_account_without_an_id_names_the_variable_that_sets_it(organization: str | None) -> None:
    account = ProviderSettings(api_key=SecretStr(SECRET), organization=organization)
    with pytest.raises(Invalid, match="set TUNEYARD_PROVIDERS__ACME__ORGANIZATION to its id"):
        Account("acme", account)


def test_an_id_that_is_none_is_refused() -> None:
    account = ProviderSettings(api_key=SecretStr(SECRET), organization="../other")
    with pytest.raises(Invalid, match='"../other" is no id of a Fireworks account'):
        Account("acme", account)


def test_an_id_may_be_given_as_fireworks_names_the_account() -> None:
    with odd_server({"name": JOB, "state": "JOB_STATE_PENDING"}) as server:
        url = f"http://127.0.0.1:{server.port}"
        account = ProviderSettings(base_url=url, api_key=SecretStr(SECRET), organization="accounts/sandbox")
        with opened(account) as provider:
            assert provider.state(JOB).state == RemoteState.QUEUED


@pytest.mark.parametrize(("status", "as_page"), [(400, False), (401, False), (429, False), (500, False), (502, True)])
def test_the_key_is_in_no_error_and_no_log(caplog: pytest.LogCaptureFixture, status: int, as_page: bool) -> None:
    caplog.set_level(logging.DEBUG)
    said = "Incorrect API key provided: {authorization}"
    body = said if as_page else {"code": 3, "message": said}
    with odd_server(body, status=status) as server, at(server) as provider:
        with pytest.raises(TuneyardError) as caught:
            provider.start(Order("m", "f"), "ty-1")
        assert "Incorrect API key provided: Bearer ***" in str(caught.value)
        written = [*traceback.format_exception(caught.value), repr(caught.value), repr(provider), caplog.text]
        assert SECRET not in "".join(written)
        assert caught.value.__context__ is None
