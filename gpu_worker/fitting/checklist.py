"""What is looked at before a training is started, while nothing is lost yet.

Data, disk, checkpoints, the card's driver and architecture, and whether the run fits: refused with the figures if it
cannot, made to wait while others hold the room that it needs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpu_worker.disk_room import require_room
from gpu_worker.fitting.largest import find_largest
from gpu_worker.fitting.prediction import GIB, Verdict, verdict
from gpu_worker.fitting.torch_build import ask_torch, problem_with
from gpu_worker.memory import memory_free_bytes, memory_limit_bytes
from queue_app.errors import Permanent, StandsStill
from queue_app.lifecycle import Cause, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gpu_worker.fitting.cards import Card
    from gpu_worker.fitting.largest import Largest
    from gpu_worker.fitting.machine import Machine
    from gpu_worker.fitting.prediction import Prediction
    from gpu_worker.fitting.shape import ModelShape
    from gpu_worker.training_config import TrainingConfig, TrainingOrder

LOOK_AGAIN_SECONDS = 15.0
BESIDE_TEXT = 256  # tokens that a chat template may put around an example
MANY_CHECKPOINTS = 1000


@dataclass(frozen=True)
class Rows:
    """The training examples, as far as can be told without a tokenizer."""

    count: int
    most_bytes: int  # of the longest; no tokenizer makes more tokens of a text than it has bytes

    def longest(self, config: TrainingConfig) -> int:
        """The most tokens that an example can have."""
        return config.sequence_len if config.packing != "none" else min(config.sequence_len, self.longest_bound)

    @property
    def longest_bound(self) -> int:
        return self.most_bytes + BESIDE_TEXT


@dataclass(frozen=True)
class Room:
    """The memory of the device that a run is to have."""

    place: str  # how to call it
    total_bytes: int
    free_bytes: int
    held_by: str  # who holds the rest, as far as it is seen

    @property
    def held(self) -> str:
        return f"{self.free_bytes / GIB:.1f} of {self.total_bytes / GIB:.1f} GiB are free{self.held_by}"


def read_rows(path: Path) -> Rows:
    """Count the examples and find the longest.

    Raises:
        Permanent: there are none
    """
    lengths = [0]
    if path.is_file():
        with path.open("rb") as file:
            lengths += (len(line) for line in file if line.strip())
    if len(lengths) == 1:
        raise Permanent(f"{path.name} has no examples; look at the dataset", cause=Cause.DATA)
    return Rows(len(lengths) - 1, max(lengths))


def checkpoint_note(config: TrainingConfig, examples: int) -> str | None:
    """What is odd about the distance between checkpoints; None: nothing."""
    batch = config.effective_batch
    steps = config.max_steps or math.ceil((config.epochs or 1) * math.ceil(examples / batch))
    if config.save_steps > steps:
        return f"save_steps {config.save_steps} is more than the {steps} steps: a crash loses the whole run"
    if steps // config.save_steps > MANY_CHECKPOINTS:
        return f"save_steps {config.save_steps} writes {steps // config.save_steps:,} checkpoints in {steps:,} steps"
    return None


def room_of(card: Card | None) -> Room | None:
    """The memory of the card, or the RAM that a child may have; None: the system does not tell."""
    if card is not None:
        names = ", ".join(map(str, card.holders)) or "nobody that is seen from here"
        return Room(card.name, card.total_bytes, card.free_bytes, f"; held by {names}")
    limit, free = memory_limit_bytes(), memory_free_bytes()
    return None if limit is None or free is None else Room("the RAM here", limit, free, "")


def require_build(card: Card) -> None:
    """See that the installed PyTorch can use the card.

    Raises:
        Permanent: it cannot; says what to install
    """
    problem = problem_with(ask_torch(), card)
    if problem is not None:
        raise Permanent(problem)


def require_fit(run: Planned, room: Room, *, even_if_too_large: bool) -> Iterator[str]:
    """See that the run fits the device, and now; yields what deserves a note.

    Raises:
        Permanent: it cannot fit, and the job's spec does not say to try all the same
        StandsStill: it fits, but for what others hold now
    """
    needed = run.prediction.device_bytes
    ever, now = verdict(needed, room.total_bytes), verdict(needed, room.free_bytes)
    figures = f"{needed / GIB:.1f} GiB (± 15 %) are needed, {room.place} has {room.total_bytes / GIB:.1f} GiB"
    if ever == Verdict.TOO_LARGE and not even_if_too_large:
        raise Permanent(
            f"it does not fit: {figures}; {_parts(run.prediction)}. {advice(find_run_largest(run, room.total_bytes))}; "
            "`tuneyard gpu plan` shows all parts, even_if_too_large: true starts it all the same",
            cause=Cause.OOM,
        )
    if ever != Verdict.TOO_LARGE and now == Verdict.TOO_LARGE:
        text = f"{needed / GIB:.1f} GiB are needed on {room.place}, {room.held}"
        raise StandsStill(f"{text}; it is looked at again", Reason.GPU, LOOK_AGAIN_SECONDS)
    if ever != Verdict.FITS:
        state = "is at risk" if ever == Verdict.AT_RISK else "will hardly do"
        yield f"memory {state}: {figures}; should it run out, smaller settings are taken"


@dataclass(frozen=True)
class Planned:
    """A run and what it will take."""

    shape: ModelShape
    config: TrainingConfig
    machine: Machine
    prediction: Prediction


def find_run_largest(run: Planned, room_bytes: int) -> Largest:
    """The largest settings for examples of the length that this run has."""
    config = run.config.model_copy(update={"sequence_len": run.prediction.length})
    return find_largest(run.shape, config, run.machine, room_bytes)


def advice(largest: Largest) -> str:
    """What would fit, in words."""
    found = {"micro_batch_size": largest.micro_batch_size, "sequence_len": largest.sequence_len}
    found["lora_r"] = largest.lora_r
    told = [f"{name} {value}" for name, value in found.items() if value]
    if not told:
        return "no single setting makes it fit: take a smaller model, qlora, or more memory"
    return f"one of these would fit, the rest as it is: {' · '.join(told)}"


def require_disk(run: Planned, order: TrainingOrder) -> None:
    """See that checkpoints and result have room on the disk; those that lie there already make way for new ones.

    Raises:
        Permanent: they have not
    """
    old = (path for folder in (order.checkpoints, order.output) for path in folder.rglob("*") if path.is_file())
    needed = run.prediction.total("disk") - sum(path.stat().st_size for path in old)
    require_room(order.checkpoints.parent, max(0, needed), "the checkpoints and the result")


def _parts(prediction: Prediction) -> str:
    largest = sorted((part for part in prediction.parts if part.place == "device"), key=lambda part: -part.size_bytes)
    return ", ".join(f"{part.name} {part.size_bytes / GIB:.1f}" for part in largest[:3])
