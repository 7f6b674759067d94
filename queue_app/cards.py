"""The GPUs of this host as their driver tells them: cards, and the slices (MIG) that some are cut into."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from queue_app.errors import Invalid
from queue_app.nvml import NvmlError, open_nvml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from ctypes import c_void_p

    from queue_app.nvml import Nvml
    from settings import WorkerSettings

log = logging.getLogger("tuneyard.cards")

VISIBLE = "CUDA_VISIBLE_DEVICES"
UUIDS = ("GPU-", "MIG-")  # how that of a card, or of a slice, begins: there was one, and the CPU is no substitute
FIRST = "0"  # what a training takes that is told nothing
MIB = 2**20


@dataclass(frozen=True)
class Card:
    """What one gpu worker trains on: a card, or a slice of one."""

    uuid: str
    name: str
    number: str  # as the driver counts cards; of a slice, its card's


@dataclass(frozen=True)
class Load:
    """How busy a card is; None: it does not tell."""

    vram_used_mib: int | None = None
    vram_mib: int | None = None
    gpu_percent: int | None = None


@contextmanager
def asked_driver() -> Iterator[Nvml | None]:
    """The driver, to be asked about cards; None: there is none.

    Raises:
        Invalid: it is there and does not answer as it should
    """
    try:
        with open_nvml() as nvml:
            yield nvml
    except NvmlError as error:
        raise Invalid(f"the NVIDIA driver: {error}; `nvidia-smi` may say more") from error


def find_cards(warn: Callable[[str], object] = log.warning) -> list[Card]:
    """The cards of this host; of one that is cut into slices, its slices. One that does not answer is warned of.

    Raises:
        Invalid: the driver does not answer as it should
    """
    found: list[Card] = []
    with asked_driver() as nvml:
        if nvml is None:
            return []
        for number in range(nvml.count()):
            try:
                found += _at(nvml, number)
            except NvmlError as error:
                warn(f"card {number} of this host is left out: {error}")
    return found


def _at(nvml: Nvml, number: int) -> list[Card]:
    whole = nvml.by_index(number)
    return [Card(nvml.uuid(each), nvml.name(each), str(number)) for each in nvml.slices(whole) or [whole]]


def share_out(wanted: WorkerSettings, visible: str | None) -> list[str | None]:
    """Which card each gpu worker of this host gets; None: it trains on the CPU.

    `visible` is the CUDA_VISIBLE_DEVICES that the yard was started with: it hands out no other cards.

    Raises:
        Invalid: there are fewer cards than workers, or the driver does not answer as it should
    """
    named = wanted.cards if wanted.cards is not None else _listed(visible)
    cards = list(named) if named is not None else [card.uuid for card in find_cards()]
    number = wanted.gpu if wanted.gpu is not None else max(1, len(cards))
    if not cards:
        return [None] * number
    if number > len(cards):
        raise Invalid(
            f"workers.gpu asks for {number} gpu workers, and there are {len(cards)} cards ({', '.join(cards)}); one "
            "worker has one card: lower TUNEYARD_WORKERS__GPU, or cut the cards into slices (MIG)"
        )
    return list(cards[:number])


def _listed(visible: str | None) -> tuple[str, ...] | None:
    """What CUDA_VISIBLE_DEVICES names; CUDA reads it up to the first that is no card."""
    if visible is None:
        return None
    return tuple(takewhile(lambda name: name not in ("", "-1"), (name.strip() for name in visible.split(","))))


def own_card(environment: Mapping[str, str] = os.environ) -> Card | None:
    """The card of this process; None: it is to see none, or there is none.

    CUDA_VISIBLE_DEVICES names it by number, by UUID or by how the UUID of a card begins; without it, it is the first.

    Raises:
        Invalid: there is no such card, or the driver does not answer as it should
    """
    named = _listed(environment.get(VISIBLE, FIRST))
    if not named:
        return None
    faults: list[str] = []
    cards = find_cards(faults.append)
    own = next((card for card in cards if _is_called(card, named[0])), None)
    if own is None and (cards or faults or named[0].startswith(UUIDS)):
        known = [*faults, *(f"{card.number} is {card.name} ({card.uuid})" for card in cards)]
        there = "; ".join(known) or "no driver, or one that knows no card"
        raise Invalid(f"{VISIBLE}: this host has no card {named[0]} that answers ({there})")
    return own


def _is_called(card: Card, name: str) -> bool:
    begins = name.startswith("GPU-") and card.uuid.startswith(name)
    return begins or name in (card.uuid, card.number)


def look(card: Card) -> Load:
    """How busy a card is now, as far as it tells."""
    with suppress(NvmlError), open_nvml() as nvml:
        if nvml is not None:
            return load_of(nvml, nvml.by_uuid(card.uuid))
    return Load()


def load_of(nvml: Nvml, handle: c_void_p) -> Load:
    """How busy a card of an opened library is; a slice tells its memory, and not how busy it is."""
    used = total = percent = None
    with suppress(NvmlError):
        whole, free = nvml.memory(handle)
        used, total = (whole - free) // MIB, whole // MIB
    with suppress(NvmlError):
        percent = nvml.busy_percent(handle)
    return Load(used, total, percent)
