"""Two models on the same examples: how far apart their losses are, and how sure that is. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from queue_app.errors import Permanent
from queue_app.lifecycle import Cause

CONFIDENCE = 0.95
LARGEST_LOSS = 700.0  # nats per token; e to this is about the largest number there is
FEWEST = 5  # examples below which an interval would say little


@dataclass(frozen=True)
class ExampleLoss:
    """The loss of one example's completion: nats in all, over so many tokens."""

    nats: float
    tokens: int


@dataclass(frozen=True)
class Comparison:
    """Losses in nats per completion token; a negative difference means that the tuned model is better."""

    base_loss: float
    tuned_loss: float
    base_perplexity: float
    tuned_perplexity: float
    loss_difference: float
    interval: tuple[float, float] | None  # 95 %; none for fewer than five examples
    examples: int
    better: int  # examples on which the tuned model's loss is lower
    tokens: int


def check_measured(losses: list[ExampleLoss], model: str) -> None:
    """Refuse losses that are no measurement.

    Raises:
        Permanent: they are not finite, or so large that their perplexity is not
    """
    mean = sum(each.nats for each in losses) / sum(each.tokens for each in losses)
    if not mean < LARGEST_LOSS:  # true of nan, too
        raise Permanent(
            f"the loss of {model} is {mean:g} nats per token, which no sound model has: a weight of it is not a number "
            "or far too large; fetch, train or merge it again",
            cause=Cause.DATA,
        )


def compare(base: list[ExampleLoss], tuned: list[ExampleLoss]) -> Comparison:
    """Compare losses, weighted by tokens, pair by pair: what makes an example hard is the same for both models."""
    tokens = sum(each.tokens for each in base)
    base_loss, tuned_loss = (sum(each.nats for each in losses) / tokens for losses in (base, tuned))
    differences = [after.nats - before.nats for before, after in zip(base, tuned, strict=True)]
    return Comparison(
        base_loss=base_loss,
        tuned_loss=tuned_loss,
        base_perplexity=math.exp(base_loss),
        tuned_perplexity=math.exp(tuned_loss),
        loss_difference=tuned_loss - base_loss,
        interval=ratio_interval(differences, [each.tokens for each in base]),
        examples=len(base),
        better=sum(difference < 0 for difference in differences),
        tokens=tokens,
    )


def ratio_interval(amounts: list[float], sizes: list[int]) -> tuple[float, float] | None:
    """The 95 % interval of sum(amounts) / sum(sizes), examples being the sample.

    Source: the ratio estimator of W. G. Cochran, Sampling Techniques, 3rd ed. (1977), section 2.11. Covered: examples
    of unequal length. Not covered: examples that depend on each other, such as pieces of one text.
    """
    count = len(sizes)
    if count < FEWEST:
        return None
    total = sum(sizes)
    ratio = sum(amounts) / total
    squares = sum((amount - ratio * size) ** 2 for amount, size in zip(amounts, sizes, strict=True))
    error = math.sqrt(count / (count - 1) * squares) / total
    margin = student_t((1 + CONFIDENCE) / 2, count - 1) * error
    return ratio - margin, ratio + margin


def student_t(probability: float, freedom: int) -> float:
    """The quantile of Student's t; within 1 % from 4 degrees of freedom on.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    x = NormalDist().inv_cdf(probability)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + math.fsum(term / float(freedom) ** power for power, term in enumerate(terms, start=1))
