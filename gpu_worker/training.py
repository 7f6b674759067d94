"""The child's program: one training run, from its last checkpoint if it has one.

Resume equals no resume: with the same hyperparameters on the same kind of CPU, every later step's loss is the same to
the last bit. Not covered: CUDA kernels that are not deterministic, a change of machine or of libraries in between.
"""

from __future__ import annotations

import json
import logging
import os
import time
from contextlib import contextmanager
from dataclasses import asdict
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from gpu_worker import base_model, checkpoints, ranks, trackers
from gpu_worker.backends import load_backend
from gpu_worker.child_side import Channel, child_main
from gpu_worker.memory import peak_child_rss_mib, peak_rss_mib
from gpu_worker.out_of_memory import ran_out_of_memory
from gpu_worker.training_config import TrainingOrder
from queue_app.cards import VISIBLE
from queue_app.errors import Permanent
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)


def run(config: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Train as the order says, write the folder of the adapter or model, and return what was measured."""
    began = time.monotonic()
    order = TrainingOrder.model_validate(config)
    prepare(order)
    with explained(order):
        measured = _train(order, channel)
    peak = max(peak_rss_mib(), peak_child_rss_mib())  # of the largest process: another one may be the trainer
    measured |= {"seconds": round(time.monotonic() - began, 1), "peak_rss_mib": peak}
    (order.output / "training.json").write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    return measured


def prepare(order: TrainingOrder) -> None:
    """Tell the libraries, before they are imported, what they would ask or choose themselves."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "UNSLOTH_DISABLE_STATISTICS": "1"}  # the model is a folder: nobody is asked
    trackers.go_on(order)
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # as the driver numbers the cards
    cards = order.hyperparameters.cards
    seen = os.environ.get(VISIBLE, ",".join(map(str, range(cards)))).split(",")
    os.environ[VISIBLE] = ",".join(seen[:cards])  # the trainer would take all it sees


@contextmanager
def explained(order: TrainingOrder) -> Iterator[None]:
    """Tell memory that ran out, and state that is more than data, from a bug."""
    try:
        yield
    except (RuntimeError, MemoryError, OSError, ImportError, SafetensorError) as error:
        if ran_out_of_memory(error):
            raise _out_of_memory(order, error) from error
        raise
    except UnpicklingError as error:  # the trainer reads the state beside the weights as data alone
        raise Permanent(
            f"{order.checkpoints}: the state in the newest checkpoint is more than data: it was not written here, and "
            "is not read; remove that checkpoint, then retry",
            cause=Cause.DATA,
        ) from error


def _train(order: TrainingOrder, channel: Channel) -> dict[str, Any]:
    channel.progress(phase="loading")
    found = checkpoints.survey(order.checkpoints)
    for problem in found.passed_over:
        log.warning("passed over %s", problem)
    told = {"order": order.model_dump(mode="json"), "checkpoint": None if found.newest is None else str(found.newest)}
    with ranks.together(order.hyperparameters.cards, told, channel):
        measured = load_backend(order.engine).train(order, channel, found.newest)
    return asdict(measured) | {
        "engine": order.engine,
        "base_model": {"name": order.base_model, "fingerprint": base_model.fingerprint(order.model_folder)},
        "hyperparameters": order.hyperparameters.model_dump(mode="json"),
        "resumed_from": found.step,
        "checkpoints_passed_over": len(found.passed_over),
    }


def _out_of_memory(order: TrainingOrder, error: BaseException) -> Permanent:
    hyper = order.hyperparameters
    return Permanent(
        f"memory ran out ({str(error).splitlines()[0] if str(error) else 'no message'}) at micro_batch_size "
        f"{hyper.micro_batch_size} and sequence_len {hyper.sequence_len}; halve micro_batch_size and double "
        f"gradient_accumulation_steps ({hyper.gradient_accumulation_steps}) to keep the effective batch, turn on "
        "gradient_checkpointing, or shorten sequence_len",
        cause=Cause.OOM,
    )


if __name__ == "__main__":
    child_main(run)
