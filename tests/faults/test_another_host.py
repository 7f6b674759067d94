"""A host dies in the middle of a training, and another one, which has nothing of it, goes on as if nothing had been."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from queue_app.lifecycle import State
from queue_app.store import NewJob
from tests.conftest import eventually
from tests.faults.conftest import QUICK
from tests.yard import Yard

if TYPE_CHECKING:
    from collections.abc import Iterator

STEPS = 40
PATIENCE_SECONDS = 150.0


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """The artifact store of both hosts."""
    return tmp_path / "shared"


@pytest.fixture
def second_host(yard: Yard, shared: Path, tmp_path: Path) -> Iterator[Yard]:
    """A host with a home of its own, at the first one's store and broker."""
    yard.environment |= {"TUNEYARD_ARTIFACTS__URL": str(shared), "OMP_NUM_THREADS": "1"}
    theirs = {"TUNEYARD_STORE__URL": yard.settings.store_url, "TUNEYARD_BROKER__URL": yard.settings.broker_url}
    own = {"TUNEYARD_ARTIFACTS__URL": str(shared), "OMP_NUM_THREADS": "1"}
    second = Yard(tmp_path / "second", QUICK | own | theirs)
    yield second
    second.stop()


def talk(path: Path, answers: list[str]) -> str:
    rows = [
        {"messages": [{"role": "user", "content": f"line {n}"}, {"role": "assistant", "content": answer}]}
        for n, answer in enumerate(answers)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def submit(yard: Yard, model: str, tmp_path: Path) -> str:
    """A run whose holdout it unlearns, so that its first checkpoint is its best."""
    spec: dict[str, Any] = {
        "base_model": model,
        "dataset": talk(tmp_path / "train.jsonl", [f"runs train {n} on time" for n in range(24)]),
        "holdout": talk(tmp_path / "holdout.jsonl", ["QQQQ~~QQQQ~~" * 3] * 2),
        "method": "lora",
        "engine": "trl",
        "max_steps": STEPS,
        "save_steps": 10,
        "micro_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1e-2,
        "lora_dropout": 0.05,
        "sequence_len": 64,
    }
    new = NewJob(kind="adapter.train", queue="gpu", spec=spec, reuse=False)
    yard.store.submit([new], actor="test")
    return new.id


def made(shared: Path, result: dict[str, Any] | None) -> tuple[dict[str, Any], bytes]:
    """What was measured, and the adapter's weights."""
    assert result is not None
    folder = shared / result["adapter"].removeprefix("sha256:") / "content"
    return json.loads((folder / "training.json").read_text()), (folder / "adapter_model.safetensors").read_bytes()


def has_copy(yard: Yard, job_id: str, kept: Path, step: int) -> bool:
    """Whether there is a complete copy of the step or a later one."""
    job = yard.job(job_id)
    assert job.state not in (State.FAILED, State.SUCCEEDED), f"{job.state}: {job.failure}"
    copies = kept.glob("attempt-1/checkpoint-*/manifest.json")
    return any(int(path.parent.name.partition("-")[2]) >= step for path in copies)


@pytest.mark.timeout(600)
def test_another_host_goes_on_from_the_last_copy_to_the_same_losses_and_the_same_best(
    yard: Yard, second_host: Yard, model: str, shared: Path, tmp_path: Path
) -> None:
    yard.start("worker gpu")
    job_id = submit(yard, model, tmp_path)
    kept = shared / "checkpoints" / job_id
    eventually(
        lambda: has_copy(yard, job_id, kept, step=20), seconds=PATIENCE_SECONDS, what="a copy of step 20 or later"
    )
    yard.kill("worker gpu")  # and with it goes, for the other host, all that it had written to its own disk

    second_host.start("worker gpu")
    done = yard.wait_for(job_id, State.SUCCEEDED, seconds=PATIENCE_SECONDS)
    assert done.attempt == 2
    assert done.result is not None
    assert STEPS > done.result["resumed_from"] >= 20
    assert done.result["published_step"] == done.result["best_step"] == 10, "written by the host that died"
    assert done.result["failed_copies"] == 0
    eventually(lambda: not kept.exists(), what="the end of what was kept for other hosts")
    curves = list((second_host.home / "jobs" / job_id / "tensorboard").iterdir())
    assert len(curves) == 2, "the curve of the first host was left behind"

    undisturbed = yard.wait_for(submit(yard, model, tmp_path), State.SUCCEEDED, seconds=PATIENCE_SECONDS)
    measured, weights = made(shared, done.result)
    expected, expected_weights = made(shared, undisturbed.result)
    assert measured["losses"] == expected["losses"]
    assert measured["holdout_losses"] == expected["holdout_losses"]
    assert weights == expected_weights
