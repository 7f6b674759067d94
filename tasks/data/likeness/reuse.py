"""Copies that are meant to be there: one base example given to several agents, told by the records' lineage."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from tasks.data.likeness.saying import digest

if TYPE_CHECKING:
    from tasks.data.record import Record

BASE = "base"  # the key in `metadata` under which a mixture names the example that a copy was made of
NOBODY = 0


@dataclass(frozen=True)
class Lineage:
    """For whom a copy is and of what it was made, in 64 bits each; NOBODY where the record does not say."""

    target: int
    parent: int


def lineage_of(record: Record) -> Lineage:
    """The parent is `metadata.base`, else the piece in `origin`, else the agent whose example it was."""
    target = _standing_for("target", record.target_agent)
    if BASE in record.metadata:
        return Lineage(target, _standing_for("base", record.metadata[BASE]))
    if record.origin is not None:
        return Lineage(target, _standing_for("origin", [record.origin.document, record.origin.piece]))
    return Lineage(target, _standing_for("source", record.source_agent))


def _standing_for(meaning: str, name: Any) -> int:
    if name is None:
        return NOBODY
    text = name if isinstance(name, str) else msgspec.json.encode(name, order="deterministic").decode()
    return _hashed(f"{meaning} {text}")


@lru_cache(1024)  # an agent is asked for again and again
def _hashed(text: str) -> int:
    """Never NOBODY; only examples that are alike are compared by it."""
    return int.from_bytes(digest(text)[:8], "little") or 1
