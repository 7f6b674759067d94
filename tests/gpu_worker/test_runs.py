"""Whole runs in this process, each a second or two: what is trained, what stops it, what is published."""

from __future__ import annotations

import json
import os
import resource
import shutil
import struct
import threading
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from gpu_worker import training
from gpu_worker.checkpoints import complete
from gpu_worker.child_side import Channel, Stopped
from gpu_worker.disk_room import no_room
from gpu_worker.divergence import Course
from gpu_worker.event_file import masked_crc
from gpu_worker.material import read_sets
from gpu_worker.training_config import TrainingConfig, TrainingOrder
from queue_app.errors import Invalid, Permanent
from queue_app.lifecycle import Cause
from tests.gpu_worker.test_training import checkpoints, order, rows_of
from tests.tiny_model import make_tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Heard(Channel):
    """A channel that keeps what is said, and can act on it."""

    def __init__(self, fd: int, workdir: Path) -> None:
        super().__init__(fd, workdir)
        self.reports: list[dict[str, Any]] = []
        self.at_step: dict[int, Any] = {}

    def progress(self, **values: float | int | str | None) -> None:
        self.reports.append(values)
        step = values.get("step")
        if isinstance(step, int) and step in self.at_step:
            self.at_step.pop(step)()


@pytest.fixture
def channel(tmp_path: Path) -> Iterator[Heard]:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    yield Heard(nowhere, tmp_path)
    os.close(nowhere)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "tiny", dtype="bfloat16")


def run(folder: Path, model: Path, channel: Channel, **changes: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    return training._train(TrainingOrder.model_validate(order(folder, model, **changes)), channel)


SHORT = {"max_steps": 8, "save_steps": 2, "lora_dropout": 0.0}


def test_what_is_published_is_the_checkpoint_of_the_least_holdout_loss(
    tmp_path: Path, model: Path, channel: Heard
) -> None:
    folder = tmp_path / "run"
    other = {"prompt": [{"role": "user", "content": "?"}], "completion": [{"role": "assistant", "content": "QZX" * 60}]}
    told = SHORT | {"holdout_rows": rows_of(tmp_path / "other.jsonl", other)}
    made = run(folder, model, channel, **told)
    looks = {look["step"]: look["loss"] for look in made["holdout_losses"]}
    best = min(looks, key=lambda step: looks[step])
    assert best < 6, (
        "the better it knows its lines, the worse it knows others: rotation alone would have removed this one"
    )
    assert made["published_step"] == best
    assert checkpoints(folder) == [f"checkpoint-{step}" for step in sorted({best, 6, 8})]
    published = load_file(folder / "adapter" / "adapter_model.safetensors")
    kept = load_file(folder / "checkpoints" / f"checkpoint-{best}" / "adapter_model.safetensors")
    assert all(torch.equal(value, kept[name]) for name, value in published.items())
    assert [r["holdout_loss"] for r in channel.reports if "holdout_loss" in r][-1] == pytest.approx(looks[8], abs=1e-5)

    channel.reports = []
    again = run(folder, model, channel, **told, checkpoint=6)
    assert again["published_step"] == 6
    assert again["losses"] == made["losses"]
    assert not any("step" in report for report in channel.reports), "a run whose result was lost is not trained again"
    assert again["tokens_per_second"] is None, "no step was done, so none was measured"
    assert run(folder, model, channel, **told, checkpoint="last")["published_step"] == 8
    (folder / "checkpoints" / "checkpoint-6" / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(Permanent, match="checkpoint: 6: it cannot be published, for adapter_model.safetensors has 0"):
        run(folder, model, channel, **told, checkpoint=6)


def test_a_run_tells_its_epochs_looks_and_checkpoints_and_another_attempt_goes_on_telling(
    tmp_path: Path, model: Path, channel: Heard
) -> None:
    told = {"epochs": 2, "max_steps": None}  # four steps an epoch
    channel.at_step[4] = channel._stop.set  # it hears that at the end of the next step
    with pytest.raises(Stopped):
        run(tmp_path / "run", model, channel, **told)
    first, channel.reports, channel._stop = channel.reports, [], threading.Event()
    made = run(tmp_path / "run", model, channel, **told)
    for reports in (first, channel.reports):
        assert list(dict.fromkeys(each["phase"] for each in reports if "phase" in each)) == [
            *("loading", "tokenising", "training", "looking at the holdout")
        ]
    last = channel.reports[-1]
    assert [each["resumed_from"] for each in first if "resumed_from" in each] == []
    assert {each.get("resumed_from") for each in channel.reports if "step" in each} == {5}
    epochs = {each["step"]: each["epoch"] for each in (*first, *channel.reports) if "step" in each}
    assert epochs == {1: 1, 2: 1, 3: 1, 4: 1, 5: 2, 6: 2, 7: 2, 8: 2}
    looks = {look["step"]: round(look["loss"], 6) for look in made["holdout_losses"]}
    assert (last["first_loss"], last["loss"]) == tuple(round(made["losses"][place], 6) for place in (0, -1))
    assert (last["holdout_step"], last["holdout_loss"]) == (max(looks), looks[max(looks)])
    assert (last["best_step"], last["best_loss"]) == min(looks.items(), key=lambda look: (look[1], look[0]))
    assert (last["first_holdout_loss"], last["checkpoint_step"], last["epochs"]) == (looks[min(looks)], 8, 2)


def test_a_loss_that_leaves_its_course_ends_the_run_and_keeps_its_checkpoints(
    tmp_path: Path, model: Path, channel: Heard
) -> None:
    told = {"method": "full", "learning_rate": 3.0, "scheduler": "linear", "warmup": 0.9, "max_steps": 40}
    told |= {"divergence_factor": 1.5, "divergence_steps": 3}
    with pytest.raises(Permanent, match=r"step \d+: the loss has been above 1.5 times its running median .*3 steps in"):
        run(tmp_path / "run", model, channel, **told)
    assert checkpoints(tmp_path / "run")


def test_a_loss_that_is_no_number_ends_the_run_with_its_step(tmp_path: Path, model: Path, channel: Heard) -> None:
    with pytest.raises(Permanent, match=r"step \d+: the loss is .*lower learning_rate") as diverged:
        run(tmp_path / "run", model, channel, learning_rate=1e30, warmup=0.0, scheduler="constant")
    assert diverged.value.cause == Cause.USER


def test_what_cannot_be_trained_is_refused_with_what_to_change(tmp_path: Path, model: Path, channel: Heard) -> None:
    with pytest.raises(Permanent, match="none of the 7 training examples can be used.*raise sequence_len"):
        run(tmp_path / "run", model, channel, sequence_len=8)
    with pytest.raises(Invalid, match='no layer is called "q_prok"; did you mean "q_proj"'):
        run(tmp_path / "run", model, channel, target_modules=("q_prok",))


def test_a_few_unlucky_batches_are_no_divergence() -> None:
    course = Course(factor=3, steps=4)
    told = [1.0] * 20 + [9.0] * 3 + [1.0] + [9.0] * 4
    assert [course.leaves_at(loss) for loss in told] == [False] * 27 + [True]
    assert course.median == 1.0, "what is too high is no part of the course"


def test_a_disk_that_is_full_in_mid_checkpoint_is_named_and_the_run_goes_on_from_the_one_before(
    tmp_path: Path, model: Path, channel: Heard
) -> None:
    folder, limits = tmp_path / "run", resource.getrlimit(resource.RLIMIT_FSIZE)
    channel.at_step[4] = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(Exception, match=".") as full:
            run(folder, model, channel, max_steps=6, save_steps=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "no room left to write" in str(no_room(full.value, folder))
    assert checkpoints(folder) == ["checkpoint-2"]
    made = run(folder, model, channel, max_steps=6, save_steps=2)
    assert (made["resumed_from"], made["checkpoints_passed_over"]) == (2, 1)


def test_a_model_that_would_be_trained_with_random_weights_or_its_own_code_or_too_few_rows_is_refused(
    tmp_path: Path, model: Path, channel: Heard
) -> None:
    weights = load_file(model / "model.safetensors")
    save_file({name: weights[name] for name in weights if name != "model.norm.weight"}, model / "model.safetensors")
    with pytest.raises(Invalid, match="the weights hold no model.norm.weight"):
        run(tmp_path / "norm", model, channel)
    save_file(weights, model / "model.safetensors")
    template = (model / "chat_template.jinja").read_text()
    (model / "chat_template.jinja").write_text(template.replace("<|im_end|>", "<|new|>"))
    known = json.loads((model / "tokenizer.json").read_text())
    new = known["added_tokens"][0] | {"id": 300, "content": "<|new|>"}
    (model / "tokenizer.json").write_text(json.dumps(known | {"added_tokens": [*known["added_tokens"], new]}))
    with pytest.raises(Invalid, match="the tokenizer gives the id 300, and the model's embedding has 300 rows"):
        run(tmp_path / "rows", model, channel)
    config = json.loads((model / "config.json").read_text())
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    (model / "config.json").write_text(json.dumps(config | own))
    (model / "own.py").write_text("raise SystemExit('it ran')\n")
    with pytest.raises(Invalid, match="names the model type own.*code that comes along with a model is not run"):
        run(tmp_path / "code", model, channel)


@pytest.mark.parametrize("objective", ["sft", "dpo"])
def test_a_run_that_is_paused_while_it_reads_its_examples_stops_at_once(
    tmp_path: Path, model: Path, channel: Heard, objective: str
) -> None:
    turn, answer = {"role": "user", "content": "?"}, [{"role": "assistant", "content": "yes"}]
    row = {"prompt": [turn], "completion": answer, "chosen": answer, "rejected": answer}
    (tmp_path / "run").mkdir()
    wanted = TrainingOrder.model_validate(
        order(tmp_path / "run", model, rows=rows_of(tmp_path / "rows.jsonl", *[row] * 401), objective=objective)
    )
    tokenizer = AutoTokenizer.from_pretrained(model)
    read_sets(wanted.model_copy(update={"holdout_rows": None}), tokenizer, channel)
    assert channel.reports == [{}] * 3, "a sign of life every 200 examples"
    channel._stop.set()
    with pytest.raises(Stopped):
        read_sets(wanted, tokenizer, channel)


@pytest.mark.parametrize("state", ["optimizer.pt", "rng_state.pth"])
def test_the_state_in_a_forged_checkpoint_is_refused_and_runs_nothing(
    tmp_path: Path, model: Path, channel: Heard, state: str
) -> None:
    folder = tmp_path / "run"
    run(folder, model, channel, max_steps=2, save_steps=1)
    shutil.rmtree(folder / "checkpoints" / "checkpoint-2")
    older = folder / "checkpoints" / "checkpoint-1"
    torch.save(Forged(tmp_path / "ran"), older / state)
    complete(older)
    with pytest.raises(Permanent, match="the state in the newest checkpoint is more than data"):
        training.run(order(folder, model, max_steps=2, save_steps=1), channel)
    assert not (tmp_path / "ran").exists()


class Forged:
    """What makes a folder when somebody unpickles it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_preferences_teach_the_better_answer(tmp_path: Path, model: Path, channel: Heard) -> None:
    said = [{"role": "assistant", "content": text} for text in ("the yard runs on time", "no train leaves")]
    asked = [{"role": "user", "content": "how is the yard?"}]
    rows = rows_of(tmp_path / "rows.jsonl", *[{"prompt": asked, "chosen": said[:1], "rejected": said[1:]}] * 3)
    told = {"objective": "dpo", "rows": rows, "holdout_rows": rows, "max_steps": 6, "save_steps": 3}
    made = run(tmp_path / "run", model, channel, **told)
    assert made["losses"][0] == pytest.approx(0.6931, abs=1e-3), "at first neither is preferred: log 2"
    assert made["losses"][-1] < 0.5
    assert made["holdout_losses"][-1]["loss"] < 0.5
    names = {path.name for path in (tmp_path / "run" / "adapter").iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors"}


def test_all_weights_can_be_trained_and_go_on_from_a_checkpoint(tmp_path: Path, model: Path, channel: Heard) -> None:
    told = {"method": "full", "max_steps": 6, "save_steps": 2, "learning_rate": 3e-3}
    whole = run(tmp_path / "whole", model, channel, **told)
    assert whole["losses"][-1] < whole["losses"][0] - 0.5
    made = load_file(tmp_path / "whole" / "adapter" / "model.safetensors")
    base = load_file(model / "model.safetensors")
    assert {name: value.dtype for name, value in made.items()} == {name: value.dtype for name, value in base.items()}
    assert not torch.equal(made["model.norm.weight"], base["model.norm.weight"])
    assert {"config.json", "tokenizer.json"} <= {path.name for path in (tmp_path / "whole" / "adapter").iterdir()}

    def fail() -> None:
        raise OSError("cut off")

    channel.at_step[5] = fail
    with pytest.raises(OSError, match="cut off"):
        run(tmp_path / "cut", model, channel, **told)
    assert run(tmp_path / "cut", model, channel, **told)["losses"] == whole["losses"]


def test_wrapped_rows_are_trained_on_and_whole_ones_refused_on_a_cpu(
    tmp_path: Path, model: Path, channel: Heard
) -> None:
    made = run(tmp_path / "run", model, channel, packing="wrapped", sequence_len=64, max_steps=2)
    assert made["examples"] == 7
    assert len(made["losses"]) == 2
    with pytest.raises(Invalid, match="packing: bfd needs a GPU and flash-attn"):
        run(tmp_path / "bfd", model, channel, packing="bfd")


def test_every_attempt_leaves_a_file_for_tensorboard(tmp_path: Path, model: Path, channel: Heard) -> None:
    made = run(tmp_path / "run", model, channel, max_steps=3)
    (file,) = (tmp_path / "run" / "tensorboard").iterdir()
    events = list(events_in(file.read_bytes()))
    assert b"brain.Event:2" in events[0]
    assert sum(b"train/loss" in event for event in events) == 3
    assert sum(b"holdout/loss" in event for event in events) == 1
    assert struct.pack("<f", made["losses"][0]) in events[2]


def events_in(data: bytes) -> Iterator[bytes]:
    """The records of an event file, their sums checked."""
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event, data = data[12 : 12 + length], data[16 + length :]
        assert masked_crc(struct.pack("<Q", length)) + event + masked_crc(event)
        yield event


def test_the_sum_of_a_record_is_that_of_the_standard() -> None:
    crc = int.from_bytes(masked_crc(b"123456789"), "little")
    rotated = (crc - 0xA282EAD8) & 0xFFFFFFFF
    assert (rotated << 15 | rotated >> 17) & 0xFFFFFFFF == 0xE3069283  # RFC 3720's check value of CRC-32C


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"checkpoint": 7, "save_steps": 5}, "checkpoint 7 is never written"),
        ({"checkpoint": 40, "max_steps": 20}, "checkpoint 40 is never written"),
        ({"objective": "dpo", "packing": "wrapped"}, "neither packing"),
        ({"report_to": ("tensorboard",)}, "report_to"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_before_it_begins(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        TrainingConfig(**change)
    assert json.loads(TrainingConfig(checkpoint=20, max_steps=20).model_dump_json())["checkpoint"] == 20
