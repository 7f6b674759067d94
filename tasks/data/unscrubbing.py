"""A scrubbing undone, by the key file that was written with it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from tasks.data.json_text import Number, splice
from tasks.data.rewriting import IDS, rewrite
from tasks.data.scrubbing import PLACEHOLDER, ids_of
from tasks.data.statistics import STATISTICS
from tasks.data.surrogates import SHAPE

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tasks.data.key_file import KeyFile
    from tasks.data.record import Record

_ROUNDS = 4  # as many as scrubbing has: a value may itself hold a stand-in of an earlier round


@dataclass
class Unscrubber:
    """Puts the values back; `unresolved` counts placeholders that the key file says nothing about.

    Covered: examples that were shuffled, left out, mixed with others or scrubbed again. Not covered: a text that was
    there before and equals a surrogate, such as a number for films: it is taken for one; and a value that stood in one
    example's JSON with escapes and without: it comes back with them.
    """

    keys: KeyFile
    examples: int = 0
    touched: int = 0
    restored: Counter[str] = field(default_factory=Counter)  # by type; secrets of all kinds under one name
    unresolved: int = 0
    foreign: int = 0  # examples that were scrubbed with a key file, and not with this one

    def restore(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records as they were before; each is changed in place."""
        for record in records:
            self.examples += 1
            before = self.restored.total()
            self._restore(record)
            self.touched += self.restored.total() > before
            yield record

    def _restore(self, record: Record) -> None:
        ids = ids_of(record)
        mine = [each for each in ids if each in self.keys.table]
        of_all = self.keys.table.get("", {})
        placeholders = {stand_in: value for each in mine for stand_in, value in self.keys.table[each].items()}

        def change(field: str, key: str | None, text: str) -> str:
            del field, key
            if isinstance(text, Number):
                return text  # what stands for something is never a number
            if placeholders and "[" in text:
                text = self._put_back(PLACEHOLDER, placeholders, text)
            if of_all:
                text = self._put_back(SHAPE, of_all, text)
            self.unresolved += len(PLACEHOLDER.findall(text)) if "[" in text else 0
            return text

        rewrite(record, change)
        self.foreign += bool(ids) and not mine
        if mine:
            left = [each for each in record.metadata[IDS] if each not in mine]
            record.metadata = {key: value for key, value in record.metadata.items() if key != IDS}
            record.metadata |= {IDS: left} if left else {}

    def _put_back(self, shape: re.Pattern[str], table: dict[str, str], text: str) -> str:
        for _ in range(_ROUNDS):
            known = [match for match in shape.finditer(text) if match[0] in table]
            if not known:
                break
            self.restored.update(match.lastgroup or match[0][1:].rpartition("_")[0].lower() for match in known)
            text = splice(text, [(*match.span(), table[match[0]]) for match in known])
            if isinstance(text, Number):  # what was a number in JSON is one again
                break
        return text


def keys_of(source: Path) -> list[str]:
    """The fingerprints of the key files that a dataset was scrubbed with and not restored by; none if it says none."""
    try:
        told = msgspec.json.decode((source / STATISTICS).read_bytes(), type=_Statistics)
    except (OSError, msgspec.DecodeError):
        return []
    return [*told.scrub.keys, *told.unscrub.keys]


class _Keys(msgspec.Struct, frozen=True):
    keys: tuple[str, ...] = ()


class _Statistics(msgspec.Struct):
    scrub: _Keys = _Keys()
    unscrub: _Keys = _Keys()
