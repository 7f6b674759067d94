"""`tuneyard quote` and the prices in `tuneyard plan`."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from api_worker.sandbox.rules import Rules
from queue_app.at_account import AtAccount
from queue_app.cli import context
from queue_app.cli.application import run
from queue_app.errors import StandsStill
from queue_app.lifecycle import Event, Reason
from queue_app.shipped import find_shipped
from queue_app.store import NewJob, Store
from queue_app.store.money import Billed, Caps, Quoted
from tests.sandbox.server import FAST, SECRET, examples_file, preferences_file, serve
from tests.tiny_model import make_tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LLAMA = "meta-llama/Meta-Llama-3.1-8B-Instruct-Reference"
CATALOGUED = {"openai", "azure", "nebius", "together", "fireworks", "mistral"}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Examples that are cut in two parts, and a fine-tune of the larger one."""
    examples_file(tmp_path / "examples.jsonl", count=60)
    path = tmp_path / "tune.yaml"
    path.write_text(
        "name: tune\n"
        "steps:\n"
        "  parts: {job: dataset.split, source: examples.jsonl, holdout: 12}\n"
        "  tune:\n"
        "    job: finetune.hosted\n"
        "    dataset: $parts.train\n"
        "    holdout: $parts.holdout\n"
        "    base_model: sandbox-base\n"
        "    epochs: 2\n"
    )
    return path


def quoted(capsys: pytest.CaptureFixture[str], *words: Any) -> dict[str, dict[str, Any]]:
    """The lines of a quote by place."""
    assert run(["quote", *map(str, words), "--json"]) == 0
    return {line["place"]: line for line in json.loads(capsys.readouterr().out)["lines"]}


def test_a_quote_compares_every_provider_without_any_key(
    yard: Store, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = quoted(capsys, recipe)
    assert CATALOGUED | {"sandbox", "own GPU"} <= set(lines)
    assert [place for place, line in lines.items() if line["chosen"]] == ["sandbox"]
    assert (lines["sandbox"]["low_usd"], lines["sandbox"]["high_usd"]) == (0.0, 0.0)
    openai = lines["openai"]
    assert openai["exact"]
    assert openai["low_usd"] == pytest.approx(openai["tokens"] * 2 * 3.0 / 1e6)  # gpt-4o-mini: $3 a million
    assert openai["high_usd"] > openai["low_usd"]  # the holdout may be billed
    assert (lines["together"]["minimum_usd"], lines["together"]["high_usd"]) == (4.0, 4.0)
    assert lines["together"]["low_usd"] < 0.01
    assert lines["together"]["serving"] == "a dedicated endpoint"
    assert lines["mistral"]["impossible"].startswith("training ended on 2026-07-13; instead: together")
    assert lines["azure"]["high_usd"] is None
    assert lines["own GPU"]["high_usd"] is None
    [split] = yard.read.ls()
    assert (split.kind, split.state) == ("dataset.split", "succeeded")


def test_a_model_is_quoted_without_its_date_and_refused_where_it_is_none(
    recipe: Path, settle: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    settle(providers__openai__api_key=SECRET)
    words = ["--set", "steps.tune.provider=openai", "--set"]
    line = quoted(capsys, recipe, *words, "steps.tune.base_model=gpt-4o-mini")["openai"]
    assert (line["usd_per_million"], line["impossible"]) == (3.0, "")
    line = quoted(capsys, recipe, *words, "steps.tune.base_model=gpt-4o-minni")["openai"]
    assert line["impossible"].startswith('OpenAI tunes no model "gpt-4o-minni"; nearest: gpt-4o-mini-2024-07-18')


@pytest.mark.parametrize("vendor", ["https://api.openai.com/v1", "HTTPS://API.OpenAI.com:443"])
def test_the_vendors_own_address_is_quoted_as_the_vendor(
    recipe: Path, settle: Callable[..., None], capsys: pytest.CaptureFixture[str], vendor: str
) -> None:
    settle(providers__mine__api_key=SECRET, providers__mine__base_url=vendor)
    line = quoted(capsys, recipe, "--set", "steps.tune.provider=mine", "--set", "steps.tune.base_model=gpt-3.5-turbo")
    assert line["mine"]["impossible"].startswith("its answers ended on 2026-10-23")


def test_only_the_sandbox_is_free_whatever_an_account_is_called(
    recipe: Path, settle: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    settle(providers__sandbox__base_url="https://api.together.ai/v1", providers__sandbox__api="together")
    settle(providers__sandbox__api_key=SECRET)
    chosen = ["--set", f"steps.tune.base_model={LLAMA}"]
    line = quoted(capsys, recipe, *chosen)["sandbox"]
    assert (line["free"], line["high_usd"]) == (False, 4.0)


@pytest.mark.parametrize(
    "end",
    [
        ("training", -1, "impossible", "training ended on"),
        ("training", 0, "impossible", "training ended on"),
        ("inference", 2, "impossible", "its answers end on"),
        ("inference", 4, "notes", "its answers end on"),
        ("training", 60, "notes", "training ends on"),
        ("training", 91, "", ""),
    ],
)
def test_an_end_is_refused_or_warned_of_by_the_day(
    tmp_path: Path,
    recipe: Path,
    settle: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    end: tuple[str, int, str, str],
) -> None:
    what, days, field, says = end
    on = datetime.now(UTC).date() + timedelta(days=days)
    (tmp_path / "own.toml").write_text(
        f'[[closing]]\nprovider = "together"\nwhat = "{what}"\non = {on}\ninstead = "nebius"\n'
        'source = "its page"\ngrade = "P"\nseen = 2026-11-21\n'
    )
    settle(catalogue=str(tmp_path / "own.toml"))
    line = quoted(capsys, recipe)["together"]
    told = {"impossible": line["impossible"], "notes": " ".join(line["notes"])}
    assert {name for name, text in told.items() if "end" in text} == ({field} if field else set())
    assert says in told.get(field, "")


def test_a_quote_fits_the_page_and_marks_what_was_chosen(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["quote", str(recipe)]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert max(map(len, lines)) <= 100
    assert [line.split()[1] for line in lines if line.startswith("→")] == ["sandbox"]
    assert lines[-1] == "as the recipe has it (→): $0.00"
    assert said.out.count("another model") == 1
    assert any(line.startswith("  nebius, ") and line.endswith(": another model") for line in lines)
    assert "×" not in said.out
    assert "TIME" in lines[0]
    assert "– not known" in said.out
    assert f"tuneyard run {recipe}" in said.err


def test_all_models_are_quoted_when_asked_for(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["quote", str(recipe), "--all", "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)["lines"]
    assert {line["model"] for line in lines if line["place"] == "openai"} >= {"gpt-4.1-2025-04-14", "gpt-4o-2024-08-06"}
    dear = [line for line in lines if line["model"] == "gpt-4o-2024-08-06" and line["place"] == "openai"]
    assert dear[0]["usd_per_million"] == 25.0


def test_the_same_model_at_another_provider_is_found_by_its_plain_name(
    recipe: Path, settle: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    settle(providers__nebius__api_key=SECRET)
    chosen = ["--set", "steps.tune.provider=nebius", "--set", "steps.tune.base_model=meta-llama/Llama-3.1-8B-Instruct"]
    lines = quoted(capsys, recipe, *chosen)
    assert lines["nebius"]["chosen"]
    assert lines["nebius"]["slots"] == "0 of an unknown number of slots used"
    assert lines["fireworks"]["model"] == "accounts/fireworks/models/llama-v3p1-8b-instruct"
    assert lines["together"]["model"] == "meta-llama/Meta-Llama-3.1-8B-Instruct-Reference"
    assert all("another model" not in lines[place]["notes"] for place in ("nebius", "fireworks", "together"))
    assert "another model" in lines["openai"]["notes"]


def test_a_method_that_a_provider_lacks_and_data_that_it_refuses_are_impossible(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    preferences_file(tmp_path / "pairs.jsonl", count=30)
    pairs = ["--set", "steps.tune.dataset=pairs.jsonl", "--set", "steps.tune.holdout=pairs.jsonl"]
    by_dpo = quoted(capsys, recipe, *pairs, "--set", "steps.tune.method=dpo")
    assert by_dpo["nebius"]["impossible"] == "meta-llama/Llama-3.1-8B-Instruct learns by sft there, not by dpo"
    assert by_dpo["together"]["impossible"] == ""
    assert by_dpo["own GPU"]["impossible"] == ""
    by_sft = quoted(capsys, recipe, *pairs)
    assert "its file cannot hold rejected (30×)" in by_sft["openai"]["notes"]
    examples_file(tmp_path / "few.jsonl", count=5)
    few = ["--set", "steps.tune.dataset=few.jsonl", "--set", "steps.tune.holdout=few.jsonl"]
    of_few = quoted(capsys, recipe, *few)
    assert "5 examples" in of_few["openai"]["impossible"]
    assert of_few["openai"]["tokens"] is None
    assert of_few["together"]["impossible"] == ""


def test_the_own_gpu_costs_its_hours(
    recipe: Path, settle: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    settle(own_gpu__watts="500", own_gpu__usd_per_kwh="0.40", own_gpu__tokens_per_second="2")
    by_current = quoted(capsys, recipe)["own GPU"]
    hours = by_current["tokens"] * 2 / 2 / 3600
    assert by_current["run_seconds"] == pytest.approx(hours * 3600)
    assert by_current["high_usd"] == pytest.approx(hours * 0.5 * 0.40)
    settle(own_gpu__usd_per_hour="3")
    assert quoted(capsys, recipe)["own GPU"]["high_usd"] == pytest.approx(hours * 3)
    closed = quoted(capsys, recipe, "--set", "steps.tune.base_model=gpt-4.1-2025-04-14")["own GPU"]
    assert closed["impossible"] == "the weights of gpt-4.1-2025-04-14 are not to be had"


def test_preferences_on_the_own_gpu_cost_both_answers_each_behind_its_prompt(
    tmp_path: Path, settle: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    settle(own_gpu__usd_per_hour="3600", own_gpu__tokens_per_second="2")
    model = make_tiny_model(tmp_path / "model")
    preferences_file(tmp_path / "pairs.jsonl", count=30)
    talks = [
        {"messages": [{"role": "user", "content": f"What is {n}?"}, {"role": "assistant", "content": answer}]}
        for n in range(30)
        for answer in (f"It is {n}.", "No idea.")
    ]
    (tmp_path / "talks.jsonl").write_text("".join(json.dumps(talk) + "\n" for talk in talks))
    step = f"train: {{job: model.train, base_model: {model}, dataset"
    (tmp_path / "dpo.yaml").write_text(f"name: own\nsteps:\n  {step}: pairs.jsonl, objective: dpo}}\n")
    (tmp_path / "sft.yaml").write_text(f"name: own\nsteps:\n  {step}: talks.jsonl}}\n")
    by_dpo = quoted(capsys, tmp_path / "dpo.yaml")["own GPU"]
    by_sft = quoted(capsys, tmp_path / "sft.yaml")["own GPU"]
    assert (by_dpo["chosen"], by_dpo["impossible"], by_dpo["epochs"]) == (True, "", 1.0)
    assert by_dpo["tokens"] == by_sft["tokens"]
    assert by_dpo["high_usd"] == pytest.approx(by_dpo["tokens"] / 2)
    no_pairs = quoted(capsys, tmp_path / "dpo.yaml", "--set", "steps.train.dataset=talks.jsonl")["own GPU"]
    assert "line 1: rejected: there is none" in no_pairs["impossible"]


def test_a_providers_file_is_held_to_the_limits_of_the_users_own_catalogue(
    tmp_path: Path, recipe: Path, settle: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.toml").write_text(
        '[[limit]]\ntargets = ["together"]\nmeasure = "examples"\nminimum = 500\nseverity = "blocking"\n'
        'source = "its page"\ngrade = "P"\nseen = 2026-11-21\n'
    )
    assert quoted(capsys, recipe)["together"]["impossible"] == ""
    settle(catalogue=str(tmp_path / "own.toml"))
    assert "500" in quoted(capsys, recipe)["together"]["impossible"]


def test_a_speed_that_was_measured_goes_before_the_one_that_was_set(
    yard: Store, recipe: Path, tmp_path: Path, settle: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    settle(own_gpu__usd_per_hour="3600", own_gpu__tokens_per_second="1")
    artifacts = context.runner("test").artifacts
    (tmp_path / "adapter").write_text("weights")
    model = make_tiny_model(tmp_path / "model")
    new = NewJob(kind="adapter.train", queue="gpu", spec={"base_model": "$base.model"})
    yard.submit([new], actor="user:me")
    base = artifacts.publish(model, kind="base-model", name="tiny", job_id=None, parents=[])
    made = artifacts.publish(tmp_path / "adapter", kind="adapter", name=None, job_id=new.id, parents=[base.id])
    assert yard.claim(worker="w", lease_seconds=60, job_id=new.id) is not None
    result = {"adapter": made.id, "tokens_per_second": 100.0, "device": "cuda", "device_name": "a card"}
    yard.record(new.id, Event.SUCCEEDED, actor="w", fence=1, result=result)
    (tmp_path / "own.yaml").write_text(
        "name: own\nsteps:\n  train: {job: adapter.train, dataset: examples.jsonl, base_model: tiny, max_steps: 30}\n"
    )
    assert recipe.parent == tmp_path
    line = quoted(capsys, "own.yaml")["own GPU"]
    assert (line["model"], line["chosen"], line["exact"]) == ("tiny", True, True)
    assert line["epochs"] == 30 * 4 / 60  # steps of four examples, over sixty
    assert line["run_seconds"] == pytest.approx(line["tokens"] * 2 / 100)
    assert line["high_usd"] == pytest.approx(line["run_seconds"])
    assert line["run_seconds_by"] == f"100 tokens/s measured by job {new.id} on a card"
    preferences_file(tmp_path / "pairs.jsonl", count=30)
    by_dpo = ["--set", "steps.train.objective=dpo", "--set", "steps.train.dataset=pairs.jsonl"]
    assert quoted(capsys, "own.yaml", *by_dpo)["own GPU"]["run_seconds_by"] == "1 tokens/s by the settings"


def test_data_behind_a_paid_step_are_not_made_for_a_quote(
    yard: Store, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = recipe.read_text()
    recipe.write_text(f"{text}  again:\n    job: finetune.hosted\n    dataset: $tune.report\n    base_model: x\n")
    assert run(["quote", str(recipe), "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)["lines"]
    [again] = [line for line in lines if line["step"] == "again" and line["chosen"]]
    assert again["tokens"] is None
    assert "dataset: made by a step that is not run for a quote" in again["notes"]
    assert {job.kind for job in yard.read.ls()} == {"dataset.split"}


def test_data_that_cannot_be_made_say_why(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "examples.jsonl").write_text('{"messages": 5}\n')
    assert run(["quote", str(recipe), "--json"]) == 1
    lines = {line["place"]: line for line in json.loads(capsys.readouterr().out)["lines"]}
    assert any("parts failed:" in note for note in lines["openai"]["notes"])


def test_a_recipe_without_a_fine_tune_costs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examples_file(tmp_path / "examples.jsonl")
    (tmp_path / "free.yaml").write_text("name: free\nsteps:\n  parts: {job: dataset.split, source: examples.jsonl}\n")
    assert run(["quote", "free.yaml"]) == 0
    assert "free has no fine-tune" in capsys.readouterr().err


def test_the_providers_own_estimate_is_asked_of_a_file_that_it_has(
    tmp_path: Path, settle: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    examples_file(tmp_path / "examples.jsonl", count=60)
    words = ["dataset=examples.jsonl", "provider=together", f"base_model={LLAMA}", "epochs=2"]
    (tmp_path / "tune.yaml").write_text(
        "name: tune\nsteps:\n  tune:\n    job: finetune.hosted\n"
        + "".join(f"    {word.replace('=', ': ')}\n" for word in words)
    )
    with serve(tmp_path / "state", rules=Rules(pace=FAST, models=(LLAMA,))) as sandbox:
        settle(
            providers__together__base_url=sandbox.base_url("together"),
            providers__together__api_key=SECRET,
            providers__together__listing_lag_seconds="0",
            providers__together__poll_seconds="0.05",
        )
        assert quoted(capsys, "tune.yaml")["together"]["estimate_usd"] is None
        assert sandbox.ledger()["uploads_received"] == 0  # a quote sends nothing
        assert run(["jobs", "submit", "finetune.hosted", *words, "--here"]) == 0
        capsys.readouterr()
        line = quoted(capsys, "tune.yaml")["together"]
        assert run(["quote", "tune.yaml"]) == 0
        shown = capsys.readouterr().out
        examples_file(tmp_path / "held.jsonl", count=61)
        with (tmp_path / "tune.yaml").open("a") as more:
            more.write("    holdout: held.jsonl\n")
        without = quoted(capsys, "tune.yaml")["together"]
        assert run(["jobs", "submit", "finetune.hosted", *words, "holdout=held.jsonl", "--here"]) == 0
        capsys.readouterr()
        whole = quoted(capsys, "tune.yaml")["together"]
    assert line["estimate_usd"] > 0
    assert "its own estimate $" in shown
    assert any("leaves out the holdout" in note for note in without["notes"])
    assert without["estimate_usd"] == line["estimate_usd"]
    assert not any("leaves out the holdout" in note for note in whole["notes"])


def test_a_plan_shows_what_it_is_priced_by_and_runs_nothing(
    yard: Store, recipe: Path, settle: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    settle(providers__openai__api_key=SECRET)
    words = ["--set", "steps.tune.provider=openai", "--set", "steps.tune.base_model=gpt-4o-mini-2024-07-18"]
    assert run(["plan", str(recipe), *words, "--set", "cap_usd=5"]) == 0
    shown = capsys.readouterr().out
    assert "tune at openai: $3.00 per 1M tokens × 2 epochs" in shown
    assert "training ends on 2027-01-06" in shown
    assert "all together at the most $5.00" in shown
    assert max(map(len, shown.splitlines())) <= 100 or "tuneyard quote" in max(shown.splitlines(), key=len)
    assert yard.read.ls() == []


def test_a_plan_of_what_is_closed_says_so(
    recipe: Path, settle: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    settle(providers__mistral__api_key=SECRET)
    words = ["--set", "steps.tune.provider=mistral", "--set", "steps.tune.base_model=open-mistral-7b", "--json"]
    assert run(["plan", str(recipe), *words]) == 0
    [line] = json.loads(capsys.readouterr().out)["prices"]
    assert line["impossible"].startswith("training ended on 2026-07-13")


def test_the_demo_can_be_planned(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", str(find_shipped("recipes") / "demo.yaml")]) == 0
    assert "hosted at sandbox: free; it trains nothing" in capsys.readouterr().out


def test_a_time_that_earlier_jobs_tell_makes_a_price_by_the_hour(
    yard: Store, recipe: Path, settle: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    settle(providers__hf_jobs__api_key=SECRET, providers__hf_jobs__tier="l4x1")
    model = "Qwen/Qwen3-0.6B"
    words = [recipe, "--set", "steps.tune.provider=hf_jobs", "--set", f"steps.tune.base_model={model}"]
    before = quoted(capsys, *words)["hf_jobs"]
    assert (before["low_usd"], before["high_usd"], before["run_seconds"]) == (None, None, None)
    assert before["machine"] == "$0.80 an hour on l4x1"
    new = NewJob(kind="finetune.hosted", queue="api", spec={"base_model": model})
    yard.submit([new], actor="user:me")
    job = yard.claim(worker="w", lease_seconds=60, job_id=new.id)
    assert job is not None
    here = AtAccount(yard, job, "hf_jobs", context.settings().queue)
    here.commit(Quoted(None, None), Caps())
    memo = yard.memos.intend(job.id, "start", fence=1)
    yard.memos.remember(memo, "remote-1", fence=1)
    here.settle(Billed(100_000, 0.5))
    yard.record(job.id, Event.SUCCEEDED, actor="w", fence=1, result={})
    after = quoted(capsys, *words)["hf_jobs"]
    assert after["run_seconds"] > 0
    assert after["low_usd"] == pytest.approx(after["run_seconds"] / 3600 * 0.80 * 0.75)
    assert after["high_usd"] == pytest.approx(after["run_seconds"] / 3600 * 0.80 * 1.25)


def test_a_full_account_tells_how_long_its_line_is(
    yard: Store, recipe: Path, settle: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    settle(providers__nebius__api_key=SECRET, providers__nebius__max_jobs="2")
    words = [recipe, "--set", "steps.tune.provider=nebius", "--set", "steps.tune.base_model=Qwen/Qwen3-32B"]
    free = quoted(capsys, *words)["nebius"]
    assert (free["slots"], free["turns"], free["wait_seconds"]) == ("0 of 2 slots used", 0, 0.0)
    later = datetime.now(UTC) + timedelta(minutes=1)
    for _ in range(3):
        new = NewJob(kind="finetune.hosted", queue="api", spec={"base_model": "Qwen/Qwen3-32B"})
        yard.submit([new], actor="user:me")
        job = yard.claim(worker="w", lease_seconds=60, job_id=new.id)
        assert job is not None
        with suppress(StandsStill):
            AtAccount(yard, job, "nebius", context.settings().queue).take_slot("nebius", size=2, source="settings")
        yard.record(job.id, Event.POLL_SCHEDULED, actor="w", fence=1, reason=Reason.SLOT, due_at=later)
    full = quoted(capsys, *words)["nebius"]
    assert (full["slots"], full["turns"], full["wait_seconds"]) == ("2 of 2 slots used, 1 wait", 1, None)
    assert run(["quote", *map(str, words)]) == 0
    assert "it would wait for one, how long is not known" in " ".join(capsys.readouterr().out.split())
