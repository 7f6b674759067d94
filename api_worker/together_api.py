"""Together's API: how a file's place is asked for, and what a refusal says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx

from api_worker.json_api import Answer, JsonApi
from api_worker.refusals import Meaning, Refusal

if TYPE_CHECKING:
    from pydantic import SecretStr

# Together does not document the error codes of its fine-tuning API. Of the statuses it documents 402 (the account's
# spending limit), and 503, 504, 524 and 529 as passing; `billing_limit` is the type of an event, and is heeded here in
# case it is a code as well. Neither is it documented how many jobs an account may have at once, nor how one too many is
# refused: a 429 that speaks of jobs is taken for that, any other for too many requests.
MEANINGS = {"billing_limit": Meaning.ACCOUNT}
OF_JOBS = re.compile(r"\b(?:jobs|fine-?tunes)\b", re.IGNORECASE)


class Api(JsonApi):
    """Together's, with the one request that is answered in headers."""

    def __init__(self, account: str, url: str, secret: SecretStr) -> None:
        super().__init__(account, url, secret, _refusal)

    def reserve(self, form: dict[str, str]) -> tuple[str, str] | str | Refusal:
        """A new file's id and the URL that takes its content, or the id of a file with that content that is there."""
        try:
            fields = {name: (None, value) for name, value in form.items()}
            response = self._client.post("files", files=fields, follow_redirects=False)
        except httpx.HTTPError as error:
            return self._clean(Refusal(f"no answer from {self._shown}: {str(error) or type(error).__name__}"))
        file, place = response.headers.get("x-together-file-id"), response.headers.get("location")
        if file and place and response.status_code < 400:
            return file, place
        if response.status_code == 409 and (known := _known_file(response)):
            return known
        answer = self._answer(response)
        if isinstance(answer, Refusal) and not response.is_redirect:
            return answer
        return Refusal(f"{self._shown} did not say where to put the file; check the account's base_url", 200)


def quoted(name: str) -> str:
    """A file's or a job's id as a part of a path."""
    return quote(name, safe="")


def _refusal(status: int, body: Answer) -> Refusal:
    """What a refusal says: in `error`, as an object or a text, or at the top."""
    told = body.get("error", body)
    told = told if isinstance(told, dict) else {"message": told}
    code = told.get("code") or told.get("type")
    word = code if isinstance(code, str) else None
    said = str(told.get("message") or told.get("detail") or "no reason was given")
    meaning = Meaning.SLOT if status == 429 and OF_JOBS.search(said) else MEANINGS.get(word or "")
    return Refusal(said, status, word, meaning=meaning)


def _known_file(response: httpx.Response) -> str | None:
    try:
        told = response.json()
    except ValueError:
        return None
    file = told.get("file_id") if isinstance(told, dict) else None
    return file if isinstance(file, str) else None
