"""What a detector returns, how sure it is, and how a found value may be shown."""

from __future__ import annotations

from bisect import bisect_left
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Confidence(IntEnum):
    """LOW is reserved for documentation, tests and private networks, or is digits without a word that explains them."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3


class Finding(NamedTuple):
    """Where personal data or a secret stands in a text, in characters."""

    start: int
    end: int
    type: str
    confidence: Confidence

    def masked(self, text: str) -> str:
        """The value as it may be shown to people and written to logs: its first or last characters, never all."""
        value = text[self.start : self.end]
        head, tail = SHOWN.get(self.type, (0, 0))
        if head + tail > len(value) // 3:
            return "…"
        return f"{value[:head]}…{value[len(value) - tail :]}"


# type → how many characters of its beginning and of its end a masked form keeps
SHOWN: dict[str, tuple[int, int]] = {
    "email": (1, 3),
    "phone": (0, 2),
    "iban": (2, 2),
    "card": (0, 4),
    "ip": (2, 0),
    "street": (0, 0),
    "person": (1, 0),
    "openai_key": (3, 0),
    "anthropic_key": (7, 0),
    "aws_key": (4, 0),
    "github_token": (3, 0),
    "gitlab_token": (3, 0),
    "slack_token": (3, 0),
    "google_key": (4, 0),
    "stripe_key": (3, 0),
    "huggingface_token": (3, 0),
    "jwt": (3, 0),
    "private_key": (10, 0),
}

# The more a pattern demands, the lower its rank: where findings overlap, the lowest rank and then the longest stands.
RANKS: dict[str, int] = {
    "private_key": 0,
    "password": 2,
    "secret": 2,
    "url_login": 3,
    "iban": 4,
    "card": 5,
    "ssn": 6,
    "email": 6,
    "ip": 7,
    "street": 8,
    "phone": 9,
    "person": 10,
}
_PROVIDERS_RANK = 1


def without_overlaps(findings: Iterable[Finding]) -> list[Finding]:
    """The findings in the order of the text, of each heap of overlapping ones the most specific, then the longest."""
    starts: list[int] = []
    kept: list[Finding] = []
    for finding in sorted(findings, key=_standing):
        at = bisect_left(starts, finding.start)
        before_ends = at == 0 or kept[at - 1].end <= finding.start
        after_begins = at == len(kept) or finding.end <= starts[at]
        if before_ends and after_begins:
            starts.insert(at, finding.start)
            kept.insert(at, finding)
    return kept


def _standing(finding: Finding) -> tuple[int, int, int]:
    rank = RANKS.get(finding.type, _PROVIDERS_RANK)
    return rank, finding.start - finding.end, finding.start
