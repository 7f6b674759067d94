"""`recipes/style_transfer.yaml` from a folder of text to a GGUF file, its trainer killed in the middle of epoch 2."""

from __future__ import annotations

import os
import pydoc_data.topics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from queue_app.cli.metrics import unbroken
from queue_app.lifecycle import State
from queue_app.shipped import find_shipped
from tests.conftest import eventually
from tests.faults.test_workers import trainers_of
from tests.yard import ROOT

if TYPE_CHECKING:
    from tests.yard import Yard

STEPS = ["base", "chunks", "few", "unseen", "parts", "train", "merged", "score", "file"]
TINY = (
    *("chunks.max_tokens=100", "few.size=54", "unseen.holdout=6", "parts.holdout=8", "train.engine=trl"),
    *("train.gradient_accumulation_steps=1", "train.save_steps=8", "score.max_examples=6", "score.prompts=1"),
)
PATIENCE_SECONDS = 150.0


@pytest.fixture
def books(tmp_path: Path) -> str:
    """A folder of text, of Python's own."""
    folder = tmp_path / "books"
    folder.mkdir()
    topics = pydoc_data.topics.topics
    for number, first in enumerate(range(0, len(topics), 20)):
        (folder / f"{number}.txt").write_text("\n\n".join(list(topics.values())[first : first + 20]))
    return str(folder)


def kill_in_epoch_two(yard: Yard, job_id: str, *, seconds: float) -> int:
    """Kill the trainer half-way through its second epoch, once it has a checkpoint; the step that it was seen at."""

    def half_way() -> int | None:
        told = yard.job(job_id).progress or {}
        past_half = told.get("step", 0) >= told.get("steps", 1) * 0.75
        return int(told["step"]) if past_half and told.get("epoch") == 2 and "checkpoint_step" in told else None

    step = eventually(half_way, seconds=seconds, what=f"the middle of epoch 2\n{yard.logs()}")
    [trainer] = trainers_of(yard.home)
    trainer.kill()
    return step


def run_to_its_end(yard: Yard, books: str, *changes: str, seconds: float) -> tuple[str, int]:
    """What the command tells a pipe, and the step of the kill; nobody does anything but wait."""
    words = [word for change in (f"chunks.source={books}", *changes) for word in ("--set", f"steps.{change}")]
    command = [sys.executable, "-m", "queue_app.cli", "run", str(find_shipped("recipes") / "style_transfer.yaml")]
    environment = {**os.environ, **yard.environment, "TUNEYARD_HOME": str(yard.home), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([*command, *words], env=environment, cwd=yard.home, stdout=subprocess.PIPE, text=True) as run:
        try:
            [job_id] = eventually(lambda: [job.id for job in yard.store.read.ls(kind="adapter.train")], what="the jobs")
            step = kill_in_epoch_two(yard, job_id, seconds=seconds)
            out, _ = run.communicate(timeout=seconds)
        finally:
            run.kill()
    assert run.returncode == 0, f"{out}\n{yard.logs()}"
    return out, step


def check_outcome(yard: Yard, told: str, killed_at: int) -> dict[str, Any]:
    """See that nothing was lost, and that the operator was told so; the result of the training."""
    found = {str(job.step): job for job in yard.store.read.ls()}
    assert {step: job.state for step, job in found.items()} == dict.fromkeys(STEPS, State.SUCCEEDED)
    train = found["train"]
    result = train.result or {}
    assert (train.attempt, train.failures) == (2, 1)
    assert 0 < result["resumed_from"] <= killed_at < result["steps"]
    series = unbroken(yard.store.read.series(train.id))
    assert [row["step"] for row in series] == list(range(1, result["steps"] + 1)), "the curve has a hole"
    assert (series[0]["loss"], series[-1]["loss"]) == pytest.approx((result["first_loss"], result["last_loss"]), 1e-5)
    for words in (
        "  training\n",
        f"  {result['examples']} examples (",
        "  epoch 2/2 · step ",
        f"  loss: {result['first_loss']:.3f} → {result['last_loss']:.3f} in training, ",
        "  put off: gpu_worker.training was killed from outside (exit status -9)",
        f"  goes on from the checkpoint of step {result['resumed_from']}\n",
        f"  checkpoint: step {result['published_step']}, the best",
        "  verified: ",
        "held-out loss  ",
        "verdict        ",
    ):
        assert words in told
    lines = map(str.split, told.splitlines())
    places = {words[-1]: Path(words[1]) for words in lines if words and words[-1] in ("[merged]", "[file]")}
    assert {path.name for path in places["[merged]"].iterdir()} >= {"config.json", "model.safetensors", "README.md"}
    assert places["[file]"].read_bytes()[:4] == b"GGUF"
    return result


@pytest.mark.timeout(360)
def test_the_whole_chain_outlives_its_trainer(yard: Yard, model: str, books: str):
    yard.environment |= {"OMP_NUM_THREADS": "1"}  # the tiny model's steps are too small to share
    yard.start("worker cpu", "worker gpu")
    out, step = run_to_its_end(yard, books, f"base.model={model}", *TINY, seconds=PATIENCE_SECONDS)
    check_outcome(yard, out, step)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_a_real_model_learns_the_style_though_its_trainer_is_killed(yard: Yard, books: str):
    yard.start("worker cpu", "worker gpu")
    out, step = run_to_its_end(yard, books, seconds=900)
    result = check_outcome(yard, out, step)
    assert result["best_holdout_loss"] < result["first_holdout_loss"]
    score = next(job.result or {} for job in yard.store.read.ls(kind="model.evaluate"))
    assert score["interval"][1] < 0, "no better than the base"
