"""The events that our plugin tells out of axolotl, replayed on the `Watch` that every other run has inside its trainer.

So a loss that leaves its course, checkpoints, curves and figures are the same code for all engines.
"""

from __future__ import annotations

import json
import os
import select
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from transformers import TrainerControl, TrainerState

from gpu_worker import checkpoints
from gpu_worker.fitting.checklist import read_rows
from gpu_worker.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gpu_worker.child_side import Channel
    from gpu_worker.training_config import TrainingOrder

Event = dict[str, Any]
COUNTED = ("examples", "truncated_examples", "holdout_examples")
BEGAN = "axolotl.json"  # in each checkpoint: what the trainer said when it began


class Relay:
    """Our end of the plugin: where it tells, and is told to stop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        os.mkfifo(folder / "told", 0o600)
        self._handle = os.open(folder / "told", os.O_RDWR | os.O_NONBLOCK)  # to write, too: so that it never ends
        self._pending = b""

    def read(self, seconds: float) -> Iterator[Event]:
        """What has been told, or nothing when it has been silent for so long."""
        if not select.select([self._handle], [], [], seconds)[0]:
            return
        *lines, self._pending = (self._pending + os.read(self._handle, 1 << 16)).split(b"\n")
        yield from map(json.loads, lines)

    def stop(self) -> None:
        """Ask it to save after its step, and to end."""
        (self.folder / "stop").touch()

    def close(self) -> None:
        os.close(self._handle)


@dataclass
class Replay:
    """The trainer as it is seen from here."""

    channel: Channel
    order: TrainingOrder
    material: dict[str, int]  # what is known of the examples before axolotl says more
    checkpoint: Path | None  # that it goes on from
    splits: bool = False  # what is held out is a part of what is trained on
    watch: Watch | None = None
    began: Event = field(default_factory=dict)
    is_loaded: bool = False
    is_over: bool = False  # the trainer is; axolotl itself writes its own copy of the adapter then
    state: TrainerState = field(default_factory=TrainerState)
    control: TrainerControl = field(default_factory=TrainerControl)
    arguments: Any = None  # those of TrainingArguments that `Watch` looks at

    def is_done(self) -> bool:
        """Whether the checkpoint is of the last step; then all is known without a trainer."""
        if self.checkpoint is None:
            return False
        told = json.loads((self.checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        if told["global_step"] < told["max_steps"]:
            return False
        for name in ("global_step", "max_steps", "epoch", "num_input_tokens_seen"):
            setattr(self.state, name, told[name])
        self.state.log_history = self._history()
        self._heed(json.loads((self.checkpoint / BEGAN).read_text(encoding="utf-8")))
        return True

    def take(self, event: Event) -> None:
        """Take in an event.

        Raises:
            Permanent, Invalid: as `Watch`
        """
        if "step" in event:
            self.state.global_step, self.state.max_steps = event["step"], event["steps"]
            self.state.epoch, self.state.num_train_epochs = event["epoch"], event["epochs"]
            self.state.num_input_tokens_seen = event["tokens"]
        match event["event"]:
            case "loaded":
                self.is_loaded = True
            case "began":
                self._begin(event)
            case "saved":
                self._save()
            case "ended":
                self.is_over = True
            case told:
                self._pass_on(told, event)

    def _begin(self, event: Event) -> None:
        self._heed(event)
        self.state.log_history = self._history()
        self.arguments = SimpleNamespace(output_dir=str(self.order.checkpoints), **event["args"])
        self.watch = Watch(self.channel, self.order, self.material)
        self.watch.on_train_begin(self.arguments, self.state, self.control)

    def _heed(self, event: Event) -> None:
        self.began = event
        counted = {name: int(event[name]) for name in COUNTED}
        if "examples" not in self.material:  # axolotl has read them: what it has not kept it has dropped
            kept = counted["examples"] + (counted["holdout_examples"] if self.splits else 0)
            counted["dropped_examples"] = max(0, read_rows(self.order.rows).count - kept)
        self.material = {"weightless_examples": 0} | counted | self.material

    def _history(self) -> list[dict[str, Any]]:
        """What a trainer had logged, but for looks before its first step."""
        if self.checkpoint is None:
            return []
        state = json.loads((self.checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        return [entry for entry in state["log_history"] if entry["step"]]

    def _save(self) -> None:
        assert self.watch is not None, "the trainer spoke before it began"
        folder = checkpoints.at_step(self.order.checkpoints, self.state.global_step)
        (folder / BEGAN).write_text(json.dumps(self.began), encoding="utf-8")
        self.watch.on_save(self.arguments, self.state, self.control)

    def _pass_on(self, told: str, event: Event) -> None:
        assert self.watch is not None, "the trainer spoke before it began"
        seen = (self.arguments, self.state, self.control)
        if told == "step began":
            self.watch.on_step_begin(*seen)
        elif told == "step ended":
            self.watch.on_step_end(*seen)
        elif told == "looked":
            self.watch.on_prediction_step(*seen)
        elif self.state.global_step or "eval_loss" not in event["logs"]:  # a look before the first step has no weights
            self.state.log_history.append({**event["logs"], "step": self.state.global_step})
            self.watch.on_log(*seen, logs=event["logs"])
