"""The OpenAI provider: the real SDK over a real socket, against the sandbox and against servers that misbehave."""

from __future__ import annotations

import logging
import traceback
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from api_worker.provider import Order, Provider, RemoteState
from api_worker.providers import open_provider
from api_worker.refusals import DAILY_CAP_PAUSE_SECONDS
from api_worker.sandbox.rules import Rules
from queue_app.errors import AccountPaused, Permanent, Transient, TuneyardError
from queue_app.lifecycle import Cause
from tests.api_worker.odd_server import odd_server, remote_job
from tests.conftest import eventually
from tests.sandbox.server import ENDLESS, SECRET, examples_file, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from settings import ProviderSettings
    from tests.sandbox.server import Served


@contextmanager
def opened(account: ProviderSettings) -> Iterator[Provider]:
    with closing(open_provider("acme", account)) as provider:
        yield provider


@contextmanager
def yard(tmp_path: Path, *faults: str, rules: Rules | None = None) -> Iterator[tuple[Provider, Served, Order]]:
    """A provider on a sandbox, and an order whose file is there already."""
    with serve(tmp_path / "state", *faults, rules=rules) as sandbox, opened(sandbox.account()) as provider:
        file = provider.upload(examples_file(tmp_path / "train.jsonl"))
        yield provider, sandbox, Order("sandbox-base", file, epochs=2, suffix="tone", seed=5)


def test_a_job_goes_its_way_and_its_result_is_collected(tmp_path: Path) -> None:
    with yard(tmp_path) as (provider, _, order):
        remote = provider.start(order, "ty-1")
        eventually(lambda: provider.state(remote).state == RemoteState.SUCCEEDED, what="success")
        made = provider.result(remote)
        assert made.model.startswith("ft:sandbox-base:sandbox:tone:")
        assert [row["step"] for row in made.series] == [1, 2, 3, 4]
        assert made.last("train_loss") is None
        assert made.warnings == ("This is the Tuneyard sandbox: nothing is trained, and no model comes of it.",)
        assert [content.count(b"\n") for content in made.files.values()] == [5]


def test_a_running_job_tells_its_step(tmp_path: Path) -> None:
    with yard(tmp_path, rules=Rules(pace=ENDLESS)) as (provider, _, order):
        remote = provider.state(provider.start(order, "ty-1"))
        assert (remote.state, remote.step, remote.failure) == (RemoteState.RUNNING, None, None)


def test_the_step_of_a_running_job_is_that_of_its_newest_event() -> None:
    events = [{"id": f"e{n}", "data": {"step": n, "total_steps": 9, "train_loss": 2.0 / n}} for n in (3, 2, 1)]
    job = {**remote_job(), "data": [{"id": "e4", "message": "hello", "data": {}}, *events], "has_more": False}
    with odd_server(job) as server, opened(server.account) as provider:
        remote = provider.state("ftjob-1")
        assert (remote.step, remote.steps) == (3, 9)
        assert remote.train_loss == pytest.approx(2 / 3)


def test_a_failed_job_tells_the_providers_words(tmp_path: Path) -> None:
    with yard(tmp_path) as (provider, _, order):
        bad = examples_file(tmp_path / "bad.jsonl", last_line='{"messages": [{}], "weight": 1}')
        remote = provider.start(Order(order.base_model, provider.upload(bad)), "ty-1")
        eventually(lambda: provider.state(remote).state == RemoteState.FAILED, what="failure")
        failed = provider.state(remote)
        assert failed.cause == Cause.DATA
        assert 'Example 13 contains an extra "weight".' in str(failed.failure)


# -- exactly once ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["create:drop-after", "create:500-after", "create:429-after"])
def test_a_job_whose_create_was_not_answered_is_found_by_its_key(tmp_path: Path, fault: str) -> None:
    with yard(tmp_path, fault) as (provider, sandbox, order):
        with pytest.raises(Transient):
            provider.start(order, "ty-1")
        seen = sandbox.ledger()["keys"]["ty-1"]
        assert seen["creates_received"] == 1
        assert [provider.find("ty-1")] == seen["jobs"]
        assert provider.find("ty-2") is None


@pytest.mark.parametrize("fault", ["create:500", "create:drop", "create:429", "create:409", "create:daily-cap"])
def test_a_create_that_fails_is_sent_once(tmp_path: Path, fault: str) -> None:
    with yard(tmp_path, fault) as (provider, sandbox, order):
        with pytest.raises(Transient):
            provider.start(order, "ty-1")
        assert sandbox.ledger()["keys"]["ty-1"] == {"creates_received": 1, "cancels_received": 0, "jobs": []}
        assert provider.find("ty-1") is None


def test_an_upload_that_fails_is_sent_once(tmp_path: Path) -> None:
    with serve(tmp_path / "state", "upload:500") as sandbox, opened(sandbox.account()) as provider:
        with pytest.raises(Transient):
            provider.upload(examples_file(tmp_path / "train.jsonl"))
        assert sandbox.ledger()["uploads_received"] == 1


def test_a_look_that_fails_is_repeated(tmp_path: Path) -> None:
    with yard(tmp_path, "retrieve:500*2", "list:drop*1", rules=Rules(pace=ENDLESS)) as (provider, _, order):
        remote = provider.start(order, "ty-1")
        assert provider.state(remote).state == RemoteState.RUNNING
        assert provider.find("ty-1") == remote


def test_a_cancel_is_sent_once_however_often_it_is_asked_for(tmp_path: Path) -> None:
    with yard(tmp_path, rules=Rules(pace=ENDLESS)) as (provider, sandbox, order):
        remote = provider.start(order, "ty-1")
        provider.cancel(remote)
        provider.cancel(remote)
        assert provider.state(remote).state == RemoteState.CANCELLED
        assert sandbox.ledger()["keys"]["ty-1"]["cancels_received"] == 1


def test_a_cancel_whose_answer_was_lost_is_not_sent_again(tmp_path: Path) -> None:
    with yard(tmp_path, "cancel:500-after*1", rules=Rules(pace=ENDLESS)) as (provider, sandbox, order):
        remote = provider.start(order, "ty-1")
        with pytest.raises(Transient):
            provider.cancel(remote)
        provider.cancel(remote)
        assert sandbox.ledger()["keys"]["ty-1"]["cancels_received"] == 1


def test_a_job_that_ended_keeps_its_end_when_it_is_cancelled(tmp_path: Path) -> None:
    with yard(tmp_path) as (provider, sandbox, order):
        remote = provider.start(order, "ty-1")
        eventually(lambda: provider.state(remote).state == RemoteState.SUCCEEDED, what="success")
        provider.cancel(remote)
        assert sandbox.ledger()["keys"]["ty-1"]["cancels_received"] == 0


def test_a_cancel_that_is_refused_while_the_job_runs_is_an_error(tmp_path: Path) -> None:
    with yard(tmp_path, "cancel:400", rules=Rules(pace=ENDLESS)) as (provider, _, order):
        remote = provider.start(order, "ty-1")
        with pytest.raises(Permanent, match="because it was told to"):
            provider.cancel(remote)


def test_a_job_that_succeeded_without_a_model_is_an_error() -> None:
    with odd_server(remote_job(status="succeeded")) as server, opened(server.account) as provider:
        with pytest.raises(Permanent, match='"succeeded" and names no model') as caught:
            provider.result("ftjob-1")
        assert caught.value.cause == Cause.PROVIDER


def test_a_job_is_found_at_a_server_that_ignores_the_filter() -> None:
    others = [remote_job(id=f"ftjob-{n}", metadata={"tuneyard": f"ty-{n}"}) for n in range(3)]
    page = {"object": "list", "data": [*others, remote_job(id="ftjob-x", metadata=None)], "has_more": False}
    with odd_server(page) as server, opened(server.account) as provider:
        assert provider.find("ty-2") == "ftjob-2"
        assert provider.find("ty-9") is None


def test_a_server_that_sends_the_first_page_for_ever_is_left() -> None:
    page = {"object": "list", "data": [remote_job(metadata={"tuneyard": "ty-1"})], "has_more": True}
    with odd_server(page) as server, opened(server.account) as provider:
        assert provider.find("ty-2") is None
        assert len(server.asked) == 2


# -- refusals -------------------------------------------------------------------------------------------------------


def refused(tmp_path: Path, fault: str) -> TuneyardError:
    with yard(tmp_path, f"create:{fault}") as (provider, _, order), pytest.raises(TuneyardError) as caught:
        provider.start(order, "ty-1")
    return caught.value


@pytest.mark.parametrize(
    ("fault", "cause", "words"),
    [
        ("400", Cause.USER, "because it was told to"),
        ("401", Cause.PROVIDER, "check the account's api_key"),
        ("403", Cause.PROVIDER, "may not train there; `tuneyard quote RECIPE --all` shows who takes such work"),
        ("404", Cause.USER, "finds nothing here"),
        ("410", Cause.PROVIDER, "the provider has closed this"),
    ],
)
def test_a_refusal_that_lasts_fails_the_job(tmp_path: Path, fault: str, cause: Cause, words: str) -> None:
    error = refused(tmp_path, fault)
    assert isinstance(error, Permanent)
    assert error.cause == cause
    assert words in str(error)
    assert "acme: " in str(error)


def test_a_balance_that_is_used_up_pauses_the_account(tmp_path: Path) -> None:
    error = refused(tmp_path, "quota")
    assert isinstance(error, AccountPaused)
    assert error.cause == Cause.QUOTA
    assert "You exceeded your current quota" in str(error)
    assert "tuneyard providers resume acme" in str(error)


@pytest.mark.parametrize(
    ("fault", "retry_after"),
    [
        ("429", None),
        ("429=7", 7.0),
        ("daily-cap", DAILY_CAP_PAUSE_SECONDS),
        ("daily-cap=60", 60.0),
        ("500", None),
        ("503=2", 2.0),
        ("drop", None),
    ],
)
def test_a_refusal_that_passes_makes_the_job_wait(tmp_path: Path, fault: str, retry_after: float | None) -> None:
    error = refused(tmp_path, fault)
    assert isinstance(error, Transient)
    assert error.retry_after == retry_after


def test_a_base_model_that_is_not_there_is_refused_in_the_providers_words(tmp_path: Path) -> None:
    with yard(tmp_path) as (provider, _, order), pytest.raises(Permanent, match="Model gpt-9 is not available"):
        provider.start(Order("gpt-9", order.training_file), "ty-1")


def test_a_server_that_is_not_there_is_named() -> None:
    with odd_server({}) as server:
        account = server.account
    with opened(account) as provider, pytest.raises(Transient, match=r"no answer from http://127\.0\.0\.1:\d+: "):
        provider.find("ty-1")


def test_a_server_that_answers_with_a_web_page_is_no_provider(tmp_path: Path) -> None:
    with odd_server("<h1>Welcome</h1>") as server, opened(server.account) as provider:
        for call in (lambda: provider.find("ty-1"), lambda: provider.state("ftjob-1")):
            with pytest.raises(Permanent, match="answered with text/html, not JSON; check the account's base_url"):
                call()


@pytest.mark.parametrize("status", ["paused_for_lunch", None])
def test_a_status_that_is_not_known_is_no_end_and_can_still_be_cancelled(status: str | None) -> None:
    with odd_server(remote_job(status=status)) as server, opened(server.account) as provider:
        seen = provider.state("ftjob-1")
        assert (seen.state, seen.word) == (RemoteState.UNKNOWN, str(status))
        provider.cancel("ftjob-1")
        assert "POST /v1/fine_tuning/jobs/ftjob-1/cancel" in server.asked


# -- the key --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "as_page"), [(400, False), (401, False), (429, False), (500, False), (502, True)])
def test_the_key_is_in_no_error_and_no_log(caplog: pytest.LogCaptureFixture, status: int, as_page: bool) -> None:
    caplog.set_level(logging.DEBUG)
    said = "Incorrect API key provided: {authorization}"
    body = said if as_page else {"error": {"message": said, "type": "x", "code": None, "param": None}}
    with odd_server(body, status=status) as server, opened(server.account) as provider:
        with pytest.raises(TuneyardError) as caught:
            provider.start(Order("m", "f"), "ty-1")
        assert as_page or "Incorrect API key provided: Bearer ***" in str(caught.value)
        written = [*traceback.format_exception(caught.value), repr(caught.value), repr(provider), caplog.text]
        assert SECRET not in "".join(written)
        assert caught.value.__context__ is None
