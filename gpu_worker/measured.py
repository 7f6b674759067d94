"""What every engine tells of a training that it has finished."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """The figures of a training, in one shape whoever trained."""

    device: str
    device_name: str
    dtype: str  # what it computed in: bfloat16, float16, float32
    versions: dict[str, str]  # of the packages that the figures depend on
    steps: int
    epochs: float  # passes over the examples
    losses: list[float]  # of every step, those of earlier attempts included
    holdout_losses: list[dict[str, float]]  # {"step": …, "loss": …}, one each look
    published_step: int  # the step whose weights lie in the order's `output`
    examples: int
    weightless_examples: int  # of weight 0, or without an answer that is learned: left out
    truncated_examples: int
    dropped_examples: int
    holdout_examples: int
    trained_tokens: int  # without padding, over all attempts
    tokens_per_second: float | None  # None: this attempt had no step left to do
    training_seconds: float  # in the steps of this attempt


def history_losses(history: list[dict[str, float]]) -> list[float]:
    """The loss of every step, out of a trainer's log."""
    return [entry["loss"] for entry in history if "loss" in entry]


def history_holdout_losses(history: list[dict[str, float]]) -> list[dict[str, float]]:
    """Every look at the holdout, out of a trainer's log."""
    return [{"step": entry["step"], "loss": entry["eval_loss"]} for entry in history if "eval_loss" in entry]
