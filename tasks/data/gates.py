"""Thresholds that turn the findings of an audit into a yes or a no."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from pydantic import Field

from queue_app.job_type import Spec

AT_MOST = "below 1 a share of the examples, from 1 on a number; 0 for none"
MINIMUM = "min_"
IMPLIED = {"min_examples": 1, "max_bad_rows": 0}  # what was not read has not passed


class Thresholds(Spec):
    """What an audit may find at the most before it says no. Without any of them nothing is judged."""

    min_examples: int | None = Field(
        None, ge=0, description="readable examples there must be; 1 where only another threshold is given"
    )
    max_bad_rows: float | None = Field(
        None, ge=0, description=f"rows that cannot be read: {AT_MOST}; 0 where only another threshold is given"
    )
    max_duplicates: float | None = Field(
        None, ge=0, description=f"examples that repeat another word for word, unless meant to: {AT_MOST}"
    )
    max_near_duplicates: float | None = Field(
        None, ge=0, description=f"examples that repeat another nearly, unless meant to: {AT_MOST}"
    )
    max_contradictions: float | None = Field(None, ge=0, description=f"prompts with several answers: {AT_MOST}")
    max_leaks: float | None = Field(None, ge=0, description=f"examples that are in the holdout as well: {AT_MOST}")
    max_pii: float | None = Field(None, ge=0, description=f"examples with personal data: {AT_MOST}")
    max_secrets: float | None = Field(None, ge=0, description=f"examples with keys, tokens, passwords: {AT_MOST}")
    max_mojibake: float | None = Field(None, ge=0, description=f"examples with a broken encoding: {AT_MOST}")
    max_control_characters: float | None = Field(None, ge=0, description=f"examples with control characters: {AT_MOST}")
    max_empty_answers: float | None = Field(None, ge=0, description=f"examples with an empty answer: {AT_MOST}")
    max_boilerplate: float | None = Field(
        None, ge=0, description=f"answers that begin with the same five words: {AT_MOST}"
    )

    @property
    def set_limits(self) -> dict[str, float]:
        """The thresholds that were given, and those that any of them implies."""
        named = {name: getattr(self, name) for name in Thresholds.model_fields}
        given = {name: value for name, value in named.items() if value is not None}
        return IMPLIED | given if given else {}


class Check(msgspec.Struct, frozen=True):
    """One threshold, what was measured, and whether that passes; `share` where the threshold is one."""

    name: str
    limit: float
    measured: int
    share: float | None
    passed: bool

    def __str__(self) -> str:
        found = f"{self.measured}" if self.share is None else f"{self.measured} ({self.share:.2%})"
        return f"{self.name}={self.limit:g}: {found}"


def judge(thresholds: Thresholds, measured: Mapping[str, int], examples: int) -> list[Check]:
    """Every threshold that is set, against what was measured under its name without `min_` or `max_`.

    Raises:
        KeyError: a threshold was given for what was not measured
    """
    return [_check(name, limit, measured[name[4:]], examples) for name, limit in thresholds.set_limits.items()]


def unmeasured(thresholds: Thresholds, parts: Mapping[str, frozenset[str]]) -> list[tuple[str, str]]:
    """Thresholds that were given for what a part measures that does not run: its name, and the part's."""
    needed = {figure: part for part, figures in parts.items() for figure in figures}
    names = list(thresholds.set_limits)
    return [(name, needed[name[4:]]) for name in names if name[4:] in needed]


def _check(name: str, limit: float, measured: int, examples: int) -> Check:
    if name.startswith(MINIMUM):
        return Check(name, limit, measured, None, measured >= limit)
    if not 0 < limit < 1:
        return Check(name, limit, measured, None, measured <= limit)
    whole = examples + measured if name == "max_bad_rows" else examples  # a bad row is no example
    share = measured / whole if whole else 0.0
    return Check(name, limit, measured, share, share <= limit)
