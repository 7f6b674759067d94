"""Whole runs in this process, each a second or two: what is trained, what stops it, what is published."""

from __future__ import annotations

import json
import os
import resource
import struct
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from gpu_worker import training
from gpu_worker.child_side import Channel
from gpu_worker.disk_room import no_room
from gpu_worker.divergence import Course
from gpu_worker.event_file import masked_crc
from gpu_worker.training_config import TrainingConfig, TrainingOrder
from queue_app.errors import Invalid, Permanent
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

    again = run(folder, model, channel, **told, checkpoint=6)
    assert again["published_step"] == 6
    assert run(folder, model, channel, **told, checkpoint="last")["published_step"] == 8
    (folder / "checkpoints" / "checkpoint-6" / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(Permanent, match="checkpoint: 6: it cannot be published, for adapter_model.safetensors has 0"):
        run(folder, model, channel, **told, checkpoint=6)


def test_a_loss_that_leaves_its_course_ends_the_run_and_keeps_its_checkpoints(
    tmp_path: Path, model: Path, channel: Heard
) -> None:
    told = {"method": "full", "learning_rate": 3.0, "scheduler": "linear", "warmup": 0.9, "max_steps": 40}
    told |= {"divergence_factor": 1.5, "divergence_steps": 3}
    with pytest.raises(Permanent, match=r"step \d+: the loss has been above 1.5 times its running median .*3 steps in"):
        run(tmp_path / "run", model, channel, **told)
    assert checkpoints(tmp_path / "run")


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
