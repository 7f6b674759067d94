"""When a loss has left its course: far above its running median, several steps in a row."""

from __future__ import annotations

from collections import deque
from statistics import median

REMEMBERED = 50  # losses that the running median is of
LEAST = 10  # losses before there is a median to compare with


class Course:
    """The losses of a run so far; those that are too high do not count as its course."""

    def __init__(self, factor: float, steps: int) -> None:
        self.factor, self.steps = factor, steps
        self.usual: deque[float] = deque(maxlen=REMEMBERED)
        self.too_high = 0  # in a row

    @property
    def median(self) -> float | None:
        return median(self.usual) if len(self.usual) >= LEAST else None

    def leaves_at(self, loss: float) -> bool:
        """Take in the loss of the next step; whether it is the last of `steps` too high ones in a row."""
        usual = self.median
        if usual is None or loss <= self.factor * usual:
            self.usual.append(loss)
            self.too_high = 0
            return False
        self.too_high += 1
        return self.too_high >= self.steps
