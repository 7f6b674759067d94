"""Cards: those of this host as they are now, and well-known ones by their memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from queue_app import cards
from queue_app.errors import Invalid
from queue_app.job_type import nearest

if TYPE_CHECKING:
    from queue_app.nvml import Nvml

GIB = 2**30
# GiB that a card reports, by name. Where a name has several sizes, the size is part of it.
KNOWN_CARDS: dict[str, float] = {
    "RTX 3060": 12,
    "RTX 4060 Ti 16 GB": 16,
    "RTX 3090": 24,
    "RTX 4090": 24,
    "RTX 5080": 16,
    "RTX 5090": 32,
    "RTX A6000": 48,
    "L4": 22.5,
    "L40S": 44.5,
    "A100 40 GB": 39.5,
    "A100 80 GB": 79.3,
    "H100 80 GB": 79.6,
    "H200": 139.8,
}


@dataclass(frozen=True)
class Holder:
    """A process that computes on a card."""

    pid: int
    name: str
    size_bytes: int | None  # the driver does not always say

    def __str__(self) -> str:
        held = "" if self.size_bytes is None else f", {self.size_bytes / GIB:.1f} GiB"
        return f"{self.name} (pid {self.pid}{held})"


@dataclass(frozen=True)
class Card:
    """A card of this host, or a MIG slice of one, as it is now."""

    number: str  # as the driver counts cards; of a slice, its card's
    name: str
    uuid: str
    total_bytes: int
    free_bytes: int
    capability: tuple[int, int]
    cuda: tuple[int, int]  # the newest that the driver runs
    driver: str
    holders: tuple[Holder, ...]

    @property
    def arch(self) -> str:
        return f"sm_{self.capability[0]}{self.capability[1]}"


def known_room(name: str) -> int:
    """The memory of a well-known card in bytes.

    Raises:
        Invalid: it is not among them
    """
    plain = {_plain(each): gib for each, gib in KNOWN_CARDS.items()}
    if _plain(name) not in plain:
        near = nearest(name, list(KNOWN_CARDS))
        raise Invalid(f'no card is known as "{name}"{near}; known: {", ".join(KNOWN_CARDS)}; or give --vram GIB')
    return int(plain[_plain(name)] * GIB)


def _plain(name: str) -> str:
    return name.lower().replace("nvidia", "").replace("geforce", "").replace(" ", "")


def cards_here() -> list[Card]:
    """All cards of this host, of a cut one its slices; none where there is no driver.

    Raises:
        Invalid: the driver is there and does not answer as it should
    """
    with cards.asked_driver() as nvml:
        return [] if nvml is None else [_look(nvml, card) for card in cards.find_cards()]


def own_card() -> Card | None:
    """The card that this worker trains on; None: it trains on the CPU.

    Raises:
        Invalid: there is no such card, or the driver does not answer as it should
    """
    own = cards.own_card()
    with cards.asked_driver() as nvml:
        return None if nvml is None or own is None else _look(nvml, own)


def held_cards(uuids: tuple[str, ...]) -> list[Card]:
    """The cards that an attempt holds together.

    Raises:
        Invalid: one of them is not there any more, or the driver does not answer as it should
    """
    with cards.asked_driver() as nvml:
        known = {} if nvml is None else {card.uuid: card for card in cards.find_cards()}
        if missing := [uuid for uuid in uuids if uuid not in known]:
            raise Invalid(f"this host has no card {', '.join(missing)} that answers")
        return [] if nvml is None else [_look(nvml, known[uuid]) for uuid in uuids]


def _look(nvml: Nvml, card: cards.Card) -> Card:
    handle = nvml.by_uuid(card.uuid)
    total, free = nvml.memory(handle)
    whole = nvml.parent(handle) if card.uuid.startswith("MIG-") else handle  # a slice has no architecture of its own
    return Card(
        number=card.number,
        name=card.name,
        uuid=card.uuid,
        total_bytes=total,
        free_bytes=free,
        capability=nvml.capability(whole),
        cuda=nvml.cuda_version(),
        driver=nvml.driver_version(),
        holders=tuple(Holder(pid, _name_of(pid), held) for pid, held in nvml.processes(handle)),
    )


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "a process not seen from here"
