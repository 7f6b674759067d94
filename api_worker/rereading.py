"""Reading again where that may be answered otherwise. What creates or changes is never sent twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tenacity

from api_worker.refusals import Meaning, Refusal, meaning_of

T = TypeVar("T")

TRIES = 3
LONGEST_PAUSE_SECONDS = 2.0  # between two tries; who asks for more is left alone by the job, not by a worker


def read_again(ask: Callable[[], T | Refusal]) -> T | Refusal:
    """What `ask` returns, or why there is nothing after some tries."""
    trying = tenacity.Retrying(
        retry=tenacity.retry_if_result(_may_pass),
        stop=tenacity.stop_after_attempt(TRIES),
        wait=tenacity.wait_random_exponential(multiplier=0.25, max=LONGEST_PAUSE_SECONDS),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )
    return trying(ask)


def _may_pass(answer: object) -> bool:
    """Whether reading again may be answered otherwise; a success that is not understood comes again as it was."""
    if not isinstance(answer, Refusal) or (answer.status is not None and answer.status < 400):
        return False
    meaning = answer.meaning or meaning_of(answer.status, answer.code)
    return meaning == Meaning.RETRY and (answer.retry_after_seconds or 0.0) <= LONGEST_PAUSE_SECONDS
