"""The faults that the sandbox commits on request.

    ROUTE:FAULT             every time
    ROUTE:FAULT*COUNT       the first COUNT times
    ROUTE:FAULT@CHANCE      by chance, 0 to 1, drawn from the seed

A FAULT is an HTTP status or one of `drop daily-cap quota`; with `-after` the request is carried out first and only the
answer is lost. `STATUS=SECONDS` says Retry-After, `slow=SECONDS` answers late, and `list:lag=SECONDS` leaves jobs out
of the list for that long after their creation.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

ROUTES = (
    "upload",
    "files",
    "content",
    "create",
    "retrieve",
    "list",
    "cancel",
    "events",
    "checkpoints",
    "models",
    "chat",
)
NAMED = ("drop", "daily-cap", "quota", "slow", "lag")
GRAMMAR = re.compile(
    r"(?P<route>[a-z]+):(?P<what>[45]\d\d|[a-z-]+?)(?P<after>-after)?(?:=(?P<seconds>\d+(?:\.\d+)?))?"
    r"(?:\*(?P<count>\d+)|@(?P<chance>[01]?\.?\d+))?"
)


@dataclass
class Fault:
    """One fault, and how often it is still to be committed (None: without end)."""

    route: str
    what: str  # a status, or a word of NAMED
    after: bool = False
    seconds: float | None = None
    count: int | None = None
    chance: float = 1.0


def parse_fault(text: str) -> Fault:
    """Read `create:500-after*1` and the like.

    Raises:
        ValueError: it is no such thing; says what it may be
    """
    match = GRAMMAR.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is no fault; write ROUTE:FAULT, ROUTE:FAULT*COUNT or ROUTE:FAULT@CHANCE')
    route, what = match["route"], match["what"]
    if route not in ROUTES:
        raise ValueError(f'"{text}": there is no route "{route}"; there are {", ".join(ROUTES)}')
    if not what.isdigit() and what not in NAMED:
        raise ValueError(f'"{text}": there is no fault "{what}"; write an HTTP status, or one of {", ".join(NAMED)}')
    if what in ("slow", "lag") and match["seconds"] is None:
        raise ValueError(f'"{text}": say how long, as in {route}:{what}=2')
    if what == "lag" and route != "list":
        raise ValueError(f'"{text}": only the list lags; write list:lag={match["seconds"]}')
    return Fault(
        route,
        what,
        after=bool(match["after"]),
        seconds=float(match["seconds"]) if match["seconds"] else None,
        count=int(match["count"]) if match["count"] else None,
        chance=float(match["chance"]) if match["chance"] else 1.0,
    )


@dataclass
class Faults:
    """The faults that are armed. What has been drawn is counted, and does not outlive the process."""

    armed: list[Fault] = field(default_factory=list)
    seed: int = 0
    committed: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)

    def draw(self, route: str, *, after: bool) -> Fault | None:
        """The fault to commit now, if any."""
        for fault in self.armed:
            if fault.route != route or fault.after != after or fault.what in ("slow", "lag") or fault.count == 0:
                continue
            if self._chance.random() >= fault.chance:
                continue
            self._spend(fault)
            return fault
        return None

    def seconds(self, route: str, what: str) -> float:
        """How long to be `slow` or to `lag` at a route."""
        fault = next((fault for fault in self.armed if (fault.route, fault.what) == (route, what)), None)
        if fault is None or fault.seconds is None or fault.count == 0 or self._chance.random() >= fault.chance:
            return 0.0
        if what == "slow":
            self._spend(fault)
        return fault.seconds

    def _spend(self, fault: Fault) -> None:
        if fault.count is not None:
            fault.count -= 1
        name = f"{fault.route}:{fault.what}{'-after' if fault.after else ''}"
        self.committed[name] = self.committed.get(name, 0) + 1
