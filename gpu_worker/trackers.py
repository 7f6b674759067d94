"""The accounts of runs elsewhere, Weights & Biases and MLflow: every attempt goes on with the run's own curve."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from queue_app.errors import Transient

if TYPE_CHECKING:
    from gpu_worker.training_config import TrainingOrder


def go_on(order: TrainingOrder) -> None:
    """Tell the trackers of an order, before they are started, which run this is.

    Raises:
        Transient: MLflow's server does not answer
    """
    wanted = order.hyperparameters.report_to
    own = order.axolotl.settings if order.axolotl else {}  # a file of the user's may name an account itself
    if "wandb" in wanted or own.get("wandb_project") or own.get("use_wandb"):
        os.environ |= {"WANDB_RUN_ID": order.name, "WANDB_RESUME": "allow"}
    begun = _begun_at_mlflow(order.name) if "mlflow" in wanted else None
    if begun is not None:
        os.environ["MLFLOW_RUN_ID"] = begun


def _begun_at_mlflow(name: str) -> str | None:
    """The id that MLflow gave the run in an earlier attempt; None: there was none."""
    import mlflow
    from mlflow.exceptions import MlflowException

    told = f"attributes.run_name = '{name}'"
    try:
        found = mlflow.search_runs(filter_string=told, search_all_experiments=True, output_format="list", max_results=1)
    except MlflowException as error:
        said = str(error).partition("\n")[0]
        raise Transient(f"report_to: MLflow does not answer ({said})") from error
    return found[0].info.run_id if found else None
