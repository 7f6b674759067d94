"""Exactly as many examples as asked for, drawn from strata by lots that depend on nothing but seed and content.

The first pass over the examples keeps a lot for each, in an unnamed file. The second writes what was chosen.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from queue_app.errors import Permanent
from queue_app.lifecycle import Cause
from tasks.data.quoting import quoted
from tasks.data.reading import unfit
from tasks.data.scratch.rows import Rows, each_of
from tasks.data.strata import NONE, Strata, apportion, field_of, label_of, path_of, weight_of, whole_weight

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from tasks.data.reading import Row
    from tasks.data.record import Record
    from tasks.data.scratch.rows import Table

DrawBy = Literal["content", "position"]
Shares = Literal["count", "weight", "equal"]
MOST_STRATA = 1000
SHOWN = 12  # names in a message
_SPAN = 2**53  # lots are odd multiples of half its inverse: above 0, below 1, exact
_ENCODER = msgspec.json.Encoder(order="deterministic")


@dataclass(frozen=True)
class Lots:
    """A number between 0 and 1 for each example; the smallest are drawn.

    By content, equal records draw equal lots wherever they stand, and copies for different agents draw different ones;
    so the choice does not depend on the order of the file, and records repeated word for word are mostly drawn, or
    passed over, together. By position, the order of the file is what counts.

    `weighted`: an example of weight 2 is as likely to be drawn next as two of weight 1. The lot is then the waiting
    time −ln(u)/w, which orders as u^(1/w) does (Efraimidis and Spirakis 2006, doi:10.1016/j.ipl.2005.11.003).
    """

    seed: int = 0
    by: DrawBy = "content"
    weighted: bool = False

    def draw(self, record: Record, position: int) -> float:
        said = _ENCODER.encode(record) if self.by == "content" else str(position).encode()
        digest = hashlib.sha256(self._seed + said).digest()
        lot = ((int.from_bytes(digest[:8]) >> 11) + 0.5) / _SPAN
        return -math.log(lot) / weight_of(record) if self.weighted else lot

    @cached_property
    def _seed(self) -> bytes:
        return f"{self.seed}:".encode()


@dataclass
class Stratum:
    """Examples that are drawn among themselves."""

    number: int  # in the order of the first example of each
    size: int = 0
    weight: int = 0  # of all of them, as `whole_weight` has it


@dataclass
class Census:
    """Who may be drawn, by stratum; and who may not."""

    lots: Rows  # of who may be drawn: lot, number of the stratum, position
    strata: dict[str, Stratum] = field(default_factory=dict)
    outside: int = 0  # not what `where` asks for
    weightless: int = 0  # of weight 0 in a weighted choice
    seen: dict[str, Counter[str]] = field(default_factory=dict)  # the values of the fields in `where`

    @property
    def sizes(self) -> dict[str, int]:
        return {name: stratum.size for name, stratum in sorted(self.strata.items())}

    @property
    def total(self) -> int:
        return sum(self.sizes.values())


@contextmanager
def take_census(
    rows: Iterable[Row], strata: Strata, lots: Lots, where: Mapping[str, str] = {}, scratch: Path | None = None
) -> Iterator[Census]:
    """The first pass. `where` names fields and the one value that each must have; `scratch` is for unnamed files.

    Raises:
        Permanent: a row has no place in any stratum, or there are too many strata, or nothing to draw from
    """
    with Rows(scratch, lot="d", stratum="H", position="Q") as kept:
        census = Census(kept, seen={name: Counter() for name in where})
        asked = {name: (path_of(name), value) for name, value in where.items()}
        for position, row in enumerate(rows):
            if not asked or all(_has(row.record, *want, census.seen[name]) for name, want in asked.items()):
                _admit(census, row, position, strata, lots)
            else:
                census.outside += 1
        _refuse_nothing(census, strata, where)
        yield census


def share_out(census: Census, size: int, shares: Shares, *, allow_fewer: bool = False) -> dict[str, int]:
    """How many each stratum gives, before it is known whether it has as many.

    Raises:
        Permanent: there are fewer than `size` and that is not allowed, or all weights are 0
    """
    if size > census.total and not allow_fewer:
        raise Permanent(
            f"{size:,} examples cannot be drawn from {census.total:,}{_left_out(census)}; ask for {census.total:,} at "
            "most, give more data, or set allow_fewer=true",
            cause=Cause.DATA,
        )
    if shares == "equal":
        return apportion(size, dict.fromkeys(census.strata, 1))
    if shares == "count":
        return apportion(size, census.sizes)
    weights = {name: stratum.weight for name, stratum in census.strata.items()}
    if not any(weights.values()):
        raise Permanent("every example has the weight 0, so there are no shares by weight; take shares=count")
    return apportion(size, weights)


def fit_quotas(census: Census, quotas: Mapping[str, int], *, allow_fewer: bool = False) -> dict[str, int]:
    """What each stratum gives: its quota, or all it has where that is less and allowed.

    Raises:
        Permanent: a stratum has less than its quota and that is not allowed; names each with both numbers
    """
    sizes = census.sizes
    short = [
        f'"{quoted(name)}" has {sizes[name]:,} of {quota:,}' for name, quota in quotas.items() if sizes[name] < quota
    ]
    if short and not allow_fewer:
        raise Permanent(
            f"not every stratum can give its share{_left_out(census)}: {_listed(short)}; ask for fewer, take "
            "shares=count, or set allow_fewer=true",
            cause=Cause.DATA,
        )
    return {name: min(sizes[name], quota) for name, quota in quotas.items()}


def draw(census: Census, quotas: Mapping[str, int]) -> Iterator[tuple[int, str]]:
    """The position and the stratum of what is drawn: of each as many as its quota says, by the smallest lots."""
    names = list(census.strata)
    left = [quotas.get(name, 0) for name in names]
    missing = sum(left)
    for _, stratum, position in chain.from_iterable(map(each_of, census.lots.ordered(_by_lot))):
        if not missing:
            return
        if left[stratum]:
            left[stratum] -= 1
            missing -= 1
            yield position, names[stratum]


def choose_positions(census: Census, quotas: Mapping[str, int], scratch: Path | None = None) -> Iterator[int]:
    """The positions of what is drawn, in order."""
    with Rows(scratch, position="Q") as drawn:
        for position, _ in draw(census, quotas):
            drawn.append(position)
        for table in drawn.ordered(lambda table: table["position"]):
            yield from (position for (position,) in each_of(table))


def pick(rows: Iterable[Row], positions: Iterable[int]) -> Iterator[Row]:
    """The rows at these positions, which are in order; reading ends behind the last."""
    wanted = iter(positions)
    next_one = next(wanted, None)
    for position, row in enumerate(rows):
        if next_one is None:
            return
        if position == next_one:
            yield row
            next_one = next(wanted, None)


def _by_lot(table: Table) -> NDArray[Any]:
    """Lots are above 0, and such numbers stand in the order of their bits."""
    return table["lot"].copy().view("<u8")


def _has(record: Record, path: tuple[str, ...], value: str, seen: Counter[str]) -> bool:
    found = label_of(field_of(record, path))
    if len(seen) < MOST_STRATA or found in seen:
        seen[found] += 1
    return found == value


def _admit(census: Census, row: Row, position: int, strata: Strata, lots: Lots) -> None:
    try:
        weight = weight_of(row.record)
        label = strata.label(row.record)
    except ValueError as error:
        raise unfit(row, str(error)) from error
    if lots.weighted and not weight:
        census.weightless += 1
        return
    stratum = census.strata.get(label)
    if stratum is None:
        if len(census.strata) == MOST_STRATA:
            told = f"{strata.field}: has more than {MOST_STRATA:,} values; take a field with fewer, or bands of numbers"
            raise unfit(row, told)
        stratum = census.strata[label] = Stratum(len(census.strata))
    census.lots.append(lots.draw(row.record, position), stratum.number, position)
    stratum.size += 1
    stratum.weight += whole_weight(weight)


def _refuse_nothing(census: Census, strata: Strata, where: Mapping[str, str]) -> None:
    if not census.strata:
        asked = " and ".join(f'{name}="{value}"' for name, value in where.items())
        found = "; ".join(f"{name} is {_listed(list(map(quoted, sorted(seen))))}" for name, seen in census.seen.items())
        told = f"no example has {asked}; {found}" if census.outside else "there is no example to draw from"
        raise Permanent(f"{told}{_left_out(census, outside=False)}", cause=Cause.DATA)
    if strata.field is not None and list(census.strata) == [NONE]:
        raise Permanent(
            f"none of {census.total:,} examples has {strata.field}, so there is nothing to divide them by; take a "
            "field that they have",
            cause=Cause.DATA,
        )


def _left_out(census: Census, *, outside: bool = True) -> str:
    parts = [f"{census.outside:,} outside of `where`"] if census.outside and outside else []
    parts += [f"{census.weightless:,} of weight 0"] if census.weightless else []
    return f" ({' and '.join(parts)} left out)" if parts else ""


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
