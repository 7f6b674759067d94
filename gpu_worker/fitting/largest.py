"""The largest settings that fit, one at a time with the others left as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpu_worker.fitting.prediction import Verdict, predict

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpu_worker.fitting.machine import Machine
    from gpu_worker.fitting.shape import ModelShape
    from gpu_worker.training_config import TrainingConfig

LENGTH_STEP = 64  # tokens
MOST_LENGTH, MOST_EXAMPLES, MOST_RANK = 131_072, 1024, 1024


@dataclass(frozen=True)
class Largest:
    """Each is the largest value that fits with the error reckoned in; None: not even the smallest does, or has none."""

    sequence_len: int | None
    micro_batch_size: int | None
    lora_r: int | None


def find_largest(shape: ModelShape, config: TrainingConfig, machine: Machine, room_bytes: int) -> Largest:
    """How far each setting can go in this room, the others as they are."""

    def fits(**changes: int) -> bool:
        return predict(shape, config.model_copy(update=changes), machine).verdict(room_bytes) == Verdict.FITS

    context = min(shape.context_length or MOST_LENGTH, MOST_LENGTH)
    steps = _last(lambda n: fits(sequence_len=n * LENGTH_STEP), context // LENGTH_STEP)
    return Largest(
        sequence_len=steps * LENGTH_STEP if steps else None,
        micro_batch_size=_last(lambda n: fits(micro_batch_size=n), MOST_EXAMPLES) or None,
        lora_r=None if config.method == "full" else _last(lambda n: fits(lora_r=n), MOST_RANK) or None,
    )


def _last(holds: Callable[[int], bool], most: int) -> int:
    """The last of 1 … `most` for which it holds, if it holds for all before that; 0: for none."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low
