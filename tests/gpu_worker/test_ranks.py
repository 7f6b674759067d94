"""A run over several cards: as one card would have done it, ended by any of its ranks, resumed by all."""

from __future__ import annotations

import importlib
import json
import os
import signal
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from gpu_worker.backends import choose_engine
from gpu_worker.child import run_child
from gpu_worker.training_config import TrainingConfig, TrainingOrder
from queue_app.errors import Invalid, Paused, Permanent, Transient
from queue_app.lifecycle import Cause
from tests.conftest import eventually
from tests.gpu_worker.rank_acts import MODULE
from tests.gpu_worker.stand_in import StandIn
from tests.tiny_model import make_tiny_model

if TYPE_CHECKING:
    from pathlib import Path

TEXT = "the yard runs every train on time and the tune is measured before it leaves the yard"


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the tiny model's steps are too small to share


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "tiny")


def answer(words: int) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": " ".join(TEXT.split()[:words])}]


def write_rows(path: Path, number: int, *, weights: list[float] | None = None, preferences: bool = False) -> Path:
    """Examples of unequal length."""
    made = []
    for n in range(number):
        row: dict[str, Any] = {"prompt": [{"role": "user", "content": f"line {n}"}]}
        row |= {"chosen": answer(3), "rejected": answer(5)} if preferences else {"completion": answer(2 + n % 7)}
        made.append(row if weights is None else row | {"weight": weights[n % len(weights)]})
    path.write_text("".join(f"{json.dumps(row)}\n" for row in made))
    return path


def order(folder: Path, model: Path, weights: list[float] | None = None, **changes: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True, parents=True)
    asked: dict[str, Any] = {"max_steps": 2, "save_steps": 2, "sequence_len": 256, "method": "lora"}
    preferences = changes.get("objective") == "dpo"
    return TrainingOrder(
        engine="trl",
        base_model="tiny",
        model_folder=model,
        rows=write_rows(folder / "rows.jsonl", 16, preferences=preferences, weights=weights),
        holdout_rows=write_rows(folder / "holdout.jsonl", 5, preferences=preferences),
        checkpoints=folder / "checkpoints",
        output=folder / "adapter",
        curves=folder / "tensorboard",
        hyperparameters=TrainingConfig(**asked | {"learning_rate": 1e-2} | changes),
    ).model_dump(mode="json")


def losses(made: dict[str, Any]) -> list[float]:
    return [*made["losses"], *(look["loss"] for look in made["holdout_losses"])]


def second() -> psutil.Process | None:
    """The process of the run that is not rank 0."""
    family = psutil.Process().children(recursive=True)
    return next((each for each in family if "gpu_worker.rank" in each.cmdline()), None)


def act(folder: Path, what: str, **config: Any) -> dict[str, Any]:
    return run_child(StandIn(folder), MODULE, {"act": what, "ranks": 2, **config})


CASES: dict[str, dict[str, Any]] = {
    "plain": {"micro_batch_size": 3, "max_steps": 3},  # an epoch that ends in the middle of a batch, and another one
    "weighted": {"method": "qlora", "micro_batch_size": 2, "weights": [0.5, 1.0, 1.0, 2.0]},
    "packed": {"packing": "wrapped", "sequence_len": 64},
    "preferences": {"objective": "dpo"},
    "all weights": {"method": "full", "learning_rate": 1e-3},
}


@pytest.mark.timeout(300)
def test_two_cards_learn_what_one_card_learns_with_twice_the_accumulation(tmp_path: Path, model: Path) -> None:
    def made(name: str, ranks: int, accumulation: int) -> dict[str, Any]:
        steps: dict[str, Any] = {"cards": ranks, "gradient_accumulation_steps": accumulation}
        orders = {case: order(tmp_path / name / case, model, **changes, **steps) for case, changes in CASES.items()}
        return run_child(StandIn(tmp_path / name), MODULE, {"act": "train", "ranks": ranks, "orders": orders})

    two, one = made("two", 2, 2), made("one", 1, 4)
    for case in CASES:
        near = 1e-3 if one[case]["dtype"] == "bfloat16" else 1e-5
        assert losses(two[case]) == pytest.approx(losses(one[case]), rel=near), case
        assert two[case]["steps"] == one[case]["steps"], case


def pause() -> None:
    raise Paused("stand still")


def kill_the_second() -> None:
    if found := second():  # a step is told more than once
        os.kill(found.pid, signal.SIGKILL)


@pytest.mark.timeout(300)
def test_a_run_over_two_cards_that_lost_one_has_the_losses_of_an_undisturbed_one(tmp_path: Path, model: Path) -> None:
    def train(name: str, heed: Any = lambda _: None) -> dict[str, Any]:
        steps: dict[str, Any] = {"micro_batch_size": 3, "max_steps": 6}  # the third one ends a ragged epoch
        wanted = order(tmp_path / name, model, cards=2, lora_dropout=0.1, gradient_accumulation_steps=1, **steps)
        return run_child(StandIn(tmp_path / name, heed=heed), "gpu_worker.training", wanted)

    undisturbed = train("undisturbed")
    with pytest.raises(Transient, match="on card 2 of 2 was killed from outside"):
        train("disturbed", lambda progress: kill_the_second() if progress.get("step") == 3 else None)
    assert second() is None
    [checkpoint] = (tmp_path / "disturbed" / "checkpoints").glob("*/manifest.json")
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= set(json.loads(checkpoint.read_text())["files"])
    resumed = train("disturbed")
    assert losses(resumed) == losses(undisturbed)
    assert resumed["resumed_from"] == 2


def test_memory_that_runs_out_on_another_card_is_the_runs(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="^on card 2 of 2: memory ran out in this one") as failed:
        act(tmp_path, "fail", first=False)
    assert failed.value.cause == Cause.OOM


def test_a_rank_that_is_killed_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(Transient, match=r"on card 2 of 2 was killed from outside \(exit status -9\)"):
        act(tmp_path, "die", first=False)


def test_what_ends_the_first_rank_is_told_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="^memory ran out in this one"):
        act(tmp_path, "fail", first=True)


def test_no_rank_outlives_the_first(tmp_path: Path) -> None:
    with pytest.raises(Transient, match="was killed from outside"):
        act(tmp_path, "die", first=True)
    assert psutil.Process().children(recursive=True) == []


def test_all_ranks_stop_when_the_first_is_asked_to(tmp_path: Path) -> None:
    attempt = StandIn(tmp_path, heed=lambda progress: pause() if progress.get("step", 0) >= 3 else None)
    with pytest.raises(Paused):
        run_child(attempt, MODULE, {"act": "obey", "ranks": 2})
    assert len({report["rank"] for report in attempt.reports}) == 1, "only the first speaks"
    eventually(lambda: psutil.Process().children(recursive=True) == [], what="the end of both")


def test_an_engine_that_trains_on_one_card_refuses_several_and_is_not_chosen_for_them() -> None:
    config = TrainingConfig(cards=2)
    for engine in ("unsloth", "axolotl"):
        with pytest.raises(Invalid, match="cards: 2 do not go through"):
            importlib.import_module(f"gpu_worker.backends.{engine}").validate(config, None)
    assert choose_engine("auto", TrainingConfig(cards=2)) == "trl"


def test_the_child_sees_the_cards_that_its_attempt_holds(tmp_path: Path) -> None:
    attempt = StandIn(tmp_path, cards=("GPU-b", "GPU-a"))
    seen = run_child(attempt, "tests.gpu_worker.stand_in", {"act": "environment"})
    assert seen["CUDA_VISIBLE_DEVICES"] == "GPU-b,GPU-a"
