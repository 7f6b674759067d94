"""One line of a quote: one fine-tune at one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """What a fine-tune would cost at a place; None: not known. Money is in USD."""

    step: str
    place: str  # an account, a provider without one, or the own GPU
    model: str
    chosen: bool = False  # the recipe sends it there
    tokens: int | None = None  # once through
    exact: bool = False  # they were counted by the model's own vocabulary
    epochs: float | None = None
    low_usd: float | None = None
    high_usd: float | None = None
    minimum_usd: float | None = None
    usd_per_million: float | None = None
    hosting_usd_per_hour: float | None = None
    machine: str = ""  # its price by the hour, where that is what is billed
    storage_usd_per_month: float | None = None
    serving: str = ""  # what is to be paid before a tuned model answers
    slots: str = ""
    turns: int | None = None  # how often all slots must come free before its own; 0: one is free
    wait_seconds: float | None = None  # until a slot is free
    estimate_usd: float | None = None  # the provider's own
    run_seconds: float | None = None
    run_seconds_by: str = ""  # how that is known
    notes: tuple[str, ...] = ()
    impossible: str = ""

    free: bool = False

    @property
    def rank(self) -> tuple[bool, bool, bool, float]:
        """Where it stands among the lines of its step."""
        return not self.chosen, bool(self.impossible), self.high_usd is None, self.high_usd or 0.0
