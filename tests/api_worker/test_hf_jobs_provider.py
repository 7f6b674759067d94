"""The Hugging Face Jobs provider: what it does that others do not, at its part of the sandbox and at odd servers."""

from __future__ import annotations

import json
import threading
from contextlib import closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from api_worker.catalogue import Wanted, catalogue
from api_worker.provider import Method, Order, Provider, RemoteState, Tuned
from api_worker.providers import open_provider
from api_worker.providers.hf_jobs import FLAVOR, RUN_SECONDS
from api_worker.sandbox.huggingface_files import INLINE_BYTES
from api_worker.sandbox.rules import Rules
from queue_app.errors import AccountPaused, NotFound, Permanent, SlotRefused, Transient, TuneyardError, Unauthorized
from queue_app.lifecycle import Cause
from settings import ProviderSettings
from tests.api_worker.odd_server import odd_server
from tests.conftest import eventually
from tests.sandbox.server import ENDLESS, SECRET, examples_file, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.sandbox.server import Served

KEY = "ty-abcdefghij-2"
BASE = "sandbox/sandbox-base"


@contextmanager
def yard(tmp_path: Path, *faults: str, rules: Rules | None = None) -> Iterator[tuple[Provider, Served, Order]]:
    """A provider at its part of a sandbox, and an order whose file is there already."""
    with (
        serve(tmp_path / "state", *faults, rules=rules) as sandbox,
        closing(open_provider("acme", sandbox.account("hf_jobs"))) as provider,
    ):
        file = provider.upload(examples_file(tmp_path / "train.jsonl"))
        yield provider, sandbox, Order(BASE, file, epochs=2, suffix="tone")


@contextmanager
def odd(body: Any, *, status: int = 200, **headers: str) -> Iterator[tuple[Provider, list[str]]]:
    """A provider at a server that answers everything alike."""
    with (
        odd_server(body, status=status, **headers) as server,
        closing(open_provider("acme", server.account_at("hf_jobs"))) as provider,
    ):
        yield provider, server.asked


@contextmanager
def hub(answers: dict[str, tuple[int, str]]) -> Iterator[tuple[Provider, list[str]]]:
    """A provider at a server that answers by how a request's method and path end; elsewhere with 404."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = f"{self.command} {self.path.partition('?')[0]}"
            asked.append(request)
            status, body = next((found for end, found in answers.items() if request.endswith(end)), (404, "{}"))
            self.send_response(status)
            self.send_header("Content-Type", "application/json" if body[:1] in "{[" else "text/event-stream")
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        account = ProviderSettings(api="hf_jobs", base_url=url, api_key=SecretStr(SECRET), organization="me")
        try:
            with closing(open_provider("acme", account)) as provider:
                yield provider, asked
        finally:
            server.shutdown()
            thread.join()


def log(*lines: str) -> tuple[int, str]:
    """A log as the Hub tells it."""
    return 200, "".join(f"data: {json.dumps({'data': line})}\n\n" for line in lines) or "\n"


def job(stage: str, message: str | None = None, **fields: Any) -> dict[str, Any]:
    """A job as the Hub shows it."""
    command = ["trl", "sft", "--model_name_or_path", "m", "--hub_model_id", "me/m-tuned"]
    times = {"createdAt": "2026-01-02T03:04:05.678Z"}
    return {"id": "job-1", "status": {"stage": stage, "message": message}, "command": command, **times, **fields}


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    with yard(tmp_path) as (provider, sandbox, order):
        assert provider.upload(examples_file(tmp_path / "again.jsonl")) == order.training_file
        assert list(sandbox.ledger()["vendors"]["hf_jobs"]["uploads"]) == [order.training_file]


def test_a_large_file_goes_to_the_store_that_the_hub_names(tmp_path: Path) -> None:
    row = json.dumps({"messages": [{"role": "assistant", "content": "a" * 1024**2}]})
    large = tmp_path / "large.jsonl"
    large.write_text(f"{row}\n" * 11, encoding="utf-8")
    assert large.stat().st_size > INLINE_BYTES
    with yard(tmp_path) as (provider, _, order):
        file = provider.upload(large)
        assert provider.is_ready(file)
        remote = provider.start(replace(order, training_file=file), KEY)
        eventually(lambda: provider.state(remote).state == RemoteState.SUCCEEDED, what="success")


@pytest.mark.parametrize("is_private", [True, False])
def test_data_goes_into_a_private_repository_only(tmp_path: Path, *, is_private: bool) -> None:
    told = {"private": is_private}
    answers = {"POST /api/repos/create": (409, "{}"), "/tuneyard-data": (200, json.dumps(told))}
    with hub(answers) as (provider, asked):
        with pytest.raises(TuneyardError, match="HTTP 404" if is_private else "the dataset me/tuneyard-data is public"):
            provider.upload(examples_file(tmp_path / "train.jsonl"))
        assert any("preupload" in request for request in asked) is is_private


# -- orders -----------------------------------------------------------------------------------------------------------


def sent(tmp_path: Path, **wishes: Any) -> dict[str, Any]:
    """What the sandbox has kept of the request for a job."""
    with yard(tmp_path, rules=Rules(pace=ENDLESS)) as (provider, _, order):
        provider.start(replace(order, **wishes), KEY)
        journal = (tmp_path / "state" / "hf_jobs" / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    made = next(row for row in map(json.loads, journal) if row["event"] == "jobs_created")
    found: dict[str, Any] = made["jobs"][0]["asked"]
    return found


def option(command: list[str], name: str) -> str | None:
    return command[command.index(name) + 1] if name in command else None


def test_a_job_is_a_container_that_runs_trl_under_the_key(tmp_path: Path) -> None:
    asked = sent(tmp_path, seed=3, learning_rate=1e-4, batch_size=4, lora_r=8)
    command = asked["command"]
    assert command[:7] == ["uv", "run", "--no-project", "--with", "trl[peft]==1.14.2", "trl", "sft"]
    assert asked["labels"] == {"tuneyard": KEY}
    assert asked["flavor"] == FLAVOR
    assert option(command, "--hub_model_id") == f"sandbox/sandbox-base-tone-{KEY}"
    told = {
        "--num_train_epochs": "2",
        "--seed": "3",
        "--learning_rate": "0.0001",
        "--lora_r": "8",
        "--lora_alpha": "16",
    }
    told |= {"--per_device_train_batch_size": "4", "--gradient_accumulation_steps": "1", "--use_peft": "True"}
    assert {name: option(command, name) for name in told} == told
    assert RUN_SECONDS > 1800  # of itself a job is stopped after half an hour


def test_all_weights_are_tuned_where_that_is_asked_for(tmp_path: Path) -> None:
    command = sent(tmp_path, tuned=Tuned.FULL)["command"]
    assert option(command, "--use_peft") == "False"
    assert "--lora_r" not in command


def test_a_rank_without_a_lora_is_refused_before_anything_is_sent() -> None:
    with odd({}) as (provider, asked), pytest.raises(Permanent, match="leave one out"):
        provider.start(Order("m", "f", tuned=Tuned.FULL, lora_r=8), KEY)
    assert asked == []


def test_preferences_are_refused_before_anything_is_sent() -> None:
    with odd({}) as (provider, asked), pytest.raises(Permanent, match="does not train by dpo"):
        provider.start(Order("m", "f", method=Method.DPO), KEY)
    assert asked == []


@pytest.mark.parametrize("suffix", ["x" * 90, "a b", "a/b"])
def test_a_suffix_that_no_repository_can_have_is_refused_before_anything_is_sent(suffix: str) -> None:
    with odd({}) as (provider, asked), pytest.raises(Permanent, match="the tuned model would be called"):
        provider.start(Order("m", "f", suffix=suffix), KEY)
    assert asked == []


def test_an_account_may_name_another_machine(tmp_path: Path) -> None:
    with yard(tmp_path, rules=Rules(pace=ENDLESS)) as (_, sandbox, order):
        account = sandbox.account("hf_jobs").model_copy(update={"tier": "l4x1", "organization": None})
        with closing(open_provider("acme", account)) as provider:
            provider.start(order, KEY)
            assert provider.find(KEY) is not None
    assert '"flavor": "l4x1"' in (tmp_path / "state" / "hf_jobs" / "journal.jsonl").read_text(encoding="utf-8")


# -- what became of a job ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("SCHEDULING", RemoteState.QUEUED),
        ("RUNNING", RemoteState.RUNNING),
        ("COMPLETED", RemoteState.SUCCEEDED),
        ("CANCELED", RemoteState.CANCELLED),
        ("DELETED", RemoteState.CANCELLED),
        ("ERROR", RemoteState.FAILED),
        ("PONDERING", RemoteState.UNKNOWN),
    ],
)
def test_every_word_of_the_hubs_is_known(word: str, state: RemoteState) -> None:
    with odd(job(word)) as (provider, _):
        seen = provider.state("job-1")
        assert (seen.state, seen.word, seen.base_model) == (state, word, "m")
        assert str(seen.created_at) == "2026-01-02 03:04:05.678000+00:00"


@pytest.mark.parametrize(
    ("lines", "message", "cause", "failure"),
    [
        (
            ["x", "datasets.exceptions.DatasetGenerationError: Row 3.", "y"],
            "Exit 1.",
            Cause.DATA,
            "Exit 1.; its log: datasets.exceptions.DatasetGenerationError: Row 3.",
        ),
        (
            ["torch.OutOfMemoryError: CUDA out of memory."],
            "Exit 1.",
            Cause.PROVIDER,
            "Exit 1.; its log: torch.OutOfMemoryError: CUDA out of memory.",
        ),
        (["pulled", f"stopped {SECRET}"], None, Cause.PROVIDER, "stopped ***"),
        ([], "No credits left.", Cause.QUOTA, "No credits left."),
        ([], None, Cause.PROVIDER, None),
    ],
)
def test_a_job_that_failed_says_why_from_its_log(
    lines: list[str], message: str | None, cause: Cause, failure: str | None
) -> None:
    with hub({"/job-1": (200, json.dumps(job("ERROR", message))), "/logs": log(*lines)}) as (provider, _):
        seen = provider.state("job-1")
        assert (seen.cause, seen.failure) == (cause, failure)


@pytest.mark.parametrize(
    ("message", "wants_slot"),
    [("You run as many jobs at once as you may.", True), ("Concurrency limit of jobs reached.", True), ("No.", False)],
)
def test_a_job_that_was_accepted_and_found_no_slot_says_so(message: str, *, wants_slot: bool) -> None:
    with hub({"/job-1": (200, json.dumps(job("ERROR", message))), "/logs": log()}) as (provider, _):
        assert provider.state("job-1").wants_slot == wants_slot


def test_a_result_tells_the_figures_of_trls_log() -> None:
    lines = (
        "{'loss': '5.71', 'grad_norm': '0.9', 'learning_rate': '1e-03', 'num_tokens': '120', 'epoch': '0.5'}",
        "{'loss': '5.5', 'grad_norm': 'nan', 'num_tokens': '240', 'epoch': '1'}",
        "{'eval_loss': '5.25', 'eval_runtime': '0.1', 'epoch': '1'}",
        "{'train_runtime': '9.1', 'train_loss': '5.6', 'epoch': '1'}",
        "{'not: closed",
    )
    machine = {"name": "l4x1", "unitCostUSD": 0.8 / 60, "unitLabel": "minute"}
    done = job("COMPLETED", flavor="l4x1", durations={"runningSecs": 1800})
    answers = {
        "/job-1": (200, json.dumps(done)),
        "/logs": log(*lines),
        "/hardware": (200, json.dumps([machine])),
    }
    with hub(answers) as (provider, _):
        made = provider.result("job-1")
    assert (made.model, made.trained_tokens, made.usd) == ("me/m-tuned", 240, 0.4)
    assert made.series == ({"step": 1, "train_loss": 5.71}, {"step": 2, "train_loss": 5.5, "valid_loss": 5.25})


@pytest.mark.parametrize("told", [{}, {"durations": {"runningSecs": 60}, "flavor": "abacus"}])
def test_a_price_that_is_not_known_is_said_so(told: dict[str, Any]) -> None:
    answers = {"/job-1": (200, json.dumps(job("COMPLETED", **told))), "/hardware": (200, "[]")}
    with hub(answers) as (provider, _):
        made = provider.result("job-1")
    assert made.usd is None
    assert len(made.warnings) == 1


def test_a_bad_file_is_told_by_the_line_that_the_container_found(tmp_path: Path) -> None:
    with yard(tmp_path) as (provider, _, order):
        file = provider.upload(examples_file(tmp_path / "bad.jsonl", last_line="{"))
        remote = provider.start(replace(order, training_file=file), KEY)
        eventually(lambda: provider.state(remote).state == RemoteState.FAILED, what="the failure")
        seen = provider.state(remote)
        assert seen.cause == Cause.DATA
        assert "exit code: 1.; its log: datasets.exceptions.DatasetGenerationError: Example 13" in str(seen.failure)


def test_a_failure_is_not_lost_with_its_log(tmp_path: Path) -> None:
    with yard(tmp_path, "job:broken", "events:500") as (provider, _, order):
        remote = provider.start(order, KEY)
        eventually(lambda: provider.state(remote).state == RemoteState.FAILED, what="the failure")
        assert provider.state(remote).failure == "Job failed with exit code: 1."


def test_a_result_names_the_repository_and_reckons_the_price(tmp_path: Path) -> None:
    with yard(tmp_path) as (provider, _, order):
        remote = provider.start(order, KEY)
        eventually(lambda: provider.state(remote).state == RemoteState.SUCCEEDED, what="success")
        made = provider.result(remote)
        assert made.model == f"sandbox/sandbox-base-tone-{KEY}"
        assert (made.usd, made.trained_tokens, made.series) == (0.0, None, ())
        assert made.warnings == ("its price is reckoned from its running time, not told by the Hub",)


def test_a_result_is_not_lost_with_its_price(tmp_path: Path) -> None:
    with yard(tmp_path, "limits:404") as (provider, _, order):
        remote = provider.start(order, KEY)
        eventually(lambda: provider.state(remote).state == RemoteState.SUCCEEDED, what="success")
        made = provider.result(remote)
        assert made.usd is None
        assert "its price could not be read" in made.warnings[0]


def test_a_list_leads_no_key_to_another_host() -> None:
    link = '<https://elsewhere.invalid/api/jobs/sandbox?cursor=2>; rel="next"'
    with odd([job("RUNNING")], Link=link) as (provider, asked):
        assert [seen.id for seen in provider.listed()] == ["job-1", "job-1"]
        assert asked == ["GET /v1/api/jobs/sandbox", "GET /v1/api/jobs/sandbox?cursor=2"]


# -- refusals and prices ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (401, "Invalid credentials", Unauthorized),
        (402, "Pay first.", AccountPaused),
        (403, "No.", Unauthorized),
        (404, "Repository not found", NotFound),
        (429, "Too many jobs at once.", SlotRefused),
        (429, "Too many requests.", Transient),
        (503, "Busy.", Transient),
    ],
)
def test_a_refusal_means_what_its_status_says(status: int, said: str, kind: type[TuneyardError]) -> None:
    with odd({"error": said}, status=status) as (provider, _):
        with pytest.raises(TuneyardError, match=said) as caught:
            provider.start(Order("m", "f"), KEY)
        assert type(caught.value) is kind


def test_the_key_in_the_containers_secrets_is_in_no_error() -> None:
    with odd({"error": f"bad secret {SECRET}"}, status=400) as (provider, _):
        with pytest.raises(Permanent) as caught:
            provider.start(Order("m", "f"), KEY)
        assert SECRET not in str(caught.value)


def test_the_machine_that_is_taken_by_default_has_a_price_in_the_catalogue() -> None:
    figures = {machine: catalogue().figure("usd_per_hour", Wanted("hf_jobs", machine)) for machine in (FLAVOR, "l4x1")}
    assert [figure and figure.value for figure in figures.values()] == [2.50, 0.80]
