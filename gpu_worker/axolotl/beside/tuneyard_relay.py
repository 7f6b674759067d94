"""What axolotl loads as a plugin: it tells Tuneyard each event of the trainer, and heeds its stop.

Tuneyard names a folder in `TUNEYARD_RELAY`: a FIFO `told` takes one JSON line for each event, a file `stop` asks to
save and end. stdin is held open by Tuneyard; its end means that nobody listens, and then nothing may burn on.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from axolotl.integrations.base import BasePlugin
from transformers import TrainerCallback, set_seed

FOLDER = Path(os.environ["TUNEYARD_RELAY"])
MANIFEST = "manifest.json"  # Tuneyard writes it when it has put a checkpoint on the disk
LOOK_SECONDS = 0.02
PACKAGES = ("transformers", "peft", "trl", "torch")


class Relay(BasePlugin):
    """The plugin."""

    def register(self, *_: Any, **__: Any) -> None:
        """Axolotl goes on without a plugin that it cannot load: this is the sign that it could."""
        threading.Thread(target=_die_with_tuneyard, daemon=True).start()
        _tell("loaded")

    def pre_model_load(self, cfg: Any) -> None:
        """Let `seed` be that of the adapter's first weights, too: axolotl seeds its trainer, which comes later."""
        if cfg.get("seed") is not None:
            set_seed(cfg["seed"])

    def add_callbacks_post_trainer(self, cfg: Any, trainer: Any) -> list[TrainerCallback]:
        """Hear the trainer, of which two habits are changed that axolotl has no setting for."""
        trainer.args.logging_nan_inf_filter = False  # a loss that is no number is told as such
        trainer.args.include_num_input_tokens_seen = "non_padding"
        trainer.args.save_total_limit = None  # Tuneyard removes old checkpoints, once a new one is complete
        return [_Teller(trainer, cuts=cfg.get("excess_length_strategy") == "truncate", longest=cfg["sequence_len"])]


class _Teller(TrainerCallback):
    def __init__(self, trainer: Any, *, cuts: bool, longest: int) -> None:
        self.trainer, self.cuts, self.longest = trainer, cuts, longest

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        on_card = args.device.type == "cuda"
        dtype = next((p.dtype for p in self.trainer.model.parameters() if p.is_floating_point()), torch.float32)
        _tell(
            "began",
            state,
            args={"learning_rate": args.learning_rate, "warmup_steps": args.warmup_steps},
            device=args.device.type,
            device_name=torch.cuda.get_device_name(args.device) if on_card else "",
            dtype=("bfloat16" if args.bf16 else "float16" if args.fp16 else str(dtype)).removeprefix("torch."),
            versions={name: version(name) for name in PACKAGES},
            **self._counts(),
        )

    def _counts(self) -> dict[str, int]:
        train, held = self.trainer.train_dataset, self.trainer.eval_dataset
        cut = sum(len(ids) >= self.longest for ids in train["input_ids"]) if self.cuts else 0
        return {"examples": len(train), "truncated_examples": cut, "holdout_examples": len(held) if held else 0}

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        _tell("step began", state)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        _tell("step ended", state)
        if (FOLDER / "stop").exists():
            control.should_save = control.should_training_stop = True
        if state.global_step >= state.max_steps:  # older trainers save no last checkpoint of themselves
            control.should_save = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        plain = {name: value for name, value in (logs or {}).items() if isinstance(value, int | float)}
        _tell("logged", state, logs=plain)

    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        _tell("looked", state)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Wait until the checkpoint is complete, so that a crash finds it or the one before."""
        _tell("saved", state)
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        while not (folder / MANIFEST).exists():
            time.sleep(LOOK_SECONDS)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        _tell("ended", state)


def _tell(event: str, state: Any = None, **values: Any) -> None:
    if state is not None:
        values |= {
            "step": state.global_step,
            "steps": state.max_steps,
            "epoch": state.epoch,
            "epochs": state.num_train_epochs,
            "tokens": int(state.num_input_tokens_seen),
        }
    handle = os.open(FOLDER / "told", os.O_WRONLY)
    try:
        line = json.dumps({"event": event, **values}).encode() + b"\n"
        while line:
            line = line[os.write(handle, line) :]
    finally:
        os.close(handle)


def _die_with_tuneyard() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.killpg(0, signal.SIGKILL)
