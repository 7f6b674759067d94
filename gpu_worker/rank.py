"""The program of every rank but the first: the same run, which says and keeps nothing; see `gpu_worker.ranks`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_worker import ranks
from gpu_worker.backends import load_backend
from gpu_worker.child_side import child_main
from gpu_worker.training import explained, prepare
from gpu_worker.training_config import TrainingOrder

if TYPE_CHECKING:
    from gpu_worker.child_side import Channel


def run(config: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Train beside rank 0, as its order says and from the checkpoint that it found."""
    order = TrainingOrder.model_validate(config["order"])
    checkpoint = config["checkpoint"]
    prepare(order)
    with explained(order), ranks.joined():
        load_backend(order.engine).train(order, channel, None if checkpoint is None else Path(checkpoint))
    return {}


if __name__ == "__main__":
    child_main(run, lock=f"child-{os.environ['RANK']}.lock")
