"""Blocks of bytes cut into the elements of a JSON array, or into objects one after the other."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from tasks.data.cutting import KEPT_BYTES, Fault, cut_short, too_long, unpacked
from tasks.data.opening import Damaged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tasks.data.cutting import Cut

_CLOSING = {b"{": b"}", b"[": b"]"}
_GAP = re.compile(rb"[\s,]*+")
# up to the next bracket outside a text, or to a text that does not end
_BRACKET = re.compile(rb'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+")*+(["\[\]{}])', re.DOTALL)
_SCALAR = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[^,\]\s]++', re.DOTALL)
_FIRST_KEY = re.compile(rb'\{\s*+("(?:[^"\\]++|\\.)*+")\s*+:', re.DOTALL)
_TAIL_BYTES = 4096  # of an element that is too long: the next one may begin in them
_UNENDED, _REPAIR_END = "the file ends within this row", "get the file again, or repair its end"
_CLOSE = "close its brackets and quotes"
_skip = msgspec.json.Decoder(msgspec.Raw).decode


def cut_objects(blocks: Iterable[bytes], most_bytes: int) -> Iterator[Cut]:
    """The elements of an array, or objects one after the other, numbered from 1.

    After an element that does not end, the next one is where a brace and the first key of the file stand again.
    """
    objects = _Objects(most_bytes)
    try:
        for block in unpacked(blocks):
            if isinstance(block, Fault):
                yield block
                return
            yield from objects.feed(block)
    except Damaged as error:
        yield cut_short(objects.number + 1, error, objects.buffer)
        return
    yield from objects.feed(b"", last=True)


class _Objects:
    """Elements out of what has been fed so far."""

    def __init__(self, most_bytes: int) -> None:
        self.buffer, self.number = b"", 0
        self._most_bytes = most_bytes
        self._opened = False
        self._next: re.Pattern[bytes] | None = None  # how an element begins
        self._head: bytes | None = None  # how an element begins that is too long, while its end is looked for
        self._lost = 0  # its bytes that are not kept

    def feed(self, block: bytes, *, last: bool = False) -> Iterator[Cut]:
        """The elements that end in what is there now; with `last`, what is left is an element that does not end."""
        self.buffer += block
        if self._head is not None:
            yield from self._find_end(self._head, last=last)
        at = 0
        while self._head is None and (start := _GAP.match(self.buffer, at).end()) < len(self.buffer):  # type: ignore[union-attr]  # matches nothing
            if self.buffer[start] in b"[]" and (self.buffer[start] == 0x5D) == self._opened:
                self._opened, at = not self._opened, start + 1
                continue
            end = _end(self.buffer, start)
            if end is None and not last and len(self.buffer) - start <= self._most_bytes:
                at = start
                break
            self._next = self._next or _beginning(self.buffer, start)
            at, found = self._take(start, end, last=last)
            if found:
                self.number += 1
                yield found
        self.buffer = self.buffer[at:]

    def _take(self, start: int, end: int | None, *, last: bool) -> tuple[int, Cut | None]:
        """The element at `start`, and where to go on; none if it is too long and more of it is to come."""
        raw = self.buffer[start:end]
        if end is not None and _is_json(raw):
            return end, (self.number + 1, raw)
        within = len(self.buffer) if end is None else end
        if self._next and (other := self._next.search(self.buffer, start + 1, within)):
            end = other.start(1)
            raw = self.buffer[start:end].rstrip(b", \t\r\n")
            if len(raw) > self._most_bytes:
                return end, too_long(self.number + 1, len(raw), raw)
            return end, Fault(self.number + 1, "json", "the next row begins before this one ends", _CLOSE, raw)
        if end is not None:
            return end, (self.number + 1, raw)
        if last:
            return len(self.buffer), Fault(self.number + 1, "cut", _UNENDED, _REPAIR_END, raw[:KEPT_BYTES])
        self._head, self.buffer = raw[:KEPT_BYTES], raw[-_TAIL_BYTES:]
        self._lost = len(raw) - len(self.buffer)
        return 0, None

    def _find_end(self, head: bytes, *, last: bool) -> Iterator[Cut]:
        """Pass over an element that is too long, up to the next one."""
        found = self._next.search(self.buffer) if self._next else None
        if found or last:
            self.number += 1
            passed = found.start() if found else len(self.buffer)
            yield too_long(self.number, self._lost + passed, head)
            self.buffer, self._head = self.buffer[found.start(1) :] if found else b"", None
        else:
            self._lost += len(self.buffer[:-_TAIL_BYTES])
            self.buffer = self.buffer[-_TAIL_BYTES:]


def _is_json(raw: bytes) -> bool:
    try:
        _skip(raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _beginning(buffer: bytes, start: int) -> re.Pattern[bytes] | None:
    """How an element begins, by the one at `start`: with the same key, behind a comma, a line end or a brace."""
    found = _FIRST_KEY.match(buffer, start)
    return re.compile(rb"[,}\n]\s*+(\{\s*+" + re.escape(found[1]) + rb"\s*+:)") if found else None


def _end(buffer: bytes, start: int) -> int | None:
    """Where the value that begins at `start` ends; None if that cannot be told yet."""
    if buffer[start] not in b"{[":
        found = _SCALAR.match(buffer, start)
        end = found.end() if found else start + 1
        return end if end < len(buffer) else None
    open_ones: list[bytes] = []  # what closes them; one that closes nothing is passed over
    for bracket in _BRACKET.finditer(buffer, start):
        if closing := _CLOSING.get(bracket[1]):
            open_ones.append(closing)
        elif bracket[1] == open_ones[-1]:
            open_ones.pop()
            if not open_ones:
                return bracket.end()
        elif bracket[1] == b'"':
            return None
    return None
