"""What is searched for."""

from __future__ import annotations

from dataclasses import dataclass, field

from tasks.data.personal.finding import Confidence

REGIONS = ("US", "GB", "DE")


@dataclass(frozen=True)
class Search:
    """Which types or families (none: all but the optional ones), and how sure a finding must be to count."""

    types: frozenset[str] = field(default=frozenset())
    regions: tuple[str, ...] = REGIONS  # where a phone number without a country's code may be from
    least: Confidence = Confidence.MEDIUM
