"""What a provider's refusals mean for the job that met them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from queue_app.errors import (
    AccountPaused,
    NotFound,
    Permanent,
    SlotRefused,
    Throttled,
    Transient,
    TuneyardError,
    Unauthorized,
)
from queue_app.lifecycle import Cause
from settings.secrets import SHORTEST_KEY, long_parts_of, mask

if TYPE_CHECKING:
    from pydantic import SecretStr

DAILY_CAP_PAUSE_SECONDS = 3 * 3600.0  # when the day is over is not told, so it is tried a few times a day

OUT_OF_QUOTA = frozenset({"insufficient_quota", "exceeded_quota"})

OWN_FAULTS = frozenset({"server_error", "internal_error"})
OWN_FAULT = re.compile(r"\b(?:internal|server) error\b|\bcould not process\b|\btry again\b", re.IGNORECASE)
ELSEWHERE = "; `tuneyard quote RECIPE --all` shows who takes such work"

# Of a job that was accepted and then ended for want of a slot only Mistral's sentence is known; others may word it so.
NO_SLOT = re.compile(
    r"\b(?:jobs?|fine-?tun\w+)\b.*\b(?:at once|concurren\w+|at the same time|simultaneous\w*)\b"
    r"|\bconcurren\w+\b.*\bjobs?\b",
    re.IGNORECASE,
)


class Meaning(StrEnum):
    """What a refusal asks of us."""

    RETRY = "retry"  # soon, with back-off
    LATER = "later"  # in hours
    SLOT = "slot"  # when a slot is free
    ACCOUNT = "account"  # when somebody has seen to the account's balance or quota
    RIGHTS = "rights"  # when somebody has seen to the key or its rights
    PERMANENT = "permanent"  # never, as it stands
    CLOSED = "closed"  # never: the provider has ended this


@dataclass(frozen=True)
class Refusal:
    """An answer that is no success, or (status None) no answer at all."""

    message: str
    status: int | None = None
    code: str | None = None  # the provider's word for it
    retry_after: str | None = None  # the header as it came
    meaning: Meaning | None = None  # None: by the status and the code

    @property
    def retry_after_seconds(self) -> float | None:
        """The header in seconds from now; it may be a number or a date (RFC 9110 §10.2.3)."""
        if not self.retry_after:
            return None
        try:
            seconds = float(self.retry_after)
        except ValueError:
            return _seconds_until(self.retry_after)
        return max(0.0, seconds) if math.isfinite(seconds) else None


def meaning_of(status: int | None, code: str | None) -> Meaning:
    """What a refusal means, as far as status and code tell at every provider."""
    if code in OUT_OF_QUOTA or status == 402:
        return Meaning.ACCOUNT
    if status == 429 and code == "daily_rate_limit_exceeded":
        return Meaning.LATER
    if status is None or status in (408, 409, 425, 429) or status >= 500:
        return Meaning.RETRY
    return {401: Meaning.RIGHTS, 403: Meaning.RIGHTS, 410: Meaning.CLOSED}.get(status, Meaning.PERMANENT)


def error_of(account: str, refusal: Refusal) -> TuneyardError:
    """What a refusal means for the job that met it."""
    meaning = refusal.meaning or meaning_of(refusal.status, refusal.code)
    error = _error_of(account, refusal, meaning)
    # An answer that says what is wrong was given before anything was made; one that only says "later" leaves that open.
    error.undone = 400 <= (refusal.status or 0) < 500 and meaning != Meaning.RETRY
    return error


def _error_of(account: str, refusal: Refusal, meaning: Meaning) -> TuneyardError:
    status, code, pause = refusal.status, refusal.code, refusal.retry_after_seconds
    said = f"{account}: {refusal.message}" + (f" (HTTP {status}{f', {code}' if code else ''})" if status else "")
    match meaning:
        case Meaning.RETRY:
            return (Throttled if status == 429 and pause is not None else Transient)(said, retry_after=pause)
        case Meaning.LATER:
            return Throttled(said, retry_after=pause or DAILY_CAP_PAUSE_SECONDS)
        case Meaning.SLOT:
            return SlotRefused(said, retry_after=pause)
        case Meaning.ACCOUNT:
            advice = f"the account's quota or balance is used up; top it up, then `tuneyard providers resume {account}`"
            return AccountPaused(f"{advice}. {said}", retry_after=pause, cause=Cause.QUOTA)
        case Meaning.RIGHTS:
            return Unauthorized(
                f"{said}{_ADVICE.get(code or status or 0) or _ADVICE.get(status or 0, '')}", cause=Cause.PROVIDER
            )
        case Meaning.CLOSED:
            return Permanent(f"{said}; the provider has closed this{ELSEWHERE}", cause=Cause.PROVIDER)
        case Meaning.PERMANENT:
            return (NotFound if status == 404 else Permanent)(said, cause=Cause.USER)


def cause_of(code: str | None, parameter: str | None) -> Cause:
    """Whose matter the failure of a remote job is, by the provider's code and the parameter it blames."""
    if code in OUT_OF_QUOTA:
        return Cause.QUOTA
    of_file = parameter in ("training_file", "validation_file") and code not in OWN_FAULTS
    return Cause.DATA if of_file or code == "invalid_file_format" else Cause.PROVIDER


def cause_of_words(said: str | None) -> Cause:
    """Whose matter it is that a file is not taken: the data's, unless the provider gives no reason or its own fault."""
    return Cause.DATA if said and not OWN_FAULT.search(said) else Cause.PROVIDER


def not_there_yet(error: NotFound) -> Transient:
    """What a 404 during an upload means: what holds the file was made a moment ago, and may show late."""
    later = Transient(f"{error}; what was just made there may show late, so it is sent again", cause=error.cause)
    later.undone = True  # it answers
    return later


def without_secret(text: str, secret: SecretStr, url: str) -> str:
    """The text without the key and what may be one in the account's URL, should a server have repeated them."""
    key = secret.get_secret_value().strip()
    return mask(text, [*([key] if len(key) >= SHORTEST_KEY else []), *long_parts_of(url)])  # a short one guards nothing


def _seconds_until(date: str) -> float | None:
    try:
        at = parsedate_to_datetime(date)
    except ValueError:
        return None
    return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - datetime.now(UTC).timestamp())


_ADVICE: dict[int | str, str] = {
    "training_not_available": f"; this organization may not train there{ELSEWHERE}",
    401: "; check the account's api_key",
    403: "; the account may not do this: see what the provider says of its permissions",
}
