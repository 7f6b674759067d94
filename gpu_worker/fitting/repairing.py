"""A training that is looked at before it starts, and goes down the ladder when its memory runs out all the same.

Each rung ends the attempt by `Repaired`: the store writes the event, and the next attempt goes on from the last
checkpoint with what the job's own folder says. So a crash between two rungs loses none, and a resume that needs more
than the first run did goes down the same ladder.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gpu_worker import checkpoints
from gpu_worker.base_model import fingerprint
from gpu_worker.child import run_child
from gpu_worker.fitting import checklist
from gpu_worker.fitting.cards import own_card
from gpu_worker.fitting.ladder import Footing, next_rung
from gpu_worker.fitting.machine import Machine, this_cpu
from gpu_worker.fitting.prediction import GIB, predict
from gpu_worker.fitting.remembered import Alike, recall, remember
from gpu_worker.fitting.shape import read_shape
from queue_app.errors import Invalid, Permanent, Repaired
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from pathlib import Path

    from gpu_worker.fitting.allowances import Allowances
    from gpu_worker.fitting.cards import Card
    from gpu_worker.fitting.ladder import Rung
    from gpu_worker.training_config import TrainingConfig, TrainingOrder
    from queue_app.job_type import Attempt

NOTES = "fitting.json"  # in the job's folder: what has been changed about its settings, and by whom it was found


def train_within_memory(attempt: Attempt, order: TrainingOrder, allowances: Allowances) -> dict[str, Any]:
    """Check and run a training; its measurements.

    Raises:
        Repaired: memory ran out, and the next attempt takes smaller settings
        Permanent: it cannot fit, or nothing is left to make smaller; and as `run_child`
        StandsStill: the device is full of others' work
    """
    return _Run(attempt, order, allowances).train()


@dataclass(frozen=True)
class _Run:
    attempt: Attempt
    asked: TrainingOrder
    allowances: Allowances

    def train(self) -> dict[str, Any]:
        changed = self._changed()
        config = self.asked.hyperparameters.model_copy(update=changed)
        self._look_before(config)
        order = self.asked.model_copy(update={"hyperparameters": config})
        try:
            made = run_child(self.attempt, "gpu_worker.training", order.model_dump(mode="json"))
        except Permanent as error:
            if error.cause != Cause.OOM:
                raise
            raise self._repair(config, changed, error) from error
        if changed:
            remember(self._home, self._alike, changed, self.attempt.job_id)
        return made | {"repairs": changed}

    @cached_property
    def _card(self) -> Card | None:
        return own_card()

    @cached_property
    def _machine(self) -> Machine:
        engine = self.asked.engine
        return this_cpu(engine) if self._card is None else Machine("cuda", engine)

    @cached_property
    def _rows(self) -> checklist.Rows:
        return checklist.read_rows(self.asked.rows)

    @cached_property
    def _room(self) -> checklist.Room | None:
        return checklist.room_of(self._card)

    @property
    def _home(self) -> Path:
        return self.attempt.settings.home.absolute()

    @cached_property
    def _alike(self) -> Alike:
        config, room = self.asked.hyperparameters, self._room
        device = "unknown" if room is None else f"{room.place}, {room.total_bytes / GIB:.1f} GiB"
        base, may = fingerprint(self.asked.model_folder), self.allowances.may_shrink
        return Alike(base, device, self.asked.engine, config, may, self._rows.longest(config))

    def _changed(self) -> dict[str, Any]:
        """What was changed in this job, or, before its first start, in one like it."""
        notes = self.attempt.workdir / NOTES
        if notes.is_file():
            return dict(json.loads(notes.read_text(encoding="utf-8")))
        known = recall(self._home, self._alike)
        changed, found_by = known or ({}, "")
        if changed:
            told = ", ".join(f"{name} {value}" for name, value in changed.items())
            self.attempt.log.warning(
                "memory ran out in job %s, which was like this one; taken as there: %s", found_by, told
            )
        self._write(changed)
        return changed

    def _write(self, changed: dict[str, Any]) -> None:
        notes = self.attempt.workdir / NOTES
        part = notes.with_suffix(".part")
        part.write_text(json.dumps(changed), encoding="utf-8")
        part.replace(notes)

    def _look_before(self, config: TrainingConfig) -> None:
        notes = [checklist.checkpoint_note(config, self._rows.count)]
        if self._card is not None:
            checklist.require_build(self._card)
        planned = self._planned(config)
        if planned is not None:
            checklist.require_disk(planned, self.asked)
        if planned is not None and self._room is not None:
            allowed = self.allowances.even_if_too_large
            notes += checklist.require_fit(planned, self._room, even_if_too_large=allowed)
        for note in filter(None, notes):
            self.attempt.log.warning("%s", note)

    def _planned(self, config: TrainingConfig) -> checklist.Planned | None:
        """The run and its prediction; None: its model is of a kind that none is made for, which the log then says."""
        try:
            shape = read_shape(self.asked.model_folder)
            prediction = predict(shape, config, self._machine, self._rows.longest(config))
        except Invalid as error:
            self.attempt.log.warning("its memory is not predicted: %s", error)
            return None
        return checklist.Planned(shape, config, self._machine, prediction)

    def _repair(self, config: TrainingConfig, changed: dict[str, Any], error: Permanent) -> Exception:
        """Take the next rung and note it; what to raise for it."""
        found = checkpoints.survey(self.asked.checkpoints)
        footing = Footing(self._machine.on_cpu, found.newest is not None, frozenset(self.allowances.may_shrink))
        rung = next_rung(config, footing)
        if rung is None:
            return Permanent(f"{error}; {_nothing_left(footing)}", cause=Cause.OOM)
        if rung.starts_anew:
            shutil.rmtree(self.asked.checkpoints, ignore_errors=True)
        self._write(changed | rung.after)
        return Repaired(_told(rung, found.step), rung.before, rung.after)


def _told(rung: Rung, step: int | None) -> str:
    if step is None:
        return f"memory ran out: {rung}; begins anew, for there is no checkpoint yet"
    if rung.starts_anew:
        return f"memory ran out: {rung}; begins anew, for the checkpoint of step {step} does not fit that"
    return f"memory ran out: {rung}; goes on from step {step}"


def _nothing_left(footing: Footing) -> str:
    shrinkable = [name for name in ("sequence_len", "lora_r") if name not in footing.may_shrink]
    more = f"may_shrink: [{', '.join(shrinkable)}] would allow more" if shrinkable else "a smaller model is left"
    held = "; the optimizer could not change any more, for a checkpoint holds its state" * footing.has_checkpoint
    return f"nothing is left to make smaller{held}: {more}"
