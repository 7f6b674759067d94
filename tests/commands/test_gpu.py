"""`tuneyard gpu plan` and `ls`: what a training takes and where it fits, on a machine without a card."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from queue_app.cli.application import REFUSED, USAGE, run
from queue_app.lifecycle import Event, Reason
from queue_app.store import NewJob
from tests.driver_stand_in import StandInCard, StandInDriver, install
from tests.tiny_model import make_tiny_model

if TYPE_CHECKING:
    from queue_app.store import Store

RECIPE = """
name: five
steps:
  base: {job: model.pull, model: meta-llama/Llama-3.1-8B-Instruct}
  train:
    job: adapter.train
    base_model: $base.model
    dataset: rows.jsonl
    engine: trl
    lora_r: 64
    sequence_len: 4096
    gradient_accumulation_steps: 8
"""


@pytest.fixture(autouse=True)
def _without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, None)


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return str(path)


def test_a_plan_shows_all_parts_and_every_known_card_within_100_columns(
    recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["gpu", "plan", recipe]) == 0
    told = capsys.readouterr()
    for part in ("base weights", "quantisation state", "gradients", "optimizer", "activations", "logits", "together"):
        assert part in told.out
    assert "by the facts on meta-llama/Llama-3.1-8B that come with Tuneyard" in told.out
    assert "RTX 5090" in told.out
    assert max(map(len, (told.out + told.err).splitlines())) <= 100


def test_a_plan_that_does_not_fit_says_no_and_what_would(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    large = ["--set", "steps.train.micro_batch_size=16"]
    assert run(["gpu", "plan", recipe, "--card", "rtx 5090", *large]) == REFUSED
    told = capsys.readouterr()
    assert "does not fit" in told.out
    assert "train does not fit on rtx 5090; any of these makes it fit:" in told.err
    assert "micro_batch_size 4 with gradient_accumulation_steps 32" in told.err
    assert "tuneyard run" not in told.err
    smaller = ["--set", "steps.train.lora_r=32"]
    assert run(["gpu", "plan", recipe, "--card", "rtx 5090", *smaller]) == 0
    assert f"  tuneyard run {recipe} --set steps.train.lora_r=32\n" in capsys.readouterr().err, "what was planned"


def test_a_plan_over_several_cards_is_that_of_each_and_tells_the_batch(
    recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def planned(*words: str) -> dict[str, int]:
        assert run(["gpu", "plan", recipe, "--vram", "40", "--json", *words]) == 0
        [plan] = json.loads(capsys.readouterr().out)
        parts = {part["name"]: part["size_bytes"] for part in plan["parts"]}
        return {"cards": plan["cards"], "batch": plan["effective_batch"], **parts}

    one, two = planned(), planned("--set", "steps.train.cards=2")
    assert (two["cards"], two["batch"]) == (2, 2 * one["batch"])
    assert two["base weights"] == one["base weights"], "each has a copy"
    assert two["shared gradients"] == one["gradients"]
    run(["gpu", "plan", recipe, "--set", "steps.train.cards=2"])
    said = capsys.readouterr().out
    assert f"× 2 cards = {two['batch']}" in said
    assert "on each of 2 cards, which hold all of it alike:" in said


def test_on_a_cpu_several_cards_share_its_memory(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    def room(cards: int) -> int:
        run(["gpu", "plan", recipe, "--cpu", "--json", "--set", f"steps.train.cards={cards}"])
        [plan] = json.loads(capsys.readouterr().out)
        return int(plan["fits"][0]["room_bytes"])

    assert room(2) == room(1) // 2


def test_a_full_training_that_does_not_fit_is_told_of_an_adapter_in_its_place(
    recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    full = ["--set", "steps.train.job=model.train", "--set", "steps.train.sequence_len=512"]
    Path(recipe).write_text(RECIPE.replace("    lora_r: 64\n", ""))
    assert run(["gpu", "plan", recipe, "--card", "rtx 4090", *full]) == REFUSED
    assert "  job adapter.train with method qlora\n" in capsys.readouterr().err


def test_a_plan_as_json_has_every_byte(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["gpu", "plan", recipe, "--vram", "32", "--json"]) == 0
    [plan] = json.loads(capsys.readouterr().out)
    assert plan["parameters"] == 8_030_261_248
    assert sum(part["size_bytes"] for part in plan["parts"] if part["place"] == "device") == plan["device_bytes"]
    [fit] = plan["fits"]
    assert (fit["room_bytes"], fit["verdict"]) == (32 * 2**30, "fits")
    assert fit["largest"]["sequence_len"] > 4096


def test_the_ram_of_this_machine_is_planned_by_a_models_own_weights(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_tiny_model(tmp_path / "tiny")
    assert run(["gpu", "plan", recipe, "--cpu", "--model", str(folder), "--json"]) == 0
    [plan] = json.loads(capsys.readouterr().out)
    assert plan["shape_from"] == f"the weights in {folder}"
    assert plan["sequence_len"] == 512, "the model's own context"
    assert plan["fits"][0]["device"] == "this machine's RAM"


def test_a_model_that_is_neither_at_hand_nor_known_is_asked_for(
    recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["gpu", "plan", recipe, "--set", "steps.base.model=somebody/Llama-4.2-9B"]) == 4
    assert "--model FOLDER names a folder" in capsys.readouterr().err
    assert run(["gpu", "plan", recipe, "--card", "RTX 5090", "--cpu"]) == USAGE


def test_a_host_without_cards_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["gpu", "ls"]) == 0
    assert "training runs on the CPU" in capsys.readouterr().err
    assert run(["gpu", "ls", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_cards_are_listed_by_the_numbers_of_the_driver(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lost, slices = StandInCard("GPU-0", "a card", is_lost=True), [StandInCard("MIG-1", "a slice", total_mib=20096)]
    install(monkeypatch, StandInDriver([lost, StandInCard("GPU-1", "A100", slices=slices), StandInCard("GPU-2", "L4")]))
    assert run(["gpu", "ls", "--json"]) == 0
    assert [(card["number"], card["uuid"]) for card in json.loads(capsys.readouterr().out)] == [
        ("1", "MIG-1"),
        ("2", "GPU-2"),
    ]
    assert run(["gpu", "ls"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["1", "2"]


def test_a_job_that_waits_for_its_card_says_who_holds_it_and_what_was_repaired(
    yard: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    new = NewJob(kind="adapter.train", queue="gpu", spec={})
    yard.submit([new], actor="user:me")
    assert yard.claim(worker="w", lease_seconds=60, job_id=new.id) is not None
    smaller = {"before": {"micro_batch_size": 2}, "after": {"micro_batch_size": 1}, "why": "memory ran out: 2 → 1"}
    yard.record(new.id, Event.REPAIRED, actor="w", fence=1, detail=smaller)
    assert yard.claim(worker="w", lease_seconds=60, job_id=new.id) is not None
    soon, held = datetime.now(UTC) + timedelta(seconds=15), {"why": "held by python (pid 4711, 20.0 GiB)"}
    yard.record(new.id, Event.POLL_SCHEDULED, actor="w", fence=2, detail=held, reason=Reason.GPU, due_at=soon)
    assert run(["jobs", "explain", new.id]) == 0
    told = capsys.readouterr().out
    assert "repaired: memory ran out: 2 → 1" in told
    assert "it waits for its card, the next look is in" in told
    assert "held by python (pid 4711, 20.0 GiB)" in told
    assert run(["jobs", "events", new.id, "--json"]) == 0
    events = json.loads(capsys.readouterr().out)
    assert [event["detail"] for event in events if event["name"] == "repaired"] == [smaller]


def test_an_axolotl_file_is_planned_like_a_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "talk.jsonl").write_text("{}\n")
    (tmp_path / "mine.yml").write_text("adapter: lora\nlora_r: 8\nsequence_len: 64\ndatasets: [{path: talk.jsonl}]\n")
    path = tmp_path / "recipe.yaml"
    path.write_text("name: six\nsteps:\n  train: {job: axolotl.train, config: mine.yml, base_model: tiny}\n")
    make_tiny_model(tmp_path / "tiny")
    assert run(["gpu", "plan", str(path), "--json", "--vram", "8"]) == 0
    parts = {part["name"]: part for part in json.loads(capsys.readouterr().out)[0]["parts"]}
    assert parts["logits"]["how"].endswith("all at once")
    (tmp_path / "mine.yml").write_text("adapter: lora\ndatasets: [{path: elsewhere/hub}]\n")
    assert run(["gpu", "plan", str(path)]) == USAGE
    assert "mine.yml line 2" in capsys.readouterr().err
    (tmp_path / "mine.yml").write_text("adapter: lora\ndatasets: [{path: talk.jsonl}]\n")
    made = "{job: dataset.prepare, source: talk.jsonl, base_model: tiny}"
    for given, said in (("config: $made.dataset", "config is made by another step"), ("config: mine.yml", "")):
        path.write_text(
            f"name: six\nsteps:\n  made: {made}\n  train: {{job: axolotl.train, {given}, base_model: tiny, "
            "checkpoint: $made.examples}\n"
        )
        assert run(["gpu", "plan", str(path), "--vram", "8"]) == (USAGE if said else 0)
        assert said in capsys.readouterr().err
