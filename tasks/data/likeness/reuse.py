"""Copies that are meant to be there: one base example given to several agents, told by the records' lineage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from tasks.data.likeness.numbering import Numbering
from tasks.data.likeness.saying import digest

if TYPE_CHECKING:
    from tasks.data.record import Record

BASE = "base"  # the key in `metadata` under which a mixture names the example that a copy was made of
NOBODY = 0


@dataclass(frozen=True)
class Lineage:
    """For whom a copy is and of what it was made, as numbers; NOBODY where the record does not say."""

    target: int
    parent: int

    @property
    def told(self) -> bool:
        return self.target != NOBODY and self.parent != NOBODY


class Lineages:
    """Lineages as numbers: equal ones are equal in what they stand for."""

    def __init__(self) -> None:
        self._names = Numbering()
        self._names.number(digest(""))  # takes NOBODY
        self._targets: dict[str | None, int] = {None: NOBODY}  # few, and asked for every time

    def of(self, record: Record) -> Lineage:
        """The parent is `metadata.base`, else the piece in `origin`, else the agent whose example it was."""
        target = self._targets.get(record.target_agent)
        if target is None:
            target = self._targets[record.target_agent] = self._number("target", record.target_agent)
        if BASE in record.metadata:
            return Lineage(target, self._number("base", record.metadata[BASE]))
        if record.origin is not None:
            return Lineage(target, self._number("origin", [record.origin.document, record.origin.piece]))
        return Lineage(target, self._number("source", record.source_agent))

    def _number(self, meaning: str, name: Any) -> int:
        if name is None:
            return NOBODY
        text = name if isinstance(name, str) else msgspec.json.encode(name, order="deterministic").decode()
        return self._names.number(digest(f"{meaning} {text}"))
