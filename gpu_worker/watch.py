"""What a training run tells while it goes, and what ends it early.

Import it after the backend, in the child alone.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from gpu_worker import checkpoints, ranks
from gpu_worker.card_sensors import CardSensors
from gpu_worker.divergence import Course
from gpu_worker.event_file import EventFile
from queue_app.errors import Invalid, Permanent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import TrainerControl, TrainerState, TrainingArguments

    from gpu_worker.child_side import Channel
    from gpu_worker.training_config import TrainingOrder

TRAINING, LOOKING = "training", "looking at the holdout"  # phases


class Watch(TrainerCallback):
    """Reports every step, completes every checkpoint, and stops when asked to or when the loss left its course."""

    def __init__(self, channel: Channel, order: TrainingOrder, material: Mapping[str, int]) -> None:
        self.channel, self.order = channel, order
        config = order.hyperparameters
        self.course = Course(config.divergence_factor, config.divergence_steps)
        self.sensors = CardSensors(uses_card=torch.cuda.is_available())
        self.curves: EventFile | None = None
        self.lasting: dict[str, Any] = dict(material)  # told again with each step, until something else is so
        self.told: dict[str, Any] = {}  # of the last step
        self.began = self.step_began = time.monotonic()
        self.began_at = (0, 0)  # steps and tokens of earlier attempts
        self.seconds = 0.0  # in steps: without looks at the holdout and the writing of checkpoints
        self.tokens = 0  # of this attempt

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.began = time.monotonic()
        self.began_at = (state.global_step, state.num_input_tokens_seen)
        if ranks.is_first():
            self.curves = EventFile(self.order.curves, state.global_step + 1)
        for entry in state.log_history:  # the course goes on where an earlier attempt left it
            if "loss" in entry:
                self.course.leaves_at(entry["loss"])
                self.lasting.setdefault("first_loss", round(entry["loss"], 6))
        self._compare_holdouts(state)
        named = self.order.hyperparameters.checkpoint
        if isinstance(named, int) and named > state.max_steps:
            raise Invalid(f"checkpoint {named} is never written: the run has {state.max_steps} steps")
        since = {"resumed_from": state.global_step} if state.global_step else {}
        self._tell(phase=TRAINING, epochs=state.num_train_epochs, **since)

    def _tell(self, **lasting: Any) -> None:
        self.lasting |= lasting
        self.channel.progress(**self.lasting, **self.told)

    def _compare_holdouts(self, state: TrainerState) -> None:
        if measured := holdout_losses(state):
            steps = {"first_holdout_loss": min(measured), "holdout_loss": max(measured), "best_loss": best_of(measured)}
            self.lasting |= {name: round(measured[step], 6) for name, step in steps.items()}
            self.lasting |= {"holdout_step": steps["holdout_loss"], "best_step": steps["best_loss"]}

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.step_began = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.seconds += time.monotonic() - self.step_began
        self.tokens = int(state.num_input_tokens_seen) - self.began_at[1]
        if ranks.any_of(self.channel.stop_requested):
            control.should_save = control.should_training_stop = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if logs is None or self.curves is None:
            return
        if "eval_loss" in logs:
            self.curves.tell(state.global_step, {"holdout/loss": logs["eval_loss"]})
            self._compare_holdouts(state)
            self._tell(phase=TRAINING)
        if "loss" not in logs:
            return
        values = {name: float(logs[name]) for name in ("loss", "learning_rate", "grad_norm")}
        self.curves.tell(state.global_step, {f"train/{name}": value for name, value in values.items()})
        self._check(args, state, values)
        done = state.global_step - self.began_at[0]
        passed = time.monotonic() - self.began  # with holdout and checkpoints: the rest will have them too
        self.lasting.setdefault("first_loss", round(values["loss"], 6))
        self.told = {
            "step": state.global_step,
            "steps": state.max_steps,
            "epoch": math.ceil(round(state.epoch or 0.0, 6)),  # the one that the step belongs to
            "loss": round(values["loss"], 6),
            "learning_rate": values["learning_rate"],
            "grad_norm": round(values["grad_norm"], 6),
            "tokens_per_second": self.tokens_per_second,
            "eta_seconds": round(passed / done * (state.max_steps - state.global_step), 1),
            **self.sensors.read(),
        }
        self._tell()

    def _check(self, args: TrainingArguments, state: TrainerState, values: dict[str, float]) -> None:
        """See that the run is not lost.

        Raises:
            Permanent: it is; names the step and what to do
        """
        loss, norm = values["loss"], values["grad_norm"]
        mend = f"lower learning_rate (now {args.learning_rate:g}) or raise warmup (now {args.warmup_steps:g})"
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise Permanent(f"step {state.global_step}: the loss is {loss} and the gradient's norm {norm}; {mend}")
        if self.course.leaves_at(loss):
            raise Permanent(
                f"step {state.global_step}: the loss has been above {self.course.factor:g} times its running median "
                f"({self.course.median:.4g}) for {self.course.steps} steps in a row, now {loss:.4g}; {mend}, or look "
                "at the examples of these steps; the checkpoints are kept (divergence_factor, divergence_steps)"
            )

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self.lasting["phase"] != LOOKING:
            self._tell(phase=LOOKING)
        self.channel.progress()  # a look at a large holdout is no stall

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        ranks.meet()  # each has written its random state by now
        if not ranks.is_first():
            return
        folder = Path(args.output_dir)
        checkpoints.complete(folder / f"checkpoint-{state.global_step}")
        checkpoints.rotate(folder, spared=self._spared(state))
        self._tell(checkpoint_step=state.global_step)

    def _spared(self, state: TrainerState) -> set[int]:
        """The steps whose checkpoints may be published, however old."""
        named = self.order.hyperparameters.checkpoint
        measured = holdout_losses(state)
        best = best_of(measured) if measured else None
        return {step for step in (best, named) if isinstance(step, int)}

    @property
    def tokens_per_second(self) -> float | None:
        """Of the steps of this attempt; None if it did none."""
        return round(self.tokens / self.seconds, 1) if self.seconds else None


def holdout_losses(state: TrainerState) -> dict[int, float]:
    """The loss of the holdout at each step at which it was looked at and was a number."""
    looks = ((int(entry["step"]), float(entry["eval_loss"])) for entry in state.log_history if "eval_loss" in entry)
    return {step: loss for step, loss in looks if math.isfinite(loss)}


def best_of(measured: Mapping[int, float]) -> int:
    """The step of the least loss, the earlier of two."""
    return min(measured, key=lambda step: (measured[step], step))
