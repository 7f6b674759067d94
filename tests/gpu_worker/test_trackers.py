"""Trackers: an attempt goes on with the run's own curve. MLflow's part runs where MLflow is installed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from gpu_worker.trackers import go_on
from gpu_worker.training_config import TrainingOrder
from queue_app.errors import Transient

if TYPE_CHECKING:
    from pathlib import Path


def an_order(folder: Path, *report_to: str) -> TrainingOrder:
    places = {name: folder / name for name in ("model_folder", "rows", "checkpoints", "output", "curves")}
    told = {"engine": "trl", "name": "job1", "base_model": "tiny", "holdout_rows": None}
    return TrainingOrder.model_validate(told | places | {"hyperparameters": {"report_to": report_to}})


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_RUN_ID", "WANDB_RESUME", "MLFLOW_RUN_ID"):
        monkeypatch.setenv(name, "")  # so that it is as before afterwards
        monkeypatch.delenv(name)


def test_a_run_has_the_jobs_id_at_weights_and_biases_and_is_taken_up_again(tmp_path: Path) -> None:
    go_on(an_order(tmp_path, "wandb"))
    assert (os.environ["WANDB_RUN_ID"], os.environ["WANDB_RESUME"]) == ("job1", "allow")


def test_without_a_tracker_none_is_told_anything(tmp_path: Path) -> None:
    go_on(an_order(tmp_path))
    assert not {"WANDB_RUN_ID", "MLFLOW_RUN_ID"} & set(os.environ)


def test_a_later_attempt_goes_on_with_its_run_at_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    order = an_order(tmp_path, "mlflow")
    go_on(order)
    assert "MLFLOW_RUN_ID" not in os.environ
    with mlflow.start_run(run_name="another"):
        pass
    with mlflow.start_run(run_name=order.name) as begun:
        mlflow.log_metric("loss", 3.0, step=1)
    go_on(order)
    assert os.environ["MLFLOW_RUN_ID"] == begun.info.run_id


def test_an_mlflow_that_does_not_answer_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="MLflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(Transient, match="MLflow does not answer"):
        go_on(an_order(tmp_path, "mlflow"))
