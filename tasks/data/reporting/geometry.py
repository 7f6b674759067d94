"""Charts as shapes with coordinates, in units of an SVG's view box; colours and fonts are the template's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.data.reporting.report import number

if TYPE_CHECKING:
    from tasks.data.reporting.report import Chart

WIDTH = 640
COLUMNS_HEIGHT = 170
AXIS_HEIGHT = 22
ROW_HEIGHT = 24
LABEL_WIDTH = 170
VALUE_WIDTH = 70
LABEL_CHARACTERS = 24  # that fit into the label's width
LABELS = 7  # at most, below columns


@dataclass(frozen=True)
class Shape:
    """A bar as a rectangle, its name and number with their places, and what a pointer on it shows."""

    x: float
    y: float
    width: float
    height: float
    label: str
    label_x: float
    label_y: float
    value: str
    value_x: float
    value_y: float
    hint: str


@dataclass(frozen=True)
class Drawing:
    """All shapes of a chart and the size of the whole."""

    width: int
    height: int
    shapes: list[Shape]


def draw(chart: Chart) -> Drawing:
    """The drawing of a chart."""
    return _columns(chart) if chart.kind == "histogram" else _rows(chart)


def _columns(chart: Chart) -> Drawing:
    most = max((bar.value for bar in chart.bars), default=0) or 1
    step = WIDTH / max(1, len(chart.bars))
    every = -(-len(chart.bars) // LABELS)
    shapes = []
    for place, bar in enumerate(chart.bars):
        height = (COLUMNS_HEIGHT - 18) * bar.value / most
        height = max(height, 1.0) if bar.value else 0.0  # what is there is seen
        top = COLUMNS_HEIGHT - height
        middle = step * (place + 0.5)
        label = bar.label if place % every == 0 else ""
        value = number(bar.value) if len(chart.bars) <= 12 and bar.value else ""
        shapes.append(
            Shape(
                step * place + 1,
                top,
                step - 2,
                height,
                label,
                middle,
                COLUMNS_HEIGHT + 15,
                value,
                middle,
                top - 4,
                _hint(bar.label, bar.value),
            )
        )
    return Drawing(WIDTH, COLUMNS_HEIGHT + AXIS_HEIGHT, shapes)


def _rows(chart: Chart) -> Drawing:
    most = max((bar.value for bar in chart.bars), default=0) or 1
    room = WIDTH - LABEL_WIDTH - VALUE_WIDTH
    shapes = []
    for place, bar in enumerate(chart.bars):
        top = ROW_HEIGHT * place
        width = max(room * bar.value / most, 1.0)
        base = top + 16
        label = bar.label if len(bar.label) <= LABEL_CHARACTERS else bar.label[: LABEL_CHARACTERS - 1] + "…"
        value_x = LABEL_WIDTH + width + 6
        shapes.append(
            Shape(
                LABEL_WIDTH,
                top + 4,
                width,
                ROW_HEIGHT - 8,
                label,
                LABEL_WIDTH - 8,
                base,
                number(bar.value),
                value_x,
                base,
                _hint(bar.label, bar.value),
            )
        )
    return Drawing(WIDTH, ROW_HEIGHT * len(chart.bars), shapes)


def _hint(label: str, value: int) -> str:
    return f"{label}: {value:,}"
