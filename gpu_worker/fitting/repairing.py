"""A training that is looked at before it starts, and goes down the ladder when its memory runs out all the same.

Each rung ends the attempt by `Repaired`: the store writes the event, and the next attempt goes on from the last
checkpoint with what the run's notes say. So a crash between two rungs loses none, and a resume that needs more than the
first run did goes down the same ladder. Notes and checkpoints are copied to the artifact store: the next attempt may be
another host's.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gpu_worker import checkpoints
from gpu_worker.backends import load_backend
from gpu_worker.base_model import fingerprint
from gpu_worker.checkpoint_copies import Copies
from gpu_worker.child import run_child
from gpu_worker.copying import Copier
from gpu_worker.fitting import checklist
from gpu_worker.fitting.cards import held_cards, own_card
from gpu_worker.fitting.ladder import Footing, next_rung
from gpu_worker.fitting.machine import Machine, this_cpu
from gpu_worker.fitting.prediction import GIB
from gpu_worker.fitting.remembered import Alike, recall, remember
from gpu_worker.fitting.shape import read_shape
from gpu_worker.run_notes import RunNotes
from queue_app.errors import Invalid, Permanent, Repaired, StandsStill
from queue_app.lifecycle import Cause, Reason

if TYPE_CHECKING:
    from pathlib import Path

    from gpu_worker.fitting.allowances import Allowances
    from gpu_worker.fitting.cards import Card
    from gpu_worker.fitting.ladder import Rung
    from gpu_worker.training_config import TrainingConfig, TrainingOrder
    from queue_app.job_type import Attempt


def train_within_memory(attempt: Attempt, order: TrainingOrder, allowances: Allowances) -> dict[str, Any]:
    """Check and run a training; its measurements.

    Raises:
        Repaired: memory ran out, and the next attempt takes smaller settings
        Transient: its checkpoints are in the artifact store, and that cannot be read; and as `run_child`
        Permanent: it cannot fit, or nothing is left to make smaller; and as `run_child`
        StandsStill: the device is full of others' work, or does not answer
    """
    return _Run(attempt, order, allowances).train()


@dataclass(frozen=True)
class _Run:
    attempt: Attempt
    asked: TrainingOrder
    allowances: Allowances

    def train(self) -> dict[str, Any]:
        copies = Copies(self.attempt, self.asked.checkpoints, self.asked.curves)
        found = copies.look()
        notes = self._notes(copies.take_notes(found))
        config = self.asked.hyperparameters.model_copy(update=notes.changed)
        self._look_before(config)
        copies.fetch(found)
        with Copier(copies) as copier:
            made = self._run(config, notes, copier)
        if notes.changed:
            remember(self._home, self._alike, notes.changed, self.attempt.job_id)
        return made | {"repairs": notes.changed, "failed_copies": copier.failed}

    def _run(self, config: TrainingConfig, notes: RunNotes, copier: Copier) -> dict[str, Any]:
        order = self.asked.model_copy(update={"hyperparameters": config, "on_card": self._card is not None})
        try:
            return run_child(self.attempt, "gpu_worker.training", order.model_dump(mode="json"), copier.notice)
        except Permanent as error:
            if error.cause != Cause.OOM:
                raise
            raise self._repair(config, notes, error) from error

    @property
    def _card(self) -> Card | None:
        """The smallest of its cards, which is the measure of all; None: it trains on the CPU."""
        return min(self._cards, key=lambda card: (card.total_bytes, card.free_bytes), default=None)

    @cached_property
    def _cards(self) -> list[Card]:
        try:
            if self.attempt.cards is not None:
                return held_cards(self.attempt.cards)
            own = own_card()
            return [] if own is None else [own]
        except Invalid as error:  # lost, or its driver hangs: no fault of the job, and another worker's may do
            raise StandsStill(f"{error}; it is looked at again", Reason.GPU, checklist.LOOK_AGAIN_SECONDS) from error

    @cached_property
    def _machine(self) -> Machine:
        engine = self.asked.engine
        return this_cpu(engine) if self._card is None else Machine("cuda", engine)

    @cached_property
    def _rows(self) -> checklist.Rows:
        return checklist.read_rows(self.asked.rows)

    @cached_property
    def _room(self) -> checklist.Room | None:
        """Of each rank: a card of its own, or its share of the RAM."""
        room, ranks = checklist.room_of(self._card), self.asked.hyperparameters.cards
        if room is None or self._card is not None or ranks == 1:
            return room
        place = f"each of {ranks} processes with a share of {room.place}"
        return replace(room, place=place, total_bytes=room.total_bytes // ranks, free_bytes=room.free_bytes // ranks)

    @property
    def _home(self) -> Path:
        return self.attempt.settings.home.absolute()

    @cached_property
    def _alike(self) -> Alike:
        config, room = self.asked.hyperparameters, self._room
        device = "unknown" if room is None else f"{room.place}, {room.total_bytes / GIB:.1f} GiB"
        base, may = fingerprint(self.asked.model_folder), self.allowances.may_shrink
        return Alike(base, device, self.asked.engine, config, may, self._rows.longest(config))

    def _notes(self, known: RunNotes | None) -> RunNotes:
        """What was changed in this job, or, before its first start, in one like it."""
        number = self.attempt.number
        notes = replace(known, attempt=number) if known else RunNotes(number, self._recalled())
        notes.write(self.attempt.workdir)
        return notes

    def _recalled(self) -> dict[str, Any]:
        changed, found_by = recall(self._home, self._alike) or ({}, "")
        if changed:
            told = ", ".join(f"{name} {value}" for name, value in changed.items())
            self.attempt.log.warning(
                "memory ran out in job %s, which was like this one; taken as there: %s (remove %s to try what was "
                "asked for all the same)",
                *(found_by, told, self._alike.path(self._home)),
            )
        return changed

    def _look_before(self, config: TrainingConfig) -> None:
        notes = [checklist.checkpoint_note(config, self._rows.count)]
        for card in self._cards if self.asked.engine != "axolotl" else ():  # which has a PyTorch of its own
            checklist.require_build(card)
        planned = self._planned(config)
        if planned is not None:
            checklist.require_disk(planned, self.asked)
        rooms = [checklist.room_of(card) for card in self._cards] or [self._room]
        for room in rooms:
            if planned is not None and room is not None:
                allowed = self.allowances.even_if_too_large
                notes += checklist.require_fit(planned, room, even_if_too_large=allowed)
        for note in filter(None, notes):
            self.attempt.log.warning("%s", note)

    def _planned(self, config: TrainingConfig) -> checklist.Planned | None:
        """The run and its prediction; None: its model is of a kind that none is made for, which the log then says."""
        try:
            shape = read_shape(self.asked.model_folder)
            prediction = load_backend(self.asked.engine).estimate(
                shape, config, self._machine, self._rows.longest(config)
            )
        except Invalid as error:
            self.attempt.log.warning("its memory is not predicted: %s", error)
            return None
        return checklist.Planned(shape, config, self._machine, prediction)

    def _repair(self, config: TrainingConfig, notes: RunNotes, error: Permanent) -> Exception:
        """Take the next rung and note it; what to raise for it."""
        found = checkpoints.survey(self.asked.checkpoints)
        footing = Footing(self._machine.on_cpu, found.newest is not None, frozenset(self.allowances.may_shrink))
        rung = next_rung(config, footing)
        if rung is None:
            return Permanent(f"{error}; {_nothing_left(footing)}", cause=Cause.OOM)
        if rung.starts_anew:
            shutil.rmtree(self.asked.checkpoints, ignore_errors=True)
            notes = replace(notes, anew_after=self.attempt.number)
        replace(notes, changed=notes.changed | rung.after).write(self.attempt.workdir)
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
