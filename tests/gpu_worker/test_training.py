"""Training is real: the loss falls, and neither pause nor kill nor a damaged checkpoint changes where it goes."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from gpu_worker.backends import choose_engine
from gpu_worker.base_model import fingerprint, read_model
from gpu_worker.child import run_child
from gpu_worker.training_config import TrainingConfig, TrainingOrder
from queue_app.errors import Invalid, Paused, Transient
from queue_app.lifecycle import State
from tasks.train_adapter import TrainAdapter
from tests.gpu_worker.rank_acts import MODULE
from tests.gpu_worker.stand_in import StandIn
from tests.tiny_model import make_tiny_model

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RunHere

STEPS = 10
PROGRESS = {
    *("step", "steps", "loss", "learning_rate", "grad_norm", "tokens_per_second", "eta_seconds"),
    *("phase", "epoch", "epochs", "first_loss", "checkpoint_step"),
    *("examples", "truncated_examples", "dropped_examples", "weightless_examples", "holdout_examples"),
    *("first_holdout_loss", "holdout_loss", "holdout_step", "best_loss", "best_step"),
}
ANSWER = "the yard runs every train on time and the tune is measured before it leaves the yard"
needs_unsloth = pytest.mark.skipif(importlib.util.find_spec("unsloth") is None, reason="Unsloth is not installed")


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the tiny model's steps are too small to share


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "tiny")


def write_dataset(path: Path, count: int, *, words: int = 12) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": f"line {n}"}, {"role": "assistant", "content": _answer(n, words)}]}
        for n in range(count)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def _answer(number: int, words: int) -> str:
    return " ".join(ANSWER.split()[number % 5 : number % 5 + words])


def write_rows(path: Path, count: int) -> Path:
    rows = [
        {
            "prompt": [{"role": "user", "content": f"line {n}"}],
            "completion": [{"role": "assistant", "content": _answer(n, 2 + 3 * n)}],
        }
        for n in range(count)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def order(
    folder: Path,
    model: Path,
    rows: Path | None = None,
    holdout_rows: Path | None = None,
    engine: str = "trl",
    **changes: Any,
) -> dict[str, object]:
    rows = rows or write_rows(folder / "rows.jsonl", 7)  # four steps an epoch, the last of them short
    hyperparameters = {
        "max_steps": STEPS,
        "save_steps": 3,
        "learning_rate": 1e-2,
        "lora_dropout": 0.05,
        "gradient_accumulation_steps": 2,
        "sequence_len": 256,
    }
    made = TrainingOrder(
        engine=engine,
        base_model="tiny",
        model_folder=model,
        rows=rows,
        holdout_rows=holdout_rows or write_rows(folder / "holdout.jsonl", 3),
        checkpoints=folder / "checkpoints",
        output=folder / "adapter",
        curves=folder / "tensorboard",
        hyperparameters=TrainingConfig(**hyperparameters | changes),
    )
    return made.model_dump(mode="json")


def rows_of(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def train(folder: Path, model: Path, attempt: StandIn | None = None, **changes: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    return run_child(attempt or StandIn(folder), "gpu_worker.training", order(folder, model, **changes))


def at_step(step: int, act: Any) -> Any:
    """A `heed` that acts when the step is reported."""
    return lambda progress: act() if progress.get("step") == step else None


def kill_children() -> None:
    for child in psutil.Process().children():
        os.kill(child.pid, signal.SIGKILL)


def pause() -> None:
    raise Paused("stand still")


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in (folder / "checkpoints").glob("checkpoint-*/manifest.json"))


@pytest.mark.timeout(300)
def test_a_run_that_was_paused_and_killed_and_lost_a_checkpoint_has_the_losses_of_an_undisturbed_one(
    tmp_path: Path, model: Path
) -> None:
    undisturbed = train(tmp_path / "undisturbed", model)

    folder = tmp_path / "disturbed"
    paused = StandIn(folder, heed=at_step(4, pause))
    with pytest.raises(Paused):
        train(folder, model, paused)
    assert (folder / "checkpoints" / f"checkpoint-{paused.last('step')}" / "manifest.json").is_file()

    killed = StandIn(folder, heed=at_step(8, kill_children))
    with pytest.raises(Transient, match="killed from outside"):
        train(folder, model, killed)
    steps = dict.fromkeys(report["step"] for report in killed.reports if "step" in report)
    assert list(steps) == [*range(paused.last("step") + 1, 9)]

    (folder / "checkpoints" / "checkpoint-6" / "optimizer.pt").write_bytes(b"not an optimizer")
    resumed = train(folder, model)
    assert resumed["resumed_from"] == paused.last("step")
    assert resumed["checkpoints_passed_over"] == 1
    assert "passed over checkpoint-6: optimizer.pt has 16 bytes" in (folder / "logs" / "child.log").read_text()
    assert resumed["losses"] == undisturbed["losses"]
    assert resumed["holdout_losses"] == undisturbed["holdout_losses"]
    assert [look["step"] for look in resumed["holdout_losses"]] == [3, 6, 9, STEPS]
    assert len(resumed["losses"]) == resumed["steps"] == STEPS


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ["trl", pytest.param("unsloth", marks=needs_unsloth)])
def test_training_lowers_the_loss_and_publishes_an_adapter(
    run_here: RunHere, tmp_path: Path, model: Path, engine: str
) -> None:
    job = run_here(
        "adapter.train",
        base_model=str(model),
        dataset=str(write_dataset(tmp_path / "train.jsonl", 24)),
        holdout=str(write_dataset(tmp_path / "holdout.jsonl", 4)),
        engine=engine,
        max_steps=STEPS,
        learning_rate=1e-2,
        sequence_len=65_536,
    )
    assert (job.state, job.failure) == (State.SUCCEEDED, None)
    assert job.result is not None
    assert job.result["engine"] == engine
    assert job.result["last_loss"] < job.result["first_loss"] - 0.5
    assert job.result["holdout_loss"] < job.result["first_loss"] - 0.5
    assert job.result["sequence_len"] == 512, "the model's own context is shorter than what was asked for"
    assert job.progress is not None
    assert set(job.progress) | {"checkpoint_step"} == PROGRESS  # half a second after another word it may go unwritten
    adapter = run_here.artifact(job.result["adapter"])
    names = {path.name for path in adapter.iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors", "training.json"}
    facts = json.loads((adapter / "training.json").read_text())
    assert facts["base_model"] == {"name": "tiny", "fingerprint": fingerprint(model)}
    assert len(facts["losses"]) == STEPS
    assert str(tmp_path) not in "".join(path.read_text() for path in adapter.glob("*.json"))


@pytest.mark.timeout(300)
def test_preferences_move_all_weights_of_a_model(run_here: RunHere, tmp_path: Path, model: Path) -> None:
    asked, better, worse = (
        {"role": r, "content": t} for r, t in (("user", "?"), ("assistant", "on time"), ("assistant", "x"))
    )
    rows = rows_of(tmp_path / "pairs.jsonl", *[{"messages": [asked, better], "rejected": [worse]}] * 4)
    job = run_here(
        "model.train", base_model=str(model), dataset=str(rows), objective="dpo", max_steps=4, learning_rate=1e-3
    )
    assert (job.state, job.failure) == (State.SUCCEEDED, None)
    assert job.result is not None
    assert job.result["engine"] == "trl", "Unsloth may be installed, but it learns no preferences here"
    assert job.result["first_loss"] == pytest.approx(0.6931, abs=1e-3), "at first the model is its own reference: log 2"
    assert job.result["last_loss"] < 0.6
    made = read_model(run_here.artifact(job.result["model"]))
    assert made.dtype == read_model(model).dtype


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", [pytest.param("unsloth", marks=needs_unsloth)])
def test_an_engine_of_its_own_loss_heeds_weights_too(tmp_path: Path, model: Path, engine: str) -> None:
    first, second = (json.loads(line) for line in write_rows(tmp_path / "rows", 3).read_text().splitlines()[1:])
    weighted = rows_of(tmp_path / "weighted.jsonl", first | {"weight": 2.0}, second)
    repeated = rows_of(tmp_path / "repeated.jsonl", first, first, second)
    told: dict[str, Any] = {"engine": engine, "max_steps": 1, "gradient_accumulation_steps": 3}
    orders = {rows.stem: order(tmp_path, model, rows, **told) for rows in (weighted, repeated)}
    made = run_child(StandIn(tmp_path), MODULE, {"act": "train", "ranks": 1, "orders": orders})
    assert made["weighted"]["losses"] == pytest.approx(made["repeated"]["losses"], rel=1e-3)


def test_steps_and_epochs_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="max_steps and epochs are both given"):
        TrainingConfig(max_steps=1, epochs=1)


@pytest.mark.parametrize("change", [{"seed": 2**32}, {"target_modules": ()}], ids=str)
def test_what_no_run_can_have_is_refused_before_it_begins(change: dict[str, Any]) -> None:
    TrainingConfig(seed=2**32 - 1, target_modules=("q_proj",))
    with pytest.raises(ValueError, match=next(iter(change))):
        TrainingConfig(**change)


def test_several_cards_are_refused_before_any_are_reserved() -> None:
    told = {"base_model": "tiny", "dataset": "rows.jsonl", "cards": 2}
    assert TrainAdapter.model_validate(told | {"engine": "trl"}).cards == 2
    for engine in ("unsloth", "axolotl"):
        with pytest.raises(ValueError, match=f"cards: 2 do not go through {engine}"):
            TrainAdapter.model_validate(told | {"engine": engine})
    with pytest.raises(Invalid, match="another step cannot say how many"):
        TrainingConfig.cards_needed({"cards": "$parts.number"})
    assert TrainingConfig.cards_needed({"cards": "two"}) == 1, "what is no number is refused as such"


@needs_unsloth
def test_auto_is_unsloth_where_it_is_installed() -> None:
    assert choose_engine("auto") == "unsloth"
    assert choose_engine("auto", TrainingConfig(packing="bfd")) == "trl"  # which Unsloth refuses
