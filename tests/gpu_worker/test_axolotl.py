"""A real axolotl, where one is installed: it trains, is killed, paused and resumed, and runs a file of the user's.

`TUNEYARD_TRAINING__AXOLOTL` names its program, as it does to a worker. Each start of it imports for some ten seconds of
a CPU, so this file takes minutes.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from gpu_worker.adapter import check_fit, read_adapter
from gpu_worker.axolotl.program import ask, find_axolotl
from gpu_worker.axolotl.users_file import check_known, read_file
from gpu_worker.child import run_child
from gpu_worker.fitting.allowances import Allowances
from gpu_worker.fitting.repairing import train_within_memory
from gpu_worker.training_config import TrainingOrder
from queue_app.errors import Invalid, Paused, Permanent, Repaired, Transient
from queue_app.lifecycle import State
from queue_app.recipe.fields import Surroundings, find_faults
from settings import Settings, TrainingSettings
from tasks.train_axolotl import TrainAxolotl
from tests.conftest import RunHere
from tests.gpu_worker import test_training
from tests.gpu_worker.stand_in import StandIn
from tests.gpu_worker.test_axolotl_file import FILE, write_file
from tests.gpu_worker.test_training import STEPS, at_step, pause, write_dataset
from tests.tiny_model import make_tiny_model

if TYPE_CHECKING:
    from queue_app.store import Store


def _installed() -> Path | None:
    named = os.environ.get("TUNEYARD_TRAINING__AXOLOTL")
    try:
        return find_axolotl(Path(named) if named else None)
    except Invalid:
        return None


PROGRAM = _installed()
pytestmark = [
    pytest.mark.skipif(
        PROGRAM is None, reason="axolotl is not installed; TUNEYARD_TRAINING__AXOLOTL names its program"
    ),
    pytest.mark.timeout(1200),
]


@pytest.fixture(autouse=True)
def _plain_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")  # what is reserved is what is used
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "tiny")


def order(folder: Path, model: Path, **changes: Any) -> TrainingOrder:
    folder.mkdir(exist_ok=True)
    made = test_training.order(folder, model, engine="axolotl", **{"method": "lora", **changes})
    return TrainingOrder.model_validate(made | {"axolotl": {"program": PROGRAM}})


def train(attempt: StandIn, model: Path, **changes: Any) -> dict[str, Any]:
    made = order(attempt.workdir, model, **changes).model_dump(mode="json")
    return run_child(attempt, "gpu_worker.training", made)


def axolotls() -> list[psutil.Process]:
    """Its processes below this one."""
    return [each for each in psutil.Process().children(recursive=True) if str(PROGRAM) in each.cmdline()]


def kill_axolotl() -> None:
    for process in axolotls():
        process.send_signal(signal.SIGKILL)


def kill_child() -> None:
    for process in psutil.Process().children():
        process.send_signal(signal.SIGKILL)


def test_it_trains_and_neither_its_own_death_nor_that_of_the_child_loses_more_than_to_the_last_checkpoint(
    tmp_path: Path, model: Path
) -> None:
    whole = train(StandIn(tmp_path / "whole"), model)
    assert (whole["steps"], len(whole["losses"]), whole["losses"][-1] < whole["losses"][0]) == (STEPS, STEPS, True)
    assert [look["step"] for look in whole["holdout_losses"]] == [3, 6, 9, 10]
    assert (whole["examples"], whole["holdout_examples"], whole["resumed_from"]) == (7, 3, None)
    assert whole["trained_tokens"] > 0

    folder = tmp_path / "broken"
    with pytest.raises(Transient, match="axolotl was killed from outside"):
        train(StandIn(folder, at_step(5, kill_axolotl)), model)
    with pytest.raises(Transient, match=r"gpu_worker.training was killed from outside"):
        train(StandIn(folder, at_step(8, kill_child), number=2), model)
    assert axolotls() == []
    made = train(StandIn(folder, number=3), model)
    assert (made["resumed_from"], made["steps"], made["losses"]) == (6, STEPS, whole["losses"])
    parts = read_adapter(folder / "adapter")
    check_fit(parts, folder / "adapter", model)
    assert json.loads((folder / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny"

    again = train(StandIn(folder, number=4), model)  # as after a crash between the last step and the end of the job
    assert (again["resumed_from"], again["tokens_per_second"]) == (STEPS, None)
    same = ("losses", "holdout_losses", "trained_tokens", "device_name", "examples", "versions")
    assert [again[name] for name in same] == [made[name] for name in same]


def test_pause_saves_after_the_step_and_a_resume_takes_it_up_there(tmp_path: Path, model: Path) -> None:
    attempt = StandIn(tmp_path / "run", at_step(4, pause))
    with pytest.raises(Paused):
        train(attempt, model)
    paused_at = attempt.last("checkpoint_step")
    assert 4 <= paused_at < STEPS
    assert axolotls() == []
    made = train(StandIn(tmp_path / "run", number=2), model)
    assert (made["resumed_from"], made["steps"], len(made["losses"])) == (paused_at, STEPS, STEPS)


def test_a_loss_that_is_no_number_stops_it_with_the_step(tmp_path: Path, model: Path) -> None:
    with pytest.raises(Permanent, match=r"step \d+: the loss is .*lower learning_rate"):
        train(StandIn(tmp_path / "run"), model, learning_rate=1e30, warmup=0.0, scheduler="constant")
    assert axolotls() == []


def test_memory_that_runs_out_goes_down_the_ladder(tmp_path: Path, model: Path) -> None:
    def heed(progress: dict[str, Any]) -> None:
        if progress.get("phase") == "training" and "step" not in progress:
            process = axolotls()[0]  # before those that it has started
            limit = process.memory_info().data + 60 * 2**20
            process.rlimit(psutil.RLIMIT_DATA, (limit, limit))

    asked = order(tmp_path / "run", model, micro_batch_size=256, gradient_accumulation_steps=1, sequence_len=512)
    write_dataset(tmp_path / "unused", 1)
    text = " ".join(str(number) for number in range(140))
    row = {"prompt": [{"role": "user", "content": "x"}], "completion": [{"role": "assistant", "content": text}]}
    asked.rows.write_text(f"{json.dumps(row)}\n" * 256)
    with pytest.raises(Repaired, match="memory ran out: micro_batch_size 256 → 128") as repaired:
        train_within_memory(StandIn(tmp_path / "run", heed), asked, Allowances())
    assert dict(repaired.value.after) == {"micro_batch_size": 128, "gradient_accumulation_steps": 2}


def test_what_this_version_does_not_know_is_refused_with_line_and_nearest_key(tmp_path: Path) -> None:
    assert PROGRAM is not None
    wrong = FILE.replace("micro_batch_size", "micro_batch_sice").replace("    type:", "    typ:")
    path = write_file(tmp_path, wrong, sample_packing="[1, 2]")
    file = read_file(path, has_base=False, has_dataset=False, has_holdout=False)
    with pytest.raises(Invalid) as refused:
        check_known(file, ask(PROGRAM, file.settings))
    told = str(refused.value).splitlines()
    assert [line.removeprefix(f"{path} ").partition(":")[0] for line in told] == ["line 8", "line 12", "line 18"]
    assert 'did you mean "type"?' in told[0]
    assert 'did you mean "micro_batch_size"?' in told[1]
    assert '"sample_packing": input should be a valid boolean' in told[2]
    here = Surroundings(tmp_path, Settings(training=TrainingSettings(axolotl=PROGRAM)))
    [(_, said)] = find_faults(TrainAxolotl, {"config": path.name}, here)  # as where the job is submitted
    assert said.splitlines() == told


def test_a_file_of_the_users_becomes_an_adapter_that_merges(store: Store, settings: Settings, tmp_path: Path) -> None:
    here = RunHere(store, settings.model_copy(update={"training": TrainingSettings(axolotl=PROGRAM)}))
    make_tiny_model(tmp_path / "tiny")
    path = write_file(tmp_path)
    write_dataset(tmp_path / "talk.jsonl", 12)
    job = here("axolotl.train", config=str(path))
    assert job.state == State.SUCCEEDED, job.failure
    assert job.result is not None
    assert (job.result["engine"], job.result["examples"], job.result["dropped_examples"]) == ("axolotl", 9, 0)
    assert job.result["holdout_loss"] == job.result["best_holdout_loss"] < job.result["first_holdout_loss"]
    assert (here.artifact(job.result["adapter"]) / "axolotl.yml").read_text() == path.read_text()
    merged = here("adapter.merge", adapter=job.result["adapter"], base_model=str(tmp_path / "tiny"))
    assert merged.state == State.SUCCEEDED, merged.failure

    other = write_file(tmp_path, FILE.replace("talk.jsonl", "some/hub"), val_set_size="", max_steps="2", num_epochs="")
    dataset = write_dataset(tmp_path / "other.jsonl", 5)
    job = here("axolotl.train", config=str(other), dataset=str(dataset), holdout=str(dataset))
    assert job.state == State.SUCCEEDED, job.failure
    assert job.result is not None
    assert (job.result["steps"], job.result["examples"], job.result["holdout_loss"] is None) == (2, 5, False)
