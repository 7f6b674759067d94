"""A child that runs out of memory for real goes down the ladder and finishes, with the effective batch kept."""

from __future__ import annotations

import json
import re
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from gpu_worker.checkpoint_copies import Copies
from gpu_worker.child import ChildCrashed, run_child
from gpu_worker.disk_room import require_room
from gpu_worker.fitting import checklist
from gpu_worker.fitting.allowances import Allowances
from gpu_worker.fitting.cards import Card, Holder
from gpu_worker.fitting.machine import Machine
from gpu_worker.fitting.prediction import GIB, predict
from gpu_worker.fitting.repairing import train_within_memory
from gpu_worker.fitting.shape import read_shape
from gpu_worker.run_notes import RunNotes
from gpu_worker.training_config import TrainingConfig, TrainingOrder
from queue_app import nvml
from queue_app.cli.happenings import told
from queue_app.errors import Paused, Permanent, Repaired, StandsStill
from queue_app.job_type import Attempt, Result, Spec, job
from queue_app.lifecycle import Cause, Reason, State
from tests.driver_stand_in import StandInCard, StandInDriver, install
from tests.gpu_worker.stand_in import MODULE, StandIn
from tests.tiny_model import make_tiny_model

if TYPE_CHECKING:
    from tests.conftest import RunHere

MIB = 2**20
BATCH = 32
STEPS = 3


@pytest.fixture(autouse=True)
def _plain_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")  # what is reserved is what is used
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def memory_mib() -> Iterator[Callable[[int], None]]:
    """Let this process, and so its children, take only so much more memory than it has."""
    before = resource.getrlimit(resource.RLIMIT_DATA)

    def allow(mib: int) -> None:
        limit = psutil.Process().memory_info().data + mib * MIB
        resource.setrlimit(resource.RLIMIT_DATA, (limit, before[1]))

    yield allow
    resource.setrlimit(resource.RLIMIT_DATA, before)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "tiny")


def order(folder: Path, model: Path, **changes: Any) -> TrainingOrder:
    folder.mkdir(exist_ok=True)
    rows = [{"prompt": [{"role": "user", "content": "x"}], "completion": [_answer(n)]} for n in range(BATCH)]
    (folder / "train.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    settings: dict[str, Any] = {
        "method": "lora",
        "micro_batch_size": BATCH,
        "gradient_accumulation_steps": 1,
        "max_steps": STEPS,
        "save_steps": 1,
        "sequence_len": 256,
    }
    return TrainingOrder(
        engine="trl",
        base_model="tiny",
        model_folder=model,
        rows=folder / "train.jsonl",
        holdout_rows=None,
        checkpoints=folder / "checkpoints",
        output=folder / "trained",
        curves=folder / "curves",
        hyperparameters=TrainingConfig(**settings | changes),
    )


def _answer(number: int) -> dict[str, str]:
    return {"role": "assistant", "content": f"{number} the yard runs every train on time " * 40}


@dataclass
class Limited:
    """What a job does until it ends, its child allowed only so much more memory than it has before it trains."""

    folder: Path
    room_mib: int
    allowances: Allowances = field(default_factory=Allowances)
    repairs: list[Repaired] = field(default_factory=list)
    attempts: list[StandIn] = field(default_factory=list)

    def finish(self, order: TrainingOrder, *, pause_at: int | None = None) -> dict[str, Any]:
        while True:
            attempt = StandIn(
                self.folder,
                heed=lambda progress: self._heed(progress, pause_at),
                artifacts_url=str(self.folder / "artifacts"),
            )
            attempt.number = len(self.attempts) + 1
            self.attempts.append(attempt)
            try:
                return train_within_memory(attempt, order, self.allowances)
            except Repaired as rung:
                self.repairs.append(rung)

    def _heed(self, progress: dict[str, Any], pause_at: int | None) -> None:
        if progress.get("phase") == "training" and "step" not in progress:  # before the first one
            [child] = psutil.Process().children()
            limit = child.memory_info().data + self.room_mib * MIB
            resource.prlimit(child.pid, resource.RLIMIT_DATA, (limit, limit))
        if pause_at is not None and progress.get("step", 0) >= pause_at:
            raise Paused("stand still")


@pytest.mark.timeout(600)
def test_a_resume_that_runs_out_of_memory_goes_down_the_ladder_and_the_next_run_begins_there(
    tmp_path: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "first"
    asked = order(folder, model)
    roomy = Limited(folder, room_mib=2000)
    with pytest.raises(Paused):
        roomy.finish(asked, pause_at=1)
    paused_at = roomy.attempts[-1].last("step")
    assert roomy.repairs == []

    tight = Limited(folder, room_mib=90)
    made = tight.finish(asked)
    assert tight.repairs[0].before == {"micro_batch_size": 32, "gradient_accumulation_steps": 1}
    assert tight.repairs[0].after == {"micro_batch_size": 16, "gradient_accumulation_steps": 2}
    told = "memory ran out: micro_batch_size 32 → 16, gradient_accumulation_steps 1 → 2; goes on from step"
    assert str(tight.repairs[0]) == f"{told} {paused_at}"
    assert "DefaultCPUAllocator: can't allocate memory" in (folder / "logs" / "child.log").read_text()
    assert made["steps"] == len(made["losses"]) == STEPS
    assert made["resumed_from"] == paused_at
    used = made["hyperparameters"]
    assert used["micro_batch_size"] * used["gradient_accumulation_steps"] == BATCH
    assert made["repairs"] == {name: used[name] for name in ("micro_batch_size", "gradient_accumulation_steps")}

    again = tmp_path / "second"
    alike = Limited(again, room_mib=300)
    known = alike.finish(order(again, model, learning_rate=1e-3))
    assert alike.repairs == [], "what worked is remembered"
    assert known["hyperparameters"]["micro_batch_size"] == used["micro_batch_size"]
    assert known["repairs"] == made["repairs"]
    [kept] = (alike.attempts[0].settings.home / "fitted").iterdir()
    assert f"taken as there: micro_batch_size {used['micro_batch_size']}" in caplog.text
    assert f"(remove {kept.absolute()} to try what was asked for" in caplog.text


@pytest.mark.timeout(300)
def test_settings_found_on_one_host_hold_on_another_and_a_store_that_takes_nothing_fails_no_training(
    tmp_path: Path, model: Path
) -> None:
    asked = order(tmp_path / "first", model)
    found = {"micro_batch_size": 16, "gradient_accumulation_steps": 2}
    first = StandIn(tmp_path / "first")
    RunNotes(1, found).write(first.workdir)
    assert list(Copies(first, asked.checkpoints, asked.curves).bring_up_to_date(lambda: None)) == []

    second = StandIn(tmp_path / "second", number=2)
    Path(second.artifacts.shelf.path, "attempt-2").write_text("a file where its folder should be")
    made = train_within_memory(second, order(second.workdir, model), Allowances())
    assert made["repairs"] == found
    assert made["hyperparameters"]["micro_batch_size"] == 16
    assert made["steps"] == len(made["losses"]) == STEPS
    assert made["failed_copies"] >= 1


def test_a_run_that_cannot_fit_is_refused_with_the_figures_and_starts_nothing(
    tmp_path: Path, model: Path, memory_mib: Callable[[int], None]
) -> None:
    asked = order(tmp_path / "job", model, micro_batch_size=8192)
    memory_mib(2048)
    attempt = StandIn(tmp_path / "job")
    with pytest.raises(Permanent, match=r"it does not fit: [\d.]+ GiB \(± 15 %\) are needed, the RAM here") as refused:
        train_within_memory(attempt, asked, Allowances())
    assert refused.value.cause == Cause.OOM
    assert re.search(r"micro_batch_size \d+[^;]*; `tuneyard gpu plan` shows", str(refused.value))
    assert not (tmp_path / "job" / "logs").exists(), "no child was started"


def test_ranks_without_cards_share_the_ram(tmp_path: Path, model: Path, memory_mib: Callable[[int], None]) -> None:
    memory_mib(2048)
    needed = "the RAM here has ([0-9.]+) GiB"
    told = []
    for cards, words in ((1, needed), (2, f"each of 2 processes with a share of {needed}")):
        asked = order(tmp_path / "job", model, micro_batch_size=8192, cards=cards)
        with pytest.raises(Permanent, match="it does not fit") as refused:
            train_within_memory(StandIn(tmp_path / "job"), asked, Allowances())
        found = re.search(words, str(refused.value))
        assert found is not None, str(refused.value)
        told.append(float(found[1]))
    assert told[1] == pytest.approx(told[0] / 2, abs=0.2)


def planned(model: Path) -> checklist.Planned:
    config, machine = TrainingConfig(method="lora"), Machine("cpu")
    shape = read_shape(model)
    return checklist.Planned(shape, config, machine, predict(shape, config, machine))


def test_a_device_full_of_others_work_makes_the_job_wait_and_says_who_holds_it(model: Path) -> None:
    run = planned(model)
    holders = (Holder(4711, "python", 20 * GIB), Holder(4712, "a process not seen from here", None))
    card = Card("0", "RTX 5090", "GPU-1", 32 * GIB, GIB // 4, (12, 0), (12, 8), "575.1", holders)
    room = checklist.room_of(card)
    assert room is not None
    with pytest.raises(
        StandsStill, match=r"0\.2 of 32\.0 GiB are free; held by python \(pid 4711, 20\.0 GiB\)"
    ) as waits:
        list(checklist.require_fit(run, room, even_if_too_large=False))
    assert (waits.value.reason, waits.value.seconds) == (Reason.GPU, checklist.LOOK_AGAIN_SECONDS)
    free = replace(room, free_bytes=room.total_bytes)
    assert list(checklist.require_fit(run, free, even_if_too_large=False)) == []


@pytest.mark.parametrize("hangs_in", [None, "nvmlDeviceGetMemoryInfo"])
def test_a_card_that_is_lost_or_whose_driver_hangs_makes_the_job_wait_for_another(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, hangs_in: str | None
) -> None:
    monkeypatch.setattr(nvml, "ANSWER_SECONDS", 0.2)
    driver = StandInDriver([StandInCard("GPU-1", "RTX 5090", is_lost=hangs_in is None)], hangs_in=hangs_in)
    install(monkeypatch, driver)
    words = "fallen off the bus" if hangs_in is None else "is not answered: the driver hangs"
    with pytest.raises(StandsStill, match=words) as waits:
        train_within_memory(StandIn(tmp_path / "job"), order(tmp_path / "job", model), Allowances())
    driver.recovered.set()
    assert (waits.value.reason, waits.value.seconds) == (Reason.GPU, checklist.LOOK_AGAIN_SECONDS)
    assert not (tmp_path / "job" / "logs").exists(), "no child was started"


def test_who_insists_may_start_what_does_not_fit_and_what_is_at_risk_is_noted(model: Path) -> None:
    run = planned(model)
    small = checklist.Room("a card", run.prediction.device_bytes // 2, run.prediction.device_bytes // 2, "")
    [note] = checklist.require_fit(run, small, even_if_too_large=True)
    assert note.startswith("memory will hardly do")
    tight = checklist.Room("a card", run.prediction.device_bytes, run.prediction.device_bytes, "")
    [note] = checklist.require_fit(run, tight, even_if_too_large=False)
    assert note.startswith("memory is at risk")


def test_checkpoints_that_come_never_or_all_the_time_are_noted() -> None:
    config = TrainingConfig(save_steps=20, micro_batch_size=2, gradient_accumulation_steps=2)
    assert (
        checklist.checkpoint_note(config, 40) == "save_steps 20 is more than the 10 steps: a crash loses the whole run"
    )
    assert checklist.checkpoint_note(config, 80) is None
    often = config.model_copy(update={"save_steps": 1, "max_steps": 5000})
    assert checklist.checkpoint_note(often, 1) == "save_steps 1 writes 5,000 checkpoints in 5,000 steps"


def test_a_dataset_without_examples_and_a_disk_without_room_are_refused(tmp_path: Path, model: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("\n")
    with pytest.raises(Permanent, match="rows.jsonl has no examples"):
        checklist.read_rows(tmp_path / "rows.jsonl")
    with pytest.raises(Permanent, match=r"the checkpoints need [\d,]+ MiB, and [\d,]+ MiB are free on that disk"):
        require_room(tmp_path, 2**60, "the checkpoints")
    require_room(tmp_path, 1, "the checkpoints")


def test_a_child_whose_last_words_are_that_memory_ran_out_is_no_bug(tmp_path: Path) -> None:
    words = "terminate called after throwing an instance of 'std::bad_alloc'\n"
    with pytest.raises(Permanent, match="ended with status 134, for memory ran out") as starved:
        run_child(StandIn(tmp_path), MODULE, {"act": "exit", "status": 134, "last_words": words})
    assert starved.value.cause == Cause.OOM
    with pytest.raises(ChildCrashed, match="ended with status 1"):  # what an earlier attempt said is over
        run_child(StandIn(tmp_path, number=2), MODULE, {"act": "exit", "status": 1})


class Nothing(Spec):
    """Asks for nothing."""


class Done(Result):
    """Says which attempt it was."""

    attempt: int


@job("gpu.try", queues=("gpu",))
def try_it(spec: Nothing, attempt: Attempt) -> Done:
    """Run out of memory, then find the card full, then be done."""
    if attempt.number == 1:
        raise Repaired("memory ran out: micro_batch_size 2 → 1", {"micro_batch_size": 2}, {"micro_batch_size": 1})
    if attempt.number == 2:
        raise StandsStill("30.0 GiB are needed on RTX 5090", Reason.GPU, 0.0)
    return Done(attempt=attempt.number)


def test_the_events_of_a_repaired_job_say_what_was_changed_and_no_failure_is_counted(run_here: RunHere) -> None:
    here = run_here.declaring(try_it)
    ended = here("gpu.try")
    assert (ended.state, ended.attempt, ended.failures) == (State.SUCCEEDED, 3, 0)
    history = here.store.read.history(ended.id)
    assert [event.name for event in history][1:5] == ["started", "repaired", "started", "poll_scheduled"]
    assert history[2].detail["before"] == {"micro_batch_size": 2}
    assert history[2].detail["after"] == {"micro_batch_size": 1}
    assert any("repaired: memory ran out: micro_batch_size 2 → 1" in line for line in told(history))
    assert any("put off: 30.0 GiB are needed on RTX 5090" in line for line in told(history))
