"""TensorBoard's event files, for curves of numbers, without TensorBoard.

A file is a row of records: the length of the data as 8 bytes, a masked CRC-32C of those, the data, a masked CRC-32C of
it (little endian). The data is a protocol buffer `Event`: wall_time (1, double), step (2, int64), file_version (3,
text), summary (5, of value (1, of tag (1, text) and simple_value (2, float))), session_log (7, of status (1): START is
1).
Sources: `tensorflow/core/lib/io/record_writer.h`, `tensorflow/core/util/event.proto`, `…/framework/summary.proto`.
"""

from __future__ import annotations

import os
import struct
import time
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CASTAGNOLI = 0x82F63B78  # the polynomial of CRC-32C, reflected
VARINT, DOUBLE, TEXT, FLOAT = 0, 1, 2, 5  # wire types


class EventFile:
    """One attempt's curves. `from_step`: what earlier attempts told of that step and later ones is void."""

    def __init__(self, folder: Path, from_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = (
            folder / f"events.out.tfevents.{time.time_ns() // 10**9:010d}.tuneyard.{os.getpid()}.{time.time_ns()}"
        )
        self._write(_field(3, TEXT, b"brain.Event:2"))
        self._write(_field(2, VARINT, _varint(from_step)) + _field(7, TEXT, _field(1, VARINT, _varint(1))))

    def tell(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to the curve of each name."""
        points = b"".join(
            _field(1, TEXT, _field(1, TEXT, name.encode()) + _field(2, FLOAT, struct.pack("<f", value)))
            for name, value in values.items()
        )
        self._write(_field(2, VARINT, _varint(step)) + _field(5, TEXT, points))

    def _write(self, event: bytes) -> None:
        event = _field(1, DOUBLE, struct.pack("<d", time.time())) + event
        length = struct.pack("<Q", len(event))
        with self.path.open("ab") as file:
            file.write(length + masked_crc(length) + event + masked_crc(event))


def masked_crc(data: bytes) -> bytes:
    """CRC-32C, rotated and shifted by a constant, so that a CRC of data with CRCs in it tells something."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _table()[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


@cache
def _table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (CASTAGNOLI if crc & 1 else 0)
        table.append(crc)
    return table


def _field(number: int, wire: int, value: bytes) -> bytes:
    return _varint(number << 3 | wire) + (_varint(len(value)) if wire == TEXT else b"") + value


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
