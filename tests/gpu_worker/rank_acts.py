"""A child of two ranks, for tests of `gpu_worker.ranks`: several trainings in a row, or what may befall a rank."""

from __future__ import annotations

import os
import signal
from dataclasses import asdict
from typing import Any

from gpu_worker import ranks
from gpu_worker.backends import load_backend
from gpu_worker.child_side import Channel, Stopped, child_main
from gpu_worker.training import prepare
from gpu_worker.training_config import TrainingOrder
from queue_app.errors import Permanent
from queue_app.lifecycle import Cause

MODULE = "tests.gpu_worker.rank_acts"


def run(config: dict[str, Any], channel: Channel) -> dict[str, Any]:
    if not ranks.is_first():
        with ranks.joined():
            return _act(config, channel)
    with ranks.together(config["ranks"], config, channel, MODULE):
        return _act(config, channel)


def _act(config: dict[str, Any], channel: Channel) -> dict[str, Any]:
    match config["act"]:
        case "train":
            return {name: _trained(order, channel) for name, order in config["orders"].items()}
        case "obey":
            _obey(channel)
        case "fail" if ranks.is_first() == config["first"]:
            raise Permanent("memory ran out in this one", cause=Cause.OOM)
        case "die" if ranks.is_first() == config["first"]:
            os.write(channel._fd, b'{"progress": {"st')
            os.kill(os.getpid(), signal.SIGKILL)
    ranks.meet()  # which the other one never comes to
    return {}


def _obey(channel: Channel) -> None:
    steps = 0
    while not ranks.any_of(channel.stop_requested):
        steps += 1
        channel.progress(step=steps, rank=os.getpid())
    raise Stopped


def _trained(told: dict[str, Any], channel: Channel) -> dict[str, Any]:
    order = TrainingOrder.model_validate(told)
    prepare(order)
    return asdict(load_backend(order.engine).train(order, channel, None))


if __name__ == "__main__":
    child_main(run, lock=f"child-{os.environ.get('RANK', '0')}.lock")
