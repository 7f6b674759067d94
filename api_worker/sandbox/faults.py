"""The faults that the sandbox commits on request.

    [VENDOR/]ROUTE:FAULT             every time; without VENDOR at every vendor, each with counts and chances of its own
    [VENDOR/]ROUTE:FAULT*COUNT       the first COUNT times
    [VENDOR/]ROUTE:FAULT@CHANCE      by chance, 0 to 1, drawn from the seed

A FAULT of a request is an HTTP status or one of `drop slot daily-cap quota`; with `-after` the request is carried out
first and only the answer is lost. `429=SECONDS` says Retry-After, `slow=SECONDS` answers late, and `list:lag=SECONDS`
leaves jobs out of the list for that long after their creation.

A job that was created may come to grief later: `job:slot` ends it for want of a slot, `job:quota` for want of money,
`job:broken` by a fault of the provider's, `job:restart` goes on with it under a new id, and `job:odd-word=SECONDS`
shows a status that nobody knows while it runs. An uploaded file too: `file:broken` is one that the provider cannot
process, `file:refused=NUMBER` one whose example of that number it refuses, `file:slow=SECONDS` one that it processes
for that long.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROUTES = (
    "upload",
    "files",
    "content",
    "create",
    "retrieve",
    "list",
    "cancel",
    "pause",
    "resume",
    "start",
    "events",
    "metrics",
    "checkpoints",
    "models",
    "limits",
    "estimate",
    "chat",
)
ANSWERS = ("drop", "slot", "daily-cap", "quota", "slow")
LATER = {
    "job": ("slot", "quota", "broken", "restart", "odd-word"),
    "file": ("broken", "refused", "slow"),
    "list": ("lag",),
}
TIMED = ("slow", "lag", "odd-word", "refused")
GRAMMAR = re.compile(
    r"(?:(?P<vendor>[a-z_]+)/)?(?P<route>[a-z]+):(?P<what>[45]\d\d|[a-z-]+?)(?P<after>-after)?"
    r"(?:=(?P<seconds>\d+(?:\.\d+)?))?(?:\*(?P<count>\d+)|@(?P<chance>\d*\.?\d+))?"
)


@dataclass
class Fault:
    """One fault, and how often it is still to be committed (None: without end)."""

    route: str  # one of ROUTES, "job" or "file"
    what: str  # a status, or a word of ANSWERS or LATER
    after: bool = False
    seconds: float | None = None
    count: int | None = None
    chance: float = 1.0
    vendor: str | None = None  # None: every one

    @property
    def name(self) -> str:
        return f"{self.route}:{self.what}{'-after' if self.after else ''}"


def parse_fault(text: str) -> Fault:
    """Read `create:500-after*1` and the like.

    Raises:
        ValueError: it is no such thing; says what it may be
    """
    match = GRAMMAR.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is no fault; write ROUTE:FAULT, ROUTE:FAULT*COUNT or ROUTE:FAULT@CHANCE')
    route, what, seconds, after = match["route"], match["what"], match["seconds"], bool(match["after"])
    if route not in (*ROUTES, *LATER):
        raise ValueError(f'"{text}": there is no route "{route}"; there are {", ".join((*ROUTES, "job", "file"))}')
    chance = float(match["chance"]) if match["chance"] else 1.0
    if chance > 1:
        raise ValueError(f'"{text}": a chance is 0 to 1, as in {route}:{what}@0.5')
    if problem := _problem(route, what, seconds=seconds, after=after):
        raise ValueError(f'"{text}": {problem}')
    return Fault(
        route,
        what,
        after=after,
        seconds=float(seconds) if seconds else None,
        count=int(match["count"]) if match["count"] else None,
        chance=chance,
        vendor=match["vendor"],
    )


def _problem(route: str, what: str, *, seconds: str | None, after: bool) -> str | None:
    """Why a fault makes no sense on a route."""
    here = (*(ANSWERS if route in ROUTES else ()), *LATER.get(route, ()))
    if what == "lag" and route != "list":
        return f"only the list lags; write list:lag={seconds}"
    if what not in here and not (what.isdigit() and route in ROUTES):
        status = "an HTTP status, or " if route in ROUTES else ""
        return f'there is no fault "{what}"; write {status}one of {", ".join(here)}'
    if what in TIMED and seconds is None:
        return f"say how long, or which one, as in {route}:{what}=2"
    if after and (route not in ROUTES or what in TIMED):
        return f"only the answer to a request is lost after it; write {route}:{what}"
    return None


@dataclass
class Faults:
    """The faults that are armed at one vendor. What has been drawn is counted, and does not outlive the process."""

    armed: list[Fault] = field(default_factory=list)
    seed: int = 0
    vendor: str = ""
    committed: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # One source of chance for each: what is asked elsewhere does not change what is drawn here.
        self._chances = [random.Random(f"{self.seed} {self.vendor} {number}") for number in range(len(self.armed))]

    def at(self, vendor: str, *, but: tuple[str, ...] = ()) -> Faults:
        """The same faults as a vendor commits them, `but` those that it cannot; none is committed yet."""
        armed = [replace(fault) for fault in self.armed if fault.vendor in (None, vendor) and fault.what not in but]
        return Faults(armed, self.seed, vendor)

    def draw(self, route: str, *, after: bool = False) -> Fault | None:
        """The fault to commit now, if any."""
        return self._first(route, lambda fault: fault.after == after and fault.what not in ("slow", "lag", "refused"))

    def number(self, route: str, what: str) -> float:
        """The number of a fault: how long to be `slow` or to `lag` at a route, which example is `refused`."""
        fault = self._first(route, lambda fault: fault.what == what)
        return fault.seconds or 0.0 if fault else 0.0

    def _first(self, route: str, fits: Callable[[Fault], bool]) -> Fault | None:
        """The first fault of a route whose turn it is, counted as committed."""
        for fault, chance in zip(self.armed, self._chances, strict=True):
            if fault.route != route or fault.count == 0 or not fits(fault) or chance.random() >= fault.chance:
                continue
            if fault.count is not None:
                fault.count -= 1
            self.committed[fault.name] = self.committed.get(fault.name, 0) + 1
            return fault
        return None
