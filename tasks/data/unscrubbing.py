"""A scrubbing undone, by the key file that was written with it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tasks.data.rewriting import IDS, Number, rewrite
from tasks.data.scrubbing import PLACEHOLDER, ids_of
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
    there before and equals a surrogate, such as a number for films: it is taken for one.
    """

    keys: KeyFile
    examples: int = 0
    touched: int = 0
    restored: Counter[str] = field(default_factory=Counter)  # by type; secrets of all kinds under one name
    unresolved: int = 0

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
        left = [each for each in ids if each not in mine]
        if mine:
            record.metadata = {key: value for key, value in record.metadata.items() if key != IDS}
            record.metadata |= {IDS: left} if left else {}

    def _put_back(self, shape: re.Pattern[str], table: dict[str, str], text: str) -> str:
        def value_of(match: re.Match[str]) -> str:
            value = table.get(match[0])
            if value is None:
                return match[0]
            kind = match.lastgroup or match[0][1:].rpartition("_")[0].lower()
            self.restored[kind] += 1
            return value

        for _ in range(_ROUNDS):
            whole = table.get(text)
            if whole is not None:  # what was a number in JSON becomes one again
                self.restored[_kind_of(shape, text)] += 1
                return whole
            new = shape.sub(value_of, text)
            if new == text:
                break
            text = new
        return text


def unscrub(source: Path, key_file: Path) -> Iterator[Record]:
    """The examples of a scrubbed data set as they were before.

    Raises:
        Invalid: the key file cannot be read
        Permanent: an example is bad; names file and line
    """
    from tasks.data.key_file import read_key_file
    from tasks.data.reading import read_records

    return Unscrubber(read_key_file(key_file)).restore(read_records(source))


def _kind_of(shape: re.Pattern[str], stand_in: str) -> str:
    match = shape.fullmatch(stand_in)
    return (match and match.lastgroup) or stand_in[1:].rpartition("_")[0].lower()
