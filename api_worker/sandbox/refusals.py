"""How the sandbox says no: neutral here, in each vendor's shape and words by its table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Denial:
    """A refusal as a vendor's shape tells it."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    kind: str | None = None  # the vendor's class of errors, where its shape has one


class Refused(Exception):
    """The request is not carried out."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.denial = Denial(status, message, code, param)

    @classmethod
    def by(cls, denial: Denial) -> Refused:
        """The refusal that a table says."""
        refused = cls(denial.status, denial.message)
        refused.denial = denial
        return refused


# What is said by every vendor that has no words of its own. The names are those of the faults.
COMMON: Mapping[str, Denial] = {
    "400": Denial(400, "The sandbox refuses this request because it was told to."),
    "401": Denial(401, "The sandbox refuses this API key because it was told to.", "invalid_api_key"),
    "402": Denial(402, "The account has no balance left."),
    "403": Denial(403, "Training is not available to this organization.", "training_not_available"),
    "404": Denial(404, "The sandbox finds nothing here because it was told to."),
    "409": Denial(409, "The sandbox sees a conflict because it was told to."),
    "410": Denial(410, "This route is gone."),
    "429": Denial(429, "Rate limit reached. Please try again later.", "rate_limit_exceeded"),
    "500": Denial(500, "The server had an error while processing your request."),
    "503": Denial(503, "The server is overloaded."),
    "daily-cap": Denial(429, "The account has started as many fine-tunes as it may in a day.", "daily_cap"),
    "quota": Denial(429, "The account's quota is used up.", "insufficient_quota"),
    "slot": Denial(429, "The account already runs as many fine-tunes as it may at once.", "too_many_jobs"),
}


def denial_of(what: str, own: Mapping[str, Denial]) -> Denial:
    """What a vendor says to a status or to the name of a fault."""
    found = own.get(what) or COMMON.get(what)
    return found or Denial(int(what), f"The sandbox answers {what} because it was told to.")
