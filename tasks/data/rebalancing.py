"""How many examples of each stratum make target shares: of what there is, or with what is missing."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import msgspec

from queue_app.errors import Permanent
from queue_app.job_type import nearest
from queue_app.lifecycle import Cause
from tasks.data.quoting import quoted
from tasks.data.record import content_hash
from tasks.data.sampling import draw
from tasks.data.strata import apportion, whole_shares

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from tasks.data.reading import Row
    from tasks.data.sampling import Census
    from tasks.data.strata import Strata

GAPS = "gaps.json"
EXAMPLE_IDS = 3  # of each gap


@dataclass(frozen=True)
class Gap:
    """What one stratum lacks for its target share; `examples` are content hashes of some that it has."""

    stratum: str
    share: float  # of the whole
    have: int
    want: int
    missing: int
    examples: list[str] = field(default_factory=list)


def even_targets(census: Census) -> dict[str, float]:
    """The same share for every stratum that there is."""
    return dict.fromkeys(census.sizes, 1.0)


def check_targets(census: Census, targets: Mapping[str, float], strata: Strata, *, asking: bool) -> None:
    """See that the targets speak of every stratum, and of none that cannot be.

    Raises:
        Permanent: names each stratum that does not fit, with its number of examples and what to do
    """
    sizes, known, cure = census.sizes, strata.field, "" if asking else ", 0 drops it"
    problems = [
        f'targets has no share for {known} = "{quoted(name)}" ({have:,} examples); give it one{cure}'
        for name, have in sizes.items()
        if name not in targets
    ]
    for name, share in targets.items():
        if asking and not share and sizes.get(name):
            problems.append(f'"{quoted(name)}" has {sizes[name]:,} examples and the share 0, but fill=ask drops none')
        if not asking and share and not sizes.get(name):
            told = f'no example has {known} = "{quoted(name)}"{nearest(name, [quoted(size) for size in sizes])}'
            problems.append(f"{told}; correct it, leave it out, or set fill=ask to learn what is missing")
    if problems:
        raise Permanent("; ".join(problems), cause=Cause.DATA)


def reduce_to(sizes: Mapping[str, int], targets: Mapping[str, float]) -> dict[str, int]:
    """Numbers with the target shares, for the largest sum of which no stratum has less than its share."""
    shares = _used(targets)
    total = sum(shares.values())
    size = min(sizes[name] * total // share for name, share in shares.items())
    return dict.fromkeys(targets, 0) | apportion(size, shares)


def raise_to(sizes: Mapping[str, int], targets: Mapping[str, float]) -> dict[str, int]:
    """Numbers with the target shares, for the smallest sum of which no stratum has more than its share."""
    shares = _used(targets)
    total = sum(shares.values())
    size = max(-(-sizes.get(name, 0) * total // share) for name, share in shares.items())
    return dict.fromkeys(targets, 0) | apportion(size, shares)


def find_gaps(census: Census, targets: Mapping[str, float], wanted: Mapping[str, int]) -> list[Gap]:
    """What is missing, the most first; the examples are still to be named."""
    sizes = census.sizes
    total = Fraction(sum(Fraction(str(share)) for share in targets.values()))
    found = [
        Gap(name, float(Fraction(str(targets[name])) / total), have := sizes.get(name, 0), want, want - have)
        for name, want in wanted.items()
    ]
    return sorted((gap for gap in found if gap.missing), key=lambda gap: (-gap.missing, gap.stratum))


class Examples:
    """Some examples of each gap, chosen by lot: their ids are gathered while the rows go by."""

    def __init__(self, census: Census, gaps: Iterable[Gap]) -> None:
        lacking = [gap.stratum for gap in gaps if gap.have]
        self._at = dict(draw(census, dict.fromkeys(lacking, EXAMPLE_IDS)))
        self.ids: dict[str, list[str]] = {name: [] for name in lacking}

    def look(self, position: int, row: Row) -> None:
        if (name := self._at.get(position)) is not None:
            self.ids[name].append(content_hash(row.record))


def write_gaps(folder: Path, strata: Strata, gaps: Iterable[Gap], ids: Mapping[str, list[str]]) -> None:
    """Write gaps.json: the field with its bands, and each gap with the ids of examples to make more like."""
    rows: list[dict[str, Any]] = [asdict(gap) | {"examples": sorted(set(ids.get(gap.stratum, [])))} for gap in gaps]
    told = {"field": strata.field, "bands": strata.bands, "missing": sum(gap["missing"] for gap in rows), "gaps": rows}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / GAPS).write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n")


def _used(targets: Mapping[str, float]) -> dict[str, int]:
    return {name: share for name, share in whole_shares(targets).items() if share}
