"""A checkpoint is complete or absent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gpu_worker.checkpoints import MANIFEST, best, complete, problem_of, rotate, survey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def write(folder: Path, step: int, *, finished: bool = True) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    (checkpoint / "deep").mkdir(parents=True)
    (checkpoint / "weights").write_bytes(bytes(range(256)) * 64)
    (checkpoint / "deep" / "state").write_text(f"step {step}")
    if finished:
        complete(checkpoint)
    return checkpoint


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def change_a_byte(path: Path) -> None:
    path.write_bytes(b"\xff" + path.read_bytes()[1:])


def test_the_newest_complete_checkpoint_is_taken(tmp_path: Path) -> None:
    write(tmp_path, 9)
    newest = write(tmp_path, 10)
    found = survey(tmp_path)
    assert (found.newest, found.step, found.passed_over) == (newest, 10, [])


def test_a_folder_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert survey(tmp_path / "nowhere").newest is None


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut_off, "has 16383 bytes instead of 16384"),
        (change_a_byte, "has changed since it was written"),
        ((lambda path: path.unlink()), "is missing"),
    ],
    ids=["cut off", "changed", "missing"],
)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    tmp_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    older, newer = write(tmp_path, 3), write(tmp_path, 6)
    damage(newer / "weights")
    assert survey(tmp_path).passed_over == [f"checkpoint-6: weights {said}"]
    assert survey(tmp_path).newest == older


@pytest.mark.parametrize("name", ["adapter_model.bin", "pytorch_model-00001-of-00002.bin"])
def test_weights_that_are_a_pickle_are_passed_over_and_the_state_beside_them_is_none(tmp_path: Path, name: str) -> None:
    older, newer = write(tmp_path, 3), write(tmp_path, 6)
    for file in ("optimizer.pt", "rng_state.pth", "training_args.bin"):
        (older / file).write_bytes(b"state")
    (newer / name).write_bytes(b"a pickle")
    complete(older)
    complete(newer)
    assert survey(tmp_path).newest == older
    assert survey(tmp_path).passed_over == [
        f"checkpoint-6: {name} is a pickle, which can run code: weights are taken from safetensors alone"
    ]


def test_a_half_written_checkpoint_is_none_and_is_cleared_away(tmp_path: Path) -> None:
    half = write(tmp_path, 3, finished=False)
    found = survey(tmp_path)
    assert found.newest is None
    assert found.passed_over == ["checkpoint-3: it has no manifest, so it was never finished"]
    assert not half.exists()


@pytest.mark.parametrize("text", ['{"files"', "[]", '{"files": []}', '{"files": {"weights": 3}}'])
def test_a_manifest_that_is_no_manifest_makes_no_checkpoint(tmp_path: Path, text: str) -> None:
    checkpoint = write(tmp_path, 3)
    (checkpoint / MANIFEST).write_text(text)
    assert "manifest cannot be read" in str(problem_of(checkpoint))


def test_what_was_passed_over_is_remembered_by_later_attempts(tmp_path: Path) -> None:
    write(tmp_path, 3, finished=False)
    survey(tmp_path)
    write(tmp_path, 3)
    assert len(survey(tmp_path).passed_over) == 1


def test_rotation_keeps_the_newest_complete_ones_and_counts_no_half_ones(tmp_path: Path) -> None:
    for step in (8, 9, 10):
        write(tmp_path, step)
    write(tmp_path, 11, finished=False)
    rotate(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-11", "checkpoint-9"]


def test_rotation_spares_what_may_be_published(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8):
        write(tmp_path, step)
    rotate(tmp_path, keep=2, spared={2})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-6", "checkpoint-8"]


def test_the_best_is_the_one_of_the_least_loss_that_is_whole(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        write(tmp_path, step)
    losses = {2: 1.0, 4: 0.5, 6: 0.7, 8: 0.1}
    assert best(tmp_path, losses) == 4, "that of step 8 is not there"
    cut_off(tmp_path / "checkpoint-4" / "weights")
    assert best(tmp_path, losses) == 6
    assert best(tmp_path, {8: 0.1}) is None
