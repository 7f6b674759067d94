"""The Mistral provider: what it does that others do not, at its part of the sandbox and at servers that misbehave."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from api_worker.catalogue import Wanted, catalogue
from api_worker.provider import Method, Offer, Order, Provider, RemoteState
from api_worker.providers import open_provider
from api_worker.quotes import over
from api_worker.sandbox.mistral_shapes import SAID
from api_worker.sandbox.remote_job import Reason
from api_worker.sandbox.rules import Rules
from queue_app.errors import AccountPaused, Permanent, SlotRefused, Transient, TuneyardError, Unauthorized
from queue_app.lifecycle import Cause
from tests.api_worker.odd_server import odd_server
from tests.conftest import eventually
from tests.sandbox.server import ENDLESS, ROOT, examples_file, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.sandbox.server import Served

KEY = "ty-abcdefghij-2"
ID = "c4f6a0f0-7a8b-4a53-9c3f-4b2a1d0e9f11"


@contextmanager
def yard(tmp_path: Path, *faults: str, rules: Rules | None = None) -> Iterator[tuple[Provider, Served, Order]]:
    """A provider at its part of a sandbox, and an order whose file is there already."""
    with (
        serve(tmp_path / "state", *faults, rules=rules) as sandbox,
        closing(open_provider("acme", sandbox.account("mistral"))) as provider,
    ):
        file = provider.upload(examples_file(tmp_path / "train.jsonl"))
        yield provider, sandbox, Order("sandbox-base", file, epochs=2)


@contextmanager
def odd(body: Any, *, status: int = 200, **headers: str) -> Iterator[tuple[Provider, list[str]]]:
    """A provider at a server that answers everything alike."""
    with (
        odd_server(body, status=status, **headers) as server,
        closing(open_provider("acme", server.account_at("mistral"))) as provider,
    ):
        yield provider, server.asked


def job(status: str, *events: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A job as Mistral shows it."""
    plain = {"id": ID, "object": "job", "job_type": "completion", "auto_start": True, "model": "m", "status": status}
    times = {"created_at": 1_767_323_045, "modified_at": 1_767_323_045}
    return {**plain, **times, "training_files": [], "hyperparameters": {}, "events": list(events), **fields}


def event(at: int, **data: Any) -> dict[str, Any]:
    return {"name": "status-updated", "created_at": at, "data": data}


# -- Mistral's own cloud ----------------------------------------------------------------------------------------------


def test_mistrals_own_cloud_is_closed_in_the_catalogue() -> None:
    wanted = Wanted("mistral", "open-mistral-7b")
    assert over(catalogue(), wanted, datetime(2026, 7, 12, tzinfo=UTC).date()) == []
    (closing_row,) = over(catalogue(), wanted, datetime(2026, 7, 13, tzinfo=UTC).date())
    assert "together" in closing_row.instead


def test_a_server_whose_routes_are_gone_is_closed() -> None:
    with odd({"message": "no Route matched"}, status=410) as (provider, asked):
        with pytest.raises(Permanent, match="no Route matched.*the provider has closed this") as caught:
            provider.start(Order("m", ID), KEY)
        assert caught.value.cause == Cause.PROVIDER
        assert asked == ["POST /v1/fine_tuning/jobs"]


def test_without_its_sdk_it_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['mistralai'] = None\n"
        "from pydantic import SecretStr\n"
        "from api_worker.providers import open_provider\n"
        "from settings import ProviderSettings\n"
        "open_provider('mistral', ProviderSettings(api_key=SecretStr('a-key-of-length')))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Invalid: Mistral needs mistralai" in run.stderr
    assert "pip install 'tuneyard[mistral]'" in run.stderr


# -- orders -----------------------------------------------------------------------------------------------------------


def test_the_key_is_the_whole_suffix_and_the_job_starts_by_itself(tmp_path: Path) -> None:
    with yard(tmp_path, rules=Rules(pace=ENDLESS)) as (provider, sandbox, order):
        remote = provider.start(order, KEY)
        assert "suffix" not in provider.takes
        assert provider.state(remote).key == KEY
        assert provider.state(remote).state == RemoteState.RUNNING
        assert list(sandbox.ledger()["vendors"]["mistral"]["keys"]) == [KEY]


def test_the_same_file_is_there_only_once(tmp_path: Path) -> None:
    with yard(tmp_path) as (provider, _, order):
        assert provider.upload(tmp_path / "train.jsonl") == order.training_file


def test_a_file_that_is_too_large_is_told_with_its_size(tmp_path: Path) -> None:
    path = examples_file(tmp_path / "train.jsonl")
    with (
        odd("<h1>413 Request Entity Too Large</h1>", status=413) as (provider, _),
        pytest.raises(Permanent, match=r"Too Large.*; train\.jsonl has [\d,]+ bytes \(HTTP 413\)"),
    ):
        provider.upload(path)


def test_preferences_are_refused_before_anything_is_sent() -> None:
    with odd({}) as (provider, asked), pytest.raises(Permanent, match="does not train by dpo"):
        provider.start(Order("m", ID, method=Method.DPO), KEY)
    assert asked == []


def test_a_job_like_one_that_runs_leaves_it_open_whether_it_is_ours(tmp_path: Path) -> None:
    with yard(tmp_path, rules=Rules(pace=ENDLESS)) as (provider, _, order):
        first = provider.start(order, KEY)
        with pytest.raises(Transient, match="no second job like one that waits or runs") as caught:
            provider.start(order, KEY)
        assert not caught.value.undone
        assert provider.find(KEY) == first


def test_an_answer_to_a_create_that_is_not_understood_leaves_the_job_in_doubt() -> None:
    with odd({"job": "created"}) as (provider, asked), pytest.raises(Transient, match="not understood"):
        provider.start(Order("m", ID), KEY)
    assert asked == ["POST /v1/fine_tuning/jobs"]


def test_what_is_not_understood_is_not_read_again() -> None:
    with odd({"nothing": "known"}) as (provider, asked), pytest.raises(Transient, match="not understood"):
        provider.state(ID)
    assert len(asked) == 1


def test_a_pause_that_is_asked_for_is_not_slept_through_by_a_worker() -> None:
    with odd({"message": "Busy."}, status=429, Retry_After="3600") as (provider, asked):
        with pytest.raises(Transient) as caught:
            provider.state(ID)
        assert (caught.value.retry_after, len(asked)) == (3600.0, 1)


def test_a_server_that_knows_no_pages_is_read_once_through() -> None:
    listed = {"object": "list", "total": 500, "data": [job("RUNNING"), job("QUEUED", suffix=KEY, id="other")]}
    with odd(listed) as (provider, asked):
        assert [seen.key for seen in provider.listed()] == [None, KEY]
        assert len(asked) == 2
        assert provider.find("ty-zzzzzzzzzz") is None


def test_a_job_of_a_kind_that_the_sdk_does_not_know_is_listed() -> None:
    strange = job("RUNNING", job_type="reinforcement")
    with odd({"object": "list", "total": 1, "data": [strange]}) as (provider, _):
        assert [(seen.id, seen.state) for seen in provider.listed()] == [(ID, RemoteState.RUNNING)]


# -- what became of a job ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "auto_start", "state"),
    [
        ("QUEUED", True, RemoteState.QUEUED),
        ("STARTED", True, RemoteState.VALIDATING),
        ("VALIDATING", True, RemoteState.VALIDATING),
        ("VALIDATED", True, RemoteState.QUEUED),
        ("VALIDATED", False, RemoteState.PAUSED),
        ("RUNNING", True, RemoteState.RUNNING),
        ("FAILED_VALIDATION", True, RemoteState.FAILED),
        ("FAILED", True, RemoteState.FAILED),
        ("SUCCESS", True, RemoteState.SUCCEEDED),
        ("CANCELLED", True, RemoteState.CANCELLED),
        ("CANCELLATION_REQUESTED", True, RemoteState.CANCELLING),
        ("PONDERING", True, RemoteState.UNKNOWN),
    ],
)
def test_every_word_of_mistrals_is_known(word: str, state: RemoteState, *, auto_start: bool) -> None:
    with odd(job(word, auto_start=auto_start)) as (provider, _):
        seen = provider.state(ID)
        assert (seen.state, seen.word) == (state, word)


@pytest.mark.parametrize(
    ("word", "said", "cause", "wants_slot"),
    [
        ("FAILED_VALIDATION", SAID[Reason.SLOT], Cause.QUOTA, True),
        ("FAILED_VALIDATION", SAID[Reason.QUOTA], Cause.QUOTA, False),
        ("FAILED_VALIDATION", "Line 3 has no messages.", Cause.DATA, False),
        ("FAILED_VALIDATION", "The job failed due to an internal error.", Cause.PROVIDER, False),
        ("FAILED", "Something broke.", Cause.PROVIDER, False),
    ],
)
def test_a_job_that_failed_says_why_and_whose_matter_it_is(
    word: str, said: str, cause: Cause, *, wants_slot: bool
) -> None:
    for told in ({"error": said}, {"status": word, "message": {"detail": said}}):
        with odd(job(word, event(2, **told), event(1, status="QUEUED"))) as (provider, _):
            seen = provider.state(ID)
            assert (seen.failure, seen.cause, seen.wants_slot) == (said, cause, wants_slot)
            assert wants_slot or seen.is_billed is {"FAILED_VALIDATION": False}.get(word), "it trained nothing yet"


def test_a_job_that_says_nothing_of_its_failure_has_failed_all_the_same() -> None:
    with odd(job("FAILED")) as (provider, _):
        seen = provider.state(ID)
        assert (seen.failure, seen.cause) == (None, Cause.PROVIDER)


def test_a_job_too_many_waits_for_a_slot_and_one_over_the_trials_cap_does_not(tmp_path: Path) -> None:
    with yard(tmp_path, rules=Rules(pace=ENDLESS, max_concurrent=1)) as (provider, sandbox, order):
        provider.start(order, KEY)
        second = provider.start(order, f"{KEY}3")
        ended = eventually(lambda: ended_job(provider, second), what="the refusal")
        assert (ended.wants_slot, ended.failure) == (True, SAID[Reason.SLOT])
        assert sandbox.ledger()["vendors"]["mistral"]["most_held_at_once"] == 1


def ended_job(provider: Provider, remote: str) -> Any:
    seen = provider.state(remote)
    return seen if seen.state.is_final else None


def test_a_running_job_tells_its_newest_figures() -> None:
    rows = [{"step_number": n, "created_at": 1, "metrics": {"train_loss": 2.0 / n}} for n in (1, 3, 2)]
    with odd(job("RUNNING", checkpoints=rows, hyperparameters={"training_steps": 9})) as (provider, _):
        seen = provider.state(ID)
        assert (seen.step, seen.steps) == (3, 9)
        assert seen.train_loss == pytest.approx(2 / 3)
        assert str(seen.created_at) == "2026-01-02 03:04:05+00:00"


@pytest.mark.parametrize(
    ("cost", "usd", "warnings"),
    [
        ({"cost": 4.5, "cost_currency": "USD"}, 4.5, ()),
        ({"cost": 10, "cost_currency": "EUR"}, None, ("it cost 10 EUR",)),
        (None, None, ()),
    ],
)
def test_a_result_tells_what_was_billed_and_measured(cost: Any, usd: float | None, warnings: tuple[str, ...]) -> None:
    rows = [{"step_number": n, "created_at": 1, "metrics": {"train_loss": 1.5, "valid_loss": None}} for n in (2, 1)]
    made = {"fine_tuned_model": "ft:m:1", "trained_tokens": 850_000, "metadata": cost, "checkpoints": rows}
    with odd(job("SUCCESS", **made)) as (provider, _):
        result = provider.result(ID)
        assert (result.model, result.trained_tokens, result.usd) == ("ft:m:1", 850_000, usd)
        assert result.series == ({"step": 1, "train_loss": 1.5}, {"step": 2, "train_loss": 1.5})
        assert result.warnings == warnings


def test_only_what_can_be_tuned_is_offered() -> None:
    models: list[dict[str, Any]] = [
        {"id": "a", "type": "base", "capabilities": {"fine_tuning": True}, "max_context_length": 4096},
        {"id": "b", "type": "base", "capabilities": {"fine_tuning": False}},
        {"id": "c", "type": "fine-tuned", "capabilities": {}, "job": ID, "root": "a"},
        {"id": "d", "type": "distilled", "capabilities": {"fine_tuning": True}},
    ]
    with odd({"object": "list", "data": models}) as (provider, _):
        offers = list(provider.offers())
    assert [offer.model for offer in offers] == ["a", "c", "d"]
    assert offers[0] == Offer("a", max_tokens=4096)
    assert offers[1].tuned


@pytest.mark.parametrize("told", [{"deleted": True}, None])
def test_a_file_that_is_gone_is_sent_again_by_a_retry(told: dict[str, Any] | None) -> None:
    file = {"id": ID, "object": "file", "bytes": 1, "created_at": 1, "filename": "a.jsonl", "purpose": "fine-tune"}
    body = {**file, "sample_type": "instruct", "source": "upload", **(told or {})}
    with (
        odd(body if told else {"detail": "None."}, status=200 if told else 404) as (provider, _),
        pytest.raises(Permanent, match="a retry sends"),
    ):
        provider.is_ready(ID)


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (401, {"message": "Unauthorized", "request_id": "1"}, Unauthorized, "Unauthorized"),
        (402, {"detail": "No credits."}, AccountPaused, "No credits."),
        (422, {"detail": "Model not available."}, Permanent, 'Model not available.; the base model asked for is "m"'),
        (422, {"detail": [{"loc": ["body", "suffix"], "msg": "Bad.", "type": "x"}]}, Permanent, "suffix: Bad."),
        (400, {"object": "error", "message": {"detail": [{"loc": [], "msg": "Worse."}]}}, Permanent, "Worse."),
        (429, {"object": "error", "message": SAID[Reason.SLOT], "type": "x"}, SlotRefused, "concurrently"),
        (429, {"message": "Requests rate limit exceeded"}, Transient, "rate limit"),
        (503, "<p>Busy.</p>", Transient, "Busy."),
        (500, {}, Transient, "acme: "),
    ],
)
def test_a_refusal_is_told_in_mistrals_words(status: int, body: Any, kind: type[TuneyardError], said: str) -> None:
    with odd(body, status=status) as (provider, asked):
        with pytest.raises(TuneyardError) as caught:
            provider.start(Order("m", ID), KEY)
        assert type(caught.value) is kind
        assert said in str(caught.value)
        assert asked == ["POST /v1/fine_tuning/jobs"]
