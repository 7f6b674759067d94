"""Which checkpoint of a finished training is published."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from gpu_worker import checkpoints
from queue_app.errors import Permanent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpu_worker.training_config import TrainingOrder

log = logging.getLogger(__name__)


def choose_step(order: TrainingOrder, last: int, measured: Mapping[int, float], *, evaluates: bool) -> int:
    """The step whose weights are to be published; `measured` are the holdout's losses at their steps, if it has one.

    Raises:
        Permanent: its checkpoint is not there, or is damaged
    """
    wanted = order.hyperparameters.checkpoint or ("best" if evaluates else "last")
    step = checkpoints.best(order.checkpoints, measured) if wanted == "best" else wanted
    if isinstance(step, int) and wanted == "best" and measured[step] > min(measured.values()):
        log.warning(
            "the checkpoint of the least holdout loss is damaged; taken is the best whole one, of step %d", step
        )
    if step is None:
        raise Permanent(
            "checkpoint: best: no checkpoint whose holdout loss was measured is whole; take checkpoint: last"
        )
    if step in (last, "last"):
        return last
    if problem := checkpoints.problem_of(checkpoints.at_step(order.checkpoints, int(step))):
        raise Permanent(f"checkpoint: {step}: it cannot be published, for {problem}; take best or last")
    return int(step)
