"""Fireworks' API: an account's path, pages, changes that are sent once, and what a refusal says."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from api_worker import fireworks_answers as answers
from api_worker.json_api import Answer, JsonApi
from api_worker.refusals import Meaning, Refusal, error_of
from queue_app.errors import Invalid, TuneyardError
from settings.account import variable_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from settings import ProviderSettings

VENDOR_URL = "https://api.fireworks.ai"
PAGE = 200  # the most a list gives at once
ACCOUNT_ID = re.compile(r"(?:accounts/)?([A-Za-z0-9][A-Za-z0-9._-]*)")

# How a suspended account is refused: 412 was seen, and is also what a training shape that is not enabled is answered
# with; of the others nothing is documented. So the account itself is asked after.
MAYBE_SUSPENDED = frozenset({402, 403, 412, 429})


class Api(JsonApi):
    """As one account asks it; `path` begins the names of all that is the account's."""

    def __init__(self, name: str, account: ProviderSettings) -> None:
        assert account.api_key is not None
        self.path = f"accounts/{_account_id(name, account.organization)}"
        super().__init__(name, account.base_url or VENDOR_URL, account.api_key, _refusal)

    def pages(self, collection: str) -> Iterator[answers.Page]:
        """A collection, page by page; a server that names the same next page again is left."""
        token, asked = "", set[str]()
        while token not in asked:
            asked.add(token)
            more = {"pageToken": token} if token else {}
            page = self.typed(answers.Page, self.look(f"v1/{collection}", pageSize=PAGE, **more))
            yield page
            if not page.next_page_token:
                return
            token = page.next_page_token

    def change(self, path: str, *, when_full: Meaning | None = None, **request: Any) -> Answer | Refusal:
        """Ask for something new, by one request, and return what was made, or that it is there already (409)."""
        told = self.ask("POST", path, **request)
        if not isinstance(told, Refusal) or told.status == 409:
            return told
        suspension = self.suspension() if told.status in MAYBE_SUSPENDED else ""
        if suspension:
            said = f"{told.message}; the account is suspended: {suspension}"
            told = replace(told, message=said, meaning=Meaning.ACCOUNT)
        elif told.status == 412:
            told = replace(
                told, message=f"{told.message}; the model's training shape may not be enabled for the account"
            )
        elif told.status == 429 and when_full is not None:  # of a new job: the account's quota of GPUs
            told = replace(told, meaning=when_full)
        raise error_of(self._account, told)

    def suspension(self) -> str:
        """Why the account is suspended, in Fireworks' word; nothing where it is not, or where that is not told."""
        told = self.look(f"v1/{self.path}")
        try:
            word = self.typed(answers.Owner, told).suspend_state
        except TuneyardError:
            return ""
        return "" if word in (None, "", "UNSUSPENDED", "SUSPEND_STATE_UNSPECIFIED") else word


def is_missing(told: Answer | Refusal) -> bool:
    """Whether Fireworks itself says that there is no such thing; a page with 404 is no word of Fireworks'."""
    return isinstance(told, Refusal) and told.status == 404 and told.code is not None


def _account_id(name: str, organization: str | None) -> str:
    variable = variable_of(name, "organization")
    if organization is None or not organization.strip():
        raise Invalid(f'account "{name}": every path at Fireworks names the account; set {variable} to its id')
    found = ACCOUNT_ID.fullmatch(organization.strip())
    if found is None:
        raise Invalid(f'account "{name}": "{organization}" is no id of a Fireworks account; see {variable}')
    return found[1]


def _refusal(status: int, body: Answer) -> Refusal:
    """A refusal in gRPC's terms, {code, message, details}, which some routes put within "error"."""
    told = body.get("error", body)
    try:
        stands = msgspec.convert(told, answers.Status)
    except msgspec.ValidationError:
        stands = answers.Status(message=str(told))
    said = stands.message or "no reason was given"
    if status == 401:
        said += "; a key for inference alone is refused here"
    return Refusal(said, status, stands.word or None)
