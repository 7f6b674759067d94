"""`tuneyard quote` and the prices in `tuneyard plan`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from api_worker.sandbox.rules import Rules
from queue_app.cli import context
from queue_app.cli.application import run
from queue_app.lifecycle import Event
from queue_app.shipped import find_shipped
from queue_app.store import NewJob, Store
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


def test_a_quote_fits_the_page_and_marks_what_was_chosen(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["quote", str(recipe)]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert max(map(len, lines)) <= 100
    assert [line.split()[1] for line in lines if line.startswith("→")] == ["sandbox"]
    assert lines[-1] == "as the recipe has it (→): $0.00"
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
    assert by_dpo["own GPU"]["impossible"] == "adapter.train trains by sft, not by dpo"
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
    assert line["estimate_usd"] > 0
    assert "its own estimate $" in shown


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
