"""Curves of numbers over steps: in the terminal, as SVG and as PNG, without a library for it."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Point = tuple[float, float]  # step, value

WIDTH, HEIGHT = 900, 420  # pixels of a picture
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 20, 40  # its margins
MARGIN = 10  # characters beside a drawn curve
COLOURS = ((31, 119, 180), (214, 39, 40))
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a braille character: four rows of two
# Three pixels by five of each character that a number is made of, row by row, a bit a pixel.
GLYPHS = {
    "0": (7, 5, 5, 5, 7), "1": (2, 6, 2, 2, 7), "2": (7, 1, 7, 4, 7), "3": (7, 1, 7, 1, 7), "4": (5, 5, 7, 1, 1),
    "5": (7, 4, 7, 1, 7), "6": (7, 4, 7, 5, 7), "7": (7, 1, 1, 1, 1), "8": (7, 5, 7, 5, 7), "9": (7, 5, 7, 1, 7),
    ".": (0, 0, 0, 0, 2), "-": (0, 0, 7, 0, 0), "+": (0, 2, 7, 2, 0), "e": (7, 5, 7, 4, 7),
}  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """What a picture shows, from the lowest to the highest of all curves."""

    left: float
    right: float
    low: float
    high: float

    @classmethod
    def of(cls, curves: Sequence[Sequence[Point]]) -> Frame:
        points = [point for curve in curves for point in curve]
        steps, values = [step for step, _ in points], [value for _, value in points]
        return cls(min(steps), max(steps), min(values), max(values))

    def place(self, point: Point, width: float, height: float) -> Point:
        """Where a point lies in a field: from its left, and from its top."""
        across = (point[0] - self.left) / ((self.right - self.left) or 1)
        up = (point[1] - self.low) / ((self.high - self.low) or 1)
        return across * width, (1 - up) * height


def drawn(curve: Sequence[Point], columns: int, rows: int) -> Iterator[str]:
    """A curve in braille, line by line, with the highest and the lowest value at its side."""
    frame = Frame.of([curve])
    cells = [[0] * columns for _ in range(rows)]
    places = [frame.place(point, columns * 2 - 1, rows * 4 - 1) for point in curve]
    for x, y in _dots(places):
        cells[y // 4][x // 2] |= DOTS[y % 4][x % 2]
    for number, line in enumerate(cells):
        value = frame.high if number == 0 else frame.low if number == rows - 1 else None
        label = "" if value is None else _number(value)
        yield f"{label:>{MARGIN - 2}} ┤" + "".join(chr(0x2800 + cell) for cell in line).rstrip("\u2800")
    first, last = _number(frame.left), _number(frame.right)
    yield " " * MARGIN + first + last.rjust(columns - len(first))


def svg(curves: Mapping[str, Sequence[Point]]) -> str:
    """The curves as a picture of lines."""
    frame = Frame.of(list(curves.values()))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for x, y, text in _labels(frame):
        parts.append(f'<text x="{x}" y="{y + 5}">{text}</text>')
    for number, (name, curve) in enumerate(curves.items()):
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in _in_picture(frame, curve))
        colour = "rgb({}, {}, {})".format(*COLOURS[number])
        parts.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<text x="{LEFT + 120 * number}" y="14" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def png(curves: Mapping[str, Sequence[Point]]) -> bytes:
    """The curves as a picture of pixels (Portable Network Graphics, https://www.w3.org/TR/png-3/)."""
    frame = Frame.of(list(curves.values()))
    pixels = [bytearray(b"\xff" * WIDTH * 3) for _ in range(HEIGHT)]
    for x, y, text in _labels(frame):
        _write(pixels, x, y - 5, text)
    for number, curve in enumerate(curves.values()):
        for x, y in _dots(_in_picture(frame, curve)):
            for across, down in ((0, 0), (1, 0), (0, 1)):
                pixels[y + down][3 * (x + across) : 3 * (x + across) + 3] = bytes(COLOURS[number])
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)  # 8 bits, RGB
    lines = b"".join(b"\0" + line for line in pixels)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _in_picture(frame: Frame, curve: Sequence[Point]) -> list[Point]:
    placed = (frame.place(point, WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM) for point in curve)
    return [(LEFT + x, TOP + y) for x, y in placed]


def _labels(frame: Frame) -> Iterator[tuple[int, int, str]]:
    """The numbers at the axes: x and the middle of y in pixels, and the text."""
    for part in range(5):
        yield (
            8,
            int(TOP + (HEIGHT - TOP - BOTTOM) * part / 4),
            _number(frame.high + (frame.low - frame.high) * part / 4),
        )
    yield LEFT, HEIGHT - BOTTOM // 2, _number(frame.left)
    yield WIDTH - RIGHT - 40, HEIGHT - BOTTOM // 2, _number(frame.right)


def _write(pixels: list[bytearray], left: int, top: int, text: str) -> None:
    """A number in pixels, each bit of its characters two by two of them."""
    for place, character in enumerate(text):
        for row, bits in enumerate(GLYPHS[character]):
            for column in (column for column in range(3) if bits >> (2 - column) & 1):
                x, y = left + place * 8 + column * 2, top + row * 2
                for line in pixels[y : y + 2]:
                    line[3 * x : 3 * x + 6] = bytes(6)


def _dots(places: Sequence[Point]) -> Iterator[tuple[int, int]]:
    """The points of the lines from place to place."""
    for (x, y), (to_x, to_y) in zip(places, [*places[1:], places[-1]], strict=True):
        count = int(max(abs(to_x - x), abs(to_y - y))) + 1
        for part in range(count + 1):
            yield round(x + (to_x - x) * part / count), round(y + (to_y - y) * part / count)


def _number(value: float) -> str:
    return f"{value:.4g}"
