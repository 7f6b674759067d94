"""Examples by a field of theirs: which strata there are, and how a number is divided over them."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from pydantic import AfterValidator, Field

from queue_app.job_type import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tasks.data.record import Record

FIELDS = ("target_agent", "source_agent", "category", "difficulty", "weight", "origin.document")
NONE = "(none)"  # the label of what lacks the field
ALL = "(all)"  # the label where nothing is divided


@dataclass(frozen=True)
class Strata:
    """What divides examples: the values of a field, or bands of them. Without a field all are alike.

    `bands` are the borders between bands of a number, in rising order; a border belongs to the band above it.
    """

    field: str | None = None
    bands: tuple[float, ...] = ()

    def label(self, record: Record) -> str:
        """The stratum of a record.

        Raises:
            ValueError: there are bands, and the value is no number; begins with the field
        """
        if self.field is None:
            return ALL
        value = field_of(record, self._path)
        return self._band(value) if self.bands else label_of(value)

    @cached_property
    def _path(self) -> tuple[str, ...]:
        return path_of(self.field or "")

    @cached_property
    def _bands(self) -> tuple[str, ...]:
        borders = [label_of(border) for border in self.bands]
        inner = [f"{low} to below {high}" for low, high in pairwise(borders)]
        return (f"below {borders[0]}", *inner, f"{borders[-1]} and above")

    def _band(self, value: Any) -> str:
        if value is None:
            return NONE
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{self.field}: bands are of numbers, found {label_of(value)!r}; take bands off")
        return self._bands[bisect_right(self.bands, value)]


def known_field(name: str) -> str:
    """The name, if records can have such a field.

    Raises:
        ValueError: they cannot; names the nearest
    """
    if name not in FIELDS and not (name.startswith("metadata.") and all(name.split("."))):
        said = nearest(name, list(FIELDS))
        raise ValueError(f'an example has no field "{name}"{said} (there are {", ".join(FIELDS)} and metadata.…)')
    return name


def rising(bands: tuple[float, ...]) -> tuple[float, ...]:
    """The borders, if they are that.

    Raises:
        ValueError: one is not above the one before it, or no number
    """
    if not all(low < high for low, high in pairwise((-math.inf, *bands, math.inf))):
        raise ValueError("the borders must be numbers that rise, such as [0.4, 0.8]")
    return bands


# How the specs of job types name a field, and bands of its numbers.
FieldName = Annotated[str, AfterValidator(known_field)]
Bands = Annotated[
    tuple[float, ...],
    AfterValidator(rising),
    Field(description="borders between bands of the field's numbers, such as [0.4, 0.8]; a border begins a band"),
]


def path_of(name: str) -> tuple[str, ...]:
    """`metadata.language` → `("metadata", "language")`."""
    return tuple(name.split("."))


def field_of(record: Record, path: tuple[str, ...]) -> Any:
    """The value at a path in a record, None where there is none; an example's weight is 1 unless it says another."""
    first = path[0]
    value: Any = getattr(record, first)
    if value is None and first == "weight":
        return 1.0
    for key in path[1:]:
        value = value.get(key) if isinstance(value, dict) else getattr(value, key, None)
    return value


def label_of(value: Any) -> str:
    """A value as the name of a stratum; numbers to twelve figures, so that 0.7 × 0.8 is 0.56."""
    if isinstance(value, str):
        return value
    if value is None:
        return NONE
    if isinstance(value, float):
        return f"{value:.12g}"
    return msgspec.json.encode(value).decode()


def weight_of(record: Record) -> float:
    """The weight of an example, 1 unless it says another.

    Raises:
        ValueError: it is below zero; begins with the field
    """
    weight = 1.0 if record.weight is None else record.weight
    if not 0 <= weight < math.inf:
        raise ValueError(f"weight: must be 0 or more, found {weight:g}; correct it, or leave it out")
    return weight


def apportion(size: int, shares: Mapping[str, int]) -> dict[str, int]:
    """Whole numbers with the sum `size`, each within one of its share of it (largest remainder).

    Of equal remainders the first by name is served, so the order of the mapping changes nothing. The shares need no
    particular sum, but one above zero.
    """
    total = sum(shares.values())
    parts = {name: divmod(size * share, total) for name, share in shares.items()}
    left = size - sum(whole for whole, _ in parts.values())
    served = set(sorted(parts, key=lambda name: (-parts[name][1], name))[:left])
    return {name: whole + (name in served) for name, (whole, _) in parts.items()}


def whole_shares(shares: Mapping[str, float]) -> dict[str, int]:
    """The shares as whole numbers in the same proportion: 0.1 is a tenth, not the nearest binary fraction."""
    exact = {name: Fraction(str(share)) for name, share in shares.items()}
    common = math.lcm(*(share.denominator for share in exact.values()))
    return {name: int(share * common) for name, share in exact.items()}


@lru_cache(1024)
def whole_weight(weight: float) -> int:
    """The weight in units of the smallest number there is, so that a sum is exact and has no order."""
    over, under = weight.as_integer_ratio()
    return over << (1075 - under.bit_length())
