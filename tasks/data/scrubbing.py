"""Personal data and secrets replaced: by numbered placeholders, or by surrogates that are the same all over a data set.

Covered: all texts of a record (see `rewriting`), each looked through again after replacing until nothing new is found.
Not covered: what the detectors do not know (see `personal`), and values found with less than the asked confidence; the
latter are counted (see `remains`).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

from queue_app.errors import Permanent
from queue_app.lifecycle import Cause
from tasks.data.json_text import Number, Spelled, cut, splice
from tasks.data.key_file import KeyFile
from tasks.data.personal import Search
from tasks.data.record import encode
from tasks.data.rewriting import ID, IDS, rewrite
from tasks.data.scanning import find_in_value
from tasks.data.surrogates import SHAPE, draw_surrogate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tasks.data.personal import Finding
    from tasks.data.record import Record

Mode = Literal["placeholder", "surrogate"]
PLACEHOLDER = re.compile(r"\[[A-Z_]{2,20}_[1-9][0-9]{0,5}\]")
_ROUNDS = 4  # replacing can bring two halves together; twice is the most that was seen
_TRIES = 2000  # for a surrogate that stands for nothing else yet


@dataclass
class Scrubber:
    """Replaces what a search finds. One scrubber a data set: it knows which surrogates are taken.

    Memory grows with the number of different values found, not with the length of the data set.
    """

    mode: Mode = "placeholder"
    search: Search = field(default_factory=Search)
    keys: KeyFile = field(default_factory=KeyFile)
    reversible: bool = False  # remember placeholders, and mark the examples with an id that leads to them
    examples: int = 0
    touched: int = 0
    replaced: Counter[str] = field(default_factory=Counter)
    _by_value: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)
    _taken: dict[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._taken = self.keys.table.setdefault("", {}) if self.mode == "surrogate" else {}

    def scrub(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records without what was found; each is changed in place."""
        for record in records:
            self.examples += 1
            self._scrub(record)
            yield record

    def _stand_ins(self, text: str) -> Iterator[re.Match[str]]:
        if self.mode == "placeholder":
            return PLACEHOLDER.finditer(text) if "[" in text else iter(())
        return (match for match in SHAPE.finditer(text) if match[0] in self._taken) if self._taken else iter(())

    def find_new(self, key: str | None, text: str) -> list[Finding]:
        """What is found in a text and neither lies in nor reaches into something that this scrubber has put there."""
        found = find_in_value(key, text, self.search)
        if not found:
            return found
        ours = [match.span() for match in self._stand_ins(text)]
        return [each for each in found if not any(start < each.end and each.start < end for start, end in ours)]

    def _scrub(self, record: Record) -> None:
        known: dict[tuple[str, str], str] = {}  # of this example
        texts: list[str] = []
        found = 0

        def look(field: str, key: str | None, text: str) -> str:
            nonlocal found
            del field
            texts.append(text)
            found += len(self.find_new(key, text))
            return text

        rewrite(record, look)
        if not found:
            return
        self.touched += 1
        taken = {name for text in texts if "[" in text for name in PLACEHOLDER.findall(text)}
        example = self._id(record) if self.reversible and self.mode == "placeholder" else ""

        def change(field: str, key: str | None, text: str) -> str:
            del field
            return self._replace(key, text, lambda kind, value: self._stand_in(kind, value, (known, taken, example)))

        rewrite(record, change)
        if example:
            record.metadata[IDS] = [*marks_of(record), example]

    def _replace(self, key: str | None, text: str, stand_in: Callable[[str, str], str]) -> str:
        for _ in range(_ROUNDS):
            found = self.find_new(key, text)
            if not found:
                break
            found = found[:1] if isinstance(text, Number) else found
            self.replaced.update(each.type for each in found)
            text = splice(text, [(start, end, stand_in(kind, cut(text, start, end))) for start, end, kind, _ in found])
        return text

    def _stand_in(self, kind: str, value: str, example: _Example) -> str:
        if self.mode == "surrogate":
            return self._surrogate(kind, value)
        known, taken, name = example
        if (kind, value) not in known:
            numbered = (f"[{kind.upper()}_{number}]" for number in count(1))
            known[kind, value] = made = next(each for each in numbered if each not in taken)
            taken.add(made)
        if name:
            self.keys.put(known[kind, value], value, name)
        return known[kind, value]

    def _surrogate(self, kind: str, value: str) -> str:
        made = self._by_value.get((kind, value))
        if made is None:
            tries = (draw_surrogate(self.keys.key, kind, value, attempt) for attempt in range(_TRIES))
            made = next((each for each in tries if self._taken.get(each, value) == value), None)
            if made is None:
                raise Permanent(
                    f"there are more different values of type {kind} than free surrogates for them; "
                    "take mode=placeholder, or scrub the parts of the data set one by one",
                    cause=Cause.DATA,
                )
            self._by_value[kind, value] = made
        if made not in self._taken or isinstance(value, Spelled):
            self._taken[made] = value
        return made

    def _id(self, record: Record) -> str:
        # by content: a key file that serves several data sets has one table for equal examples, and no others meet
        return "s" + hmac.new(self.keys.key, encode(record), hashlib.sha256).hexdigest()[:24]


_Example = tuple[dict[tuple[str, str], str], set[str], str]


def marks_of(record: Record) -> list[Any]:
    """What stands in a record's metadata where ids of scrubbings go.

    Raises:
        Permanent: it is no list, so that no id can stand there too
    """
    marks = record.metadata.get(IDS, [])
    if not isinstance(marks, list):
        raise Permanent(
            f"an example has metadata.{IDS}, where a scrubbing with a key file keeps its ids, with something else in "
            "it; rename that, or scrub without key_file",
            cause=Cause.DATA,
        )
    return marks


def ids_of(record: Record) -> list[str]:
    """By which tables of key files the placeholders of a record can be undone."""
    marks = record.metadata.get(IDS, [])
    return [mark for mark in marks if isinstance(mark, str) and ID.fullmatch(mark)] if isinstance(marks, list) else []
