"""The Together provider: what it does that others do not, at its part of the sandbox and at servers that misbehave."""

from __future__ import annotations

import json
import threading
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from api_worker.provider import Method, Order, Provider, RemoteState, Tuned
from api_worker.providers import open_provider
from api_worker.sandbox.rules import Rules
from queue_app.errors import (
    AccountPaused,
    NotFound,
    Permanent,
    SlotRefused,
    Transient,
    TuneyardError,
    Unauthorized,
    Unsettled,
)
from queue_app.lifecycle import Cause
from settings import ProviderSettings
from tests.api_worker.odd_server import odd_server
from tests.conftest import eventually
from tests.sandbox.server import ENDLESS, SECRET, examples_file, preferences_file, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.sandbox.server import Served

KEY = "ty-abcdefghij-2"
OLD, NEW = "ft-0a1b2c3d-4e5f-6789", "ft-99999999-4e5f-6789"


@contextmanager
def yard(tmp_path: Path, *faults: str, rules: Rules | None = None) -> Iterator[tuple[Provider, Served, Order]]:
    """A provider at its part of a sandbox, and an order whose file is there already."""
    with (
        serve(tmp_path / "state", *faults, rules=rules) as sandbox,
        closing(open_provider("acme", sandbox.account("together"))) as provider,
    ):
        file = provider.upload(examples_file(tmp_path / "train.jsonl"))
        yield provider, sandbox, Order("sandbox-base", file, epochs=2, suffix="tone")


@contextmanager
def odd(body: Any, *, status: int = 200, **headers: str) -> Iterator[tuple[Provider, list[str]]]:
    """A provider at a server that answers everything alike."""
    with (
        odd_server(body, status=status, **headers) as server,
        closing(open_provider("acme", server.account_at("together"))) as provider,
    ):
        yield provider, server.asked


def job(status: str, *events: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """An answer that is a job, its events, its figures and a list of nothing else, as far as each is asked for."""
    told = {"id": OLD, "status": status, "created_at": "2026-01-02T03:04:05.678Z", "model": "m", "metrics": []}
    return {**told, "data": [], "events": list(events), **fields}


def event(kind: str, message: str = "", **fields: Any) -> dict[str, Any]:
    return {
        "object": "fine-tune-event",
        "created_at": "2026-01-02T03:05:00Z",
        "type": kind,
        "message": message,
        **fields,
    }


@contextmanager
def by_path(answers: dict[str, tuple[int, Any]]) -> Iterator[Provider]:
    """A provider at a server that answers by how a request's path ends; elsewhere with what holds nothing."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            nothing: tuple[int, Any] = (200, {"data": [], "metrics": []})
            status, body = next((found for end, found in answers.items() if path.endswith(end)), nothing)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        account = ProviderSettings(api="together", base_url=url, api_key=SecretStr(SECRET))
        try:
            with closing(open_provider("acme", account)) as provider:
                yield provider
        finally:
            server.shutdown()
            thread.join()


# -- files ------------------------------------------------------------------------------------------------------------


def test_the_same_content_is_not_sent_twice(tmp_path: Path) -> None:
    with yard(tmp_path) as (provider, sandbox, order):
        assert provider.upload(examples_file(tmp_path / "again.jsonl")) == order.training_file
        assert list(sandbox.ledger()["vendors"]["together"]["uploads"].values()) == [1]


def test_a_file_is_not_ready_before_it_was_looked_through(tmp_path: Path) -> None:
    with yard(tmp_path, "file:slow=0.3") as (provider, _, order):
        assert not provider.is_ready(order.training_file)
        assert provider.estimate(order) is None
        eventually(lambda: provider.is_ready(order.training_file), what="the examination")
        assert provider.estimate(order) is not None


def test_a_file_that_is_refused_is_told_in_the_providers_words(tmp_path: Path) -> None:
    with yard(tmp_path) as (provider, _, _order):
        bad = provider.upload(examples_file(tmp_path / "bad.jsonl", last_line='{"messages": [{"role": "wizard"}]}'))
        with pytest.raises(Permanent, match=r'Example 13 has .* unknown role "wizard".* \(INVALID_FORMAT\)') as caught:
            provider.is_ready(bad)
        assert caught.value.cause == Cause.DATA


def test_a_file_that_the_provider_could_not_process_is_its_own_matter(tmp_path: Path) -> None:
    with yard(tmp_path, "file:broken") as (provider, _, order):
        with pytest.raises(Permanent, match="no reason was given") as caught:
            provider.is_ready(order.training_file)
        assert caught.value.cause == Cause.PROVIDER


@pytest.mark.parametrize(("told", "is_ready"), [({}, True), ({"Processed": True}, True), ({"Processed": False}, False)])
def test_an_older_server_tells_of_a_file_in_its_own_way(told: dict[str, Any], *, is_ready: bool) -> None:
    with odd({"id": "file-1", **told}) as (provider, _):
        assert provider.is_ready("file-1") is is_ready


def test_a_status_of_a_file_that_is_not_known_is_waited_for() -> None:
    with odd({"id": "file-1", "processing_status": "PONDERING"}) as (provider, _):
        assert not provider.is_ready("file-1")


def test_a_file_of_another_kind_is_not_sent(tmp_path: Path) -> None:
    with odd({}) as (provider, asked), pytest.raises(Permanent, match="end in jsonl, parquet, csv, not notes.txt"):
        provider.upload(examples_file(tmp_path / "notes.txt"))
    assert asked == []


def test_a_refused_upload_may_be_a_matter_of_balance(tmp_path: Path) -> None:
    with (
        odd({"error": {"message": "No.", "type": "x"}}, status=401) as (provider, _),
        pytest.raises(Unauthorized, match="check the account's api_key; .*also for want of balance"),
    ):
        provider.upload(examples_file(tmp_path / "train.jsonl"))


def test_a_file_is_not_sent_in_the_clear_to_another_machine(tmp_path: Path) -> None:
    headers = {"X_Together_File_Id": "file-1", "Location": "http://store.invalid/file-1?signature=canary"}
    with odd({}, status=302, **headers) as (provider, asked):
        with pytest.raises(Permanent, match=r"store\.invalid.*not https") as caught:
            provider.upload(examples_file(tmp_path / "train.jsonl"))
        assert asked == ["POST /v1/files"]
        assert "canary" not in str(caught.value)


# -- orders -----------------------------------------------------------------------------------------------------------


def sent(tmp_path: Path, **wishes: Any) -> dict[str, Any]:
    """The job that Together shows for an order."""
    with yard(tmp_path, rules=Rules(pace=ENDLESS)) as (provider, sandbox, order):
        provider.start(replace(order, **wishes), KEY)
        journal = (tmp_path / "state" / "together" / "journal.jsonl").read_text(encoding="utf-8").splitlines()
        assert sandbox.ledger()["keys"][KEY]["creates_received"] == 1
    made = next(row for row in map(json.loads, journal) if row["event"] == "jobs_created")
    found: dict[str, Any] = made["jobs"][0]
    return found


def test_the_key_stands_behind_the_users_own_suffix(tmp_path: Path) -> None:
    assert sent(tmp_path)["suffix"] == f"tone-{KEY}"


def test_a_validation_file_is_looked_at_once_an_epoch(tmp_path: Path) -> None:
    with yard(tmp_path) as (provider, _, order):
        both = replace(order, validation_file=order.training_file)
        alone, together = provider.estimate(order), provider.estimate(both)
        assert alone is not None
        assert together is not None
        assert together.usd == pytest.approx(2 * alone.usd)
        assert together.tokens == 2 * (alone.tokens or 0)


@pytest.mark.parametrize(
    ("wishes", "kind"),
    [
        ({"tuned": Tuned.FULL}, {"type": "Full"}),
        ({"lora_r": 16}, {"type": "Lora", "lora_r": 16, "lora_alpha": 32}),
        ({"tuned": Tuned.LORA}, {"type": "Lora", "lora_r": 64, "lora_alpha": 128}),  # the rank is Together's own
    ],
)
def test_what_is_tuned_is_asked_for(tmp_path: Path, wishes: dict[str, Any], kind: dict[str, Any]) -> None:
    assert sent(tmp_path, **wishes)["asked"]["training_type"] == kind


def test_a_rank_without_a_lora_is_refused_before_anything_is_sent() -> None:
    with odd({}) as (provider, asked), pytest.raises(Permanent, match="leave one out"):
        provider.start(Order("m", "f", tuned=Tuned.FULL, lora_r=8), KEY)
    assert asked == []


def test_a_suffix_for_which_the_key_leaves_no_room_is_refused_before_anything_is_sent() -> None:
    with odd({}) as (provider, asked), pytest.raises(Permanent, match="24 characters are the most"):
        provider.start(Order("m", "f", suffix="x" * 25), KEY)
    assert asked == []


def test_an_answer_to_a_create_that_is_not_understood_leaves_the_job_in_doubt() -> None:
    with odd({"job": "created"}) as (provider, asked), pytest.raises(Transient, match="not understood"):
        provider.start(Order("m", "f"), KEY)
    assert asked == ["POST /v1/fine-tunes"]


def test_preferences_are_nothing_to_fine_tune_on_without_dpo(tmp_path: Path) -> None:
    with yard(tmp_path) as (provider, _, order):
        file = provider.upload(preferences_file(tmp_path / "preferences.jsonl"))
        remote = provider.start(replace(order, training_file=file), KEY)
        eventually(lambda: provider.state(remote).state == RemoteState.FAILED, what="the refusal")
        assert provider.state(remote).cause == Cause.DATA
        remote = provider.start(replace(order, training_file=file, method=Method.DPO), f"{KEY}3")
        eventually(lambda: provider.state(remote).state == RemoteState.SUCCEEDED, what="success")


# -- restarts ---------------------------------------------------------------------------------------------------------


def test_a_job_that_is_restarted_is_followed_while_it_is_polled(tmp_path: Path) -> None:
    with yard(tmp_path, "job:restart") as (provider, sandbox, order):
        first = provider.start(order, KEY)
        assert provider.state(first).id == first
        seen = eventually(lambda: other_than(first, provider), what="the restart")
        assert not seen.state.is_final or seen.state == RemoteState.SUCCEEDED
        eventually(lambda: provider.state(first).state == RemoteState.SUCCEEDED, what="success")
        assert provider.find(KEY) == seen.id
        assert sandbox.ledger()["keys"][KEY]["creates_received"] == 1
        for asked in (first, seen.id):
            assert provider.result(asked).model == provider.result(seen.id).model
        assert any("refunded" in warning for warning in provider.result(first).warnings)
        assert not any("refunded" in warning for warning in provider.result(seen.id).warnings)


def other_than(first: str, provider: Provider) -> Any:
    seen = provider.state(first)
    return seen if seen.id != first else None


def test_a_job_that_was_restarted_is_cancelled_where_it_runs(tmp_path: Path) -> None:
    slow = Rules(pace=replace(ENDLESS, run_seconds=1.0))
    with yard(tmp_path, "job:restart", rules=slow) as (provider, _, order):
        first = provider.start(order, KEY)
        seen = eventually(lambda: other_than(first, provider), what="the restart")
        assert provider.cancel(first) == RemoteState.CANCELLED
        assert provider.state(seen.id).state == RemoteState.CANCELLED


def test_a_restart_that_names_no_job_is_looked_for_by_the_key() -> None:
    heir = {"id": NEW, "status": "running", "created_at": "2026-01-02T04:00:00Z", "suffix": f"tone-{KEY}"}
    other = {**heir, "id": "ft-11111111", "created_at": "2026-01-02T05:00:00Z", "suffix": "tone-ty-aaaaaaaaaa"}
    told = job("error", event("job_restarted", "Restarted."), suffix=f"tone-{KEY}", data=[other, heir])
    with odd(told) as (provider, asked):
        assert provider.state(OLD).id == NEW
        assert "GET /v1/fine-tunes" in asked


def test_a_restart_that_shows_no_heir_yet_is_asked_after_and_no_failure() -> None:
    told = job("error", event("job_error", "Broken."), event("job_restarted", "Restarted."), suffix=f"tone-{KEY}")
    with odd(told) as (provider, _), pytest.raises(Unsettled, match=f"{OLD} was restarted there, .* looked for again"):
        provider.state(OLD)


def test_a_restart_under_an_id_that_is_not_there_yet_is_asked_after() -> None:
    told = job("error", event("job_restarted", f"It goes on as {NEW}."))
    answers = {f"/fine-tunes/{OLD}": (200, told), f"/fine-tunes/{NEW}": (404, {"error": {"message": "No such job."}})}
    with by_path(answers) as provider, pytest.raises(Unsettled, match=f"{NEW}, which is not there yet"):
        provider.state(OLD)


def test_the_key_that_only_the_list_shows_leads_to_the_heir() -> None:
    heir = job("running", id=NEW, created_at="2026-01-02T04:00:00Z", suffix=f"tone-{KEY}")
    old = job("error", event("job_restarted", "Restarted."))
    listed = {"data": [heir, {**old, "suffix": f"tone-{KEY}"}]}
    answers = {f"/fine-tunes/{OLD}": (200, old), f"/fine-tunes/{NEW}": (200, heir), "/fine-tunes": (200, listed)}
    with by_path(answers) as provider:
        assert provider.state(OLD).id == NEW


@pytest.mark.parametrize(
    ("differs", "is_heir"),
    [
        ({}, True),
        ({"training_file": "file-2"}, False),
        ({"created_at": "2026-01-02T05:00:00Z"}, False),  # hours after the restart
        ({"suffix": "tone-ty-aaaaaaaaaa"}, False),
    ],
)
def test_an_heir_without_a_key_is_known_by_file_model_and_date(differs: dict[str, Any], *, is_heir: bool) -> None:
    old = job("error", event("job_restarted", "Restarted."), training_file="file-1", suffix=f"tone-{KEY}")
    heir = job("running", id=NEW, created_at="2026-01-02T03:06:00Z", training_file="file-1") | differs
    answers = {f"/fine-tunes/{OLD}": (200, old), f"/fine-tunes/{NEW}": (200, heir)}
    with by_path({**answers, "/fine-tunes": (200, {"data": [heir, old]})}) as provider:
        if is_heir:
            assert provider.state(OLD).id == NEW
            return
        with pytest.raises(Unsettled):
            provider.state(OLD)


def test_a_job_whose_events_are_late_is_followed_to_a_later_one_with_its_key() -> None:
    old = job("error", event("job_error", "Broken."), suffix=f"tone-{KEY}")
    heir = job("running", id=NEW, created_at="2026-01-02T04:00:00Z", suffix=f"tone-{KEY}")
    answers = {f"/fine-tunes/{OLD}": (200, old), f"/fine-tunes/{NEW}": (200, heir)}
    with by_path({**answers, "/fine-tunes": (200, {"data": [old, heir]})}) as provider:
        assert provider.state(OLD).id == NEW


def test_an_heir_that_fails_by_itself_has_failed() -> None:
    first = job("error", event("job_restarted", "Restarted."), suffix=f"tone-{KEY}")
    story = (event("job_restarted", "Restarted."), event("job_error", "Broken again."))
    heir = job("error", *story, id=NEW, created_at="2026-01-02T04:00:00Z", suffix=f"tone-{KEY}")
    answers = {f"/fine-tunes/{OLD}": (200, first), f"/fine-tunes/{NEW}": (200, heir)}
    with by_path({**answers, "/fine-tunes": (200, {"data": [heir, first]})}) as provider:
        seen = provider.state(OLD)
        assert (seen.id, seen.state, seen.failure) == (NEW, RemoteState.FAILED, "Broken again.")


def test_a_cancel_waits_an_hour_for_an_heir_and_no_longer() -> None:
    with odd(job("error", event("job_restarted", "Restarted."))) as (provider, _):
        assert provider.cancel(OLD) == RemoteState.FAILED  # that was long ago
    now = datetime.now(UTC).isoformat()
    with (
        odd(job("error", event("job_restarted", "Restarted.", created_at=now))) as (provider, _),
        pytest.raises(Unsettled),
    ):
        provider.cancel(OLD)


def test_an_heir_whose_events_name_the_job_before_it_is_not_led_back() -> None:
    named = event("job_restarted", f"It goes on with {NEW}.")
    with odd(job("error", named, event("job_error", "Broken.", level="error"))) as (provider, _):  # as old as the other
        seen = provider.state(OLD)
        assert (seen.id, seen.state, seen.failure) == (OLD, RemoteState.FAILED, "Broken.")


# -- what became of a job ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("pending", RemoteState.QUEUED),
        ("queued", RemoteState.QUEUED),
        ("running", RemoteState.RUNNING),
        ("compressing", RemoteState.FINISHING),
        ("uploading", RemoteState.FINISHING),
        ("completed", RemoteState.SUCCEEDED),
        ("cancel_requested", RemoteState.CANCELLING),
        ("cancelled", RemoteState.CANCELLED),
        ("error", RemoteState.FAILED),
        ("user_error", RemoteState.FAILED),
        ("pondering", RemoteState.UNKNOWN),
        (None, RemoteState.UNKNOWN),
    ],
)
def test_every_word_of_togethers_is_known(word: str, state: RemoteState) -> None:
    with odd(job(word)) as (provider, _):
        seen = provider.state(OLD)
        assert (seen.state, seen.word) == (state, word or "")


@pytest.mark.parametrize(
    ("word", "kind", "state", "cause"),
    [
        ("user_error", "JOB_USER_ERROR", RemoteState.FAILED, Cause.DATA),
        ("error", "job_error", RemoteState.FAILED, Cause.PROVIDER),
        ("cancelled", "BILLING_LIMIT", RemoteState.FAILED, Cause.QUOTA),
        ("cancelled", "job_error", RemoteState.CANCELLED, None),
    ],
)
def test_a_job_that_failed_says_why_and_whose_matter_it_is(
    word: str, kind: str, state: RemoteState, cause: Cause | None
) -> None:
    with odd(job(word, event(kind, "Because."), event("warning", "By the way."))) as (provider, _):
        seen = provider.state(OLD)
        assert (seen.state, seen.cause, seen.failure) == (state, cause, "Because.")


@pytest.mark.parametrize(
    ("said", "step", "wants_slot"),
    [
        ("You have reached the maximum number of fine-tuning jobs you can run concurrently.", 0, True),
        ("Concurrent job limit reached.", 0, True),
        ("The job failed due to an internal error.", 0, False),
        ("Too many jobs at the same time.", 3, False),  # it has trained
    ],
)
def test_a_job_that_was_accepted_and_found_no_slot_says_so(said: str, step: int, *, wants_slot: bool) -> None:
    with odd(job("error", event("job_error", said, step=step))) as (provider, _):
        seen = provider.state(OLD)
        assert (seen.state, seen.failure, seen.wants_slot) == (RemoteState.FAILED, said, wants_slot)


def test_a_running_job_tells_its_newest_figures() -> None:
    rows = [{"train/global_step": n, "train/loss": 2.0 / n, "timestamp": 1.0} for n in (1, 2, 3)]
    with odd(job("running", event("training_start", total_steps=9), metrics=rows)) as (provider, _):
        seen = provider.state(OLD)
        assert (seen.step, seen.steps) == (3, 9)
        assert seen.train_loss == pytest.approx(2 / 3)
        assert (seen.base_model, str(seen.created_at)) == ("m", "2026-01-02 03:04:05.678000+00:00")


def test_a_result_tells_what_was_billed_and_measured() -> None:
    rows = [
        {"train/global_step": 2, "train/loss": float("nan"), "train/epoch": 1.0},
        {"train/global_step": 2, "eval/loss": 0.5},
        {"train/global_step": 1, "train/loss": 0.75},
    ]
    billed = {"token_count": 850_000, "total_price": 408_000_000, "model_output_name": f"us/m-{KEY}-0123abcd"}
    with odd(job("completed", event("refund", "Here you are."), metrics=rows, **billed)) as (provider, _):
        made = provider.result(OLD)
        assert (made.model, made.trained_tokens, made.usd) == (f"us/m-{KEY}-0123abcd", 850_000, 0.408)
        assert made.series == ({"step": 1, "train_loss": 0.75}, {"step": 2, "train_epoch": 1.0, "valid_loss": 0.5})
        assert made.warnings == ("Here you are.",)
        assert provider.state(OLD).key == KEY


def test_a_result_is_not_lost_with_its_figures(tmp_path: Path) -> None:
    with yard(tmp_path, "metrics:404") as (provider, _, order):
        remote = provider.start(order, KEY)
        eventually(lambda: provider.state(remote).state == RemoteState.SUCCEEDED, what="success")
        made = provider.result(remote)
        assert made.series == ()
        assert "the figures of the steps could not be read" in made.warnings[-1]


# -- prices, models, refusals -----------------------------------------------------------------------------------------


def test_an_estimate_over_the_accounts_limit_is_not_allowed() -> None:
    price = {"estimated_total_price": 120.5, "allowed_to_proceed": False, "user_limit": 100}
    with odd(price) as (provider, _):
        estimate = provider.estimate(Order("m", "f"))
        assert estimate is not None
        assert (estimate.usd, estimate.tokens, estimate.allowed) == (120.5, None, False)
        assert estimate.why == "the price of 120.50 USD is over the account's limit of 100.00 USD"


def test_the_offers_tell_limits_and_tuned_models(tmp_path: Path) -> None:
    with yard(tmp_path) as (provider, _, order):
        remote = provider.start(order, KEY)
        eventually(lambda: provider.state(remote).state == RemoteState.SUCCEEDED, what="success")
        offers = {offer.model: offer for offer in provider.offers()}
        assert offers["sandbox-base"].max_tokens == 8192
        assert offers[provider.result(remote).model].tuned


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (402, {"message": "Pay."}, AccountPaused),
        (400, {"message": "Pay.", "code": "billing_limit"}, AccountPaused),
        (429, {"message": "Too many requests."}, Transient),
        (429, {"message": "You have too many fine-tuning jobs."}, SlotRefused),
        (503, {"message": "Busy."}, Transient),
        (504, {"message": "Slow."}, Transient),
        (524, {"message": "Slow."}, Transient),
        (529, {"message": "Busy."}, Transient),
        (403, {"message": "No."}, Unauthorized),
        (404, {"message": "Model m is not available."}, NotFound),
    ],
)
def test_a_refusal_means_what_together_says(status: int, error: dict[str, Any], kind: type[TuneyardError]) -> None:
    for body in ({"error": error}, error):
        with odd(body, status=status) as (provider, asked):
            with pytest.raises(TuneyardError, match=error["message"]) as caught:
                provider.start(Order("m", "f"), KEY)
            assert type(caught.value) is kind
            assert asked == ["POST /v1/fine-tunes"]
