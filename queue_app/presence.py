"""A worker's sign of life in the store, so that `tuneyard workers` knows the idle ones too, on every host."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from queue_app.cards import look, own_card
from queue_app.errors import TuneyardError
from queue_app.process_identity import own_identity
from queue_app.store.rows import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from queue_app.store import Store

log = logging.getLogger("tuneyard.worker")


@contextmanager
def present(store: Store, name: str, *, queue: str, host: str, every_seconds: float) -> Iterator[None]:
    """Say every so often that this worker lives, and take that back at the end."""
    done = threading.Event()
    worker = Worker(name=name, queue=queue, host=host, process=own_identity(), seen_at=datetime.now(UTC))
    _say(store, worker)  # before it takes a job: whoever had its name before may be buried at any moment

    def beat() -> None:
        while not done.wait(every_seconds):
            worker.seen_at = datetime.now(UTC)
            _say(store, worker)

    thread = threading.Thread(target=beat, name="presence", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        try:
            store.workers.forget(name)
        except TuneyardError as error:  # it is forgotten by its silence
            log.warning("this worker could not be signed off: %s", error)


def _say(store: Store, worker: Worker) -> None:
    if worker.queue == "gpu":
        _look_at_card(worker)
    try:
        store.workers.see(worker)
    except TuneyardError as error:  # a busy store is no reason to stop working
        log.warning("this worker could not be signed on: %s", error)


def _look_at_card(worker: Worker) -> None:
    """See which card it has, if that answers, and how busy it is."""
    was_lost = worker.card_lost
    try:
        card = own_card()
    except TuneyardError as error:
        worker.card_lost, worker.vram_used_mib, worker.gpu_percent = True, None, None
        if not was_lost:
            log.warning("this worker takes no jobs while there are others whose card answers: %s", error)
        return
    worker.card_lost = False
    if was_lost:
        log.info("the card answers again")
    if card is not None:
        load = look(card)
        worker.card, worker.card_name, worker.vram_mib = card.uuid, card.name, load.vram_mib
        worker.vram_used_mib, worker.gpu_percent = load.vram_used_mib, load.gpu_percent
