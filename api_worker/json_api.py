"""A provider's JSON API over plain HTTP: reading is repeated, what creates or changes is sent exactly once.

No key and no signed URL gets into an error, and neither does httpx's own error, as its request carries them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import msgspec

from api_worker.certificates import certificates
from api_worker.refusals import Meaning, Refusal, error_of, without_secret
from api_worker.rereading import read_again
from settings.addresses import is_on_this_machine, origin_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pydantic import SecretStr

ANSWER_SECONDS = 60.0
TRANSFER_SECONDS = 1800.0

EXPIRED = frozenset({400, 401, 403})  # what stores say of a signature that is over; the next try gets another one

Answer = dict[str, Any]
T = TypeVar("T")


class JsonApi:
    """One account's connection. `read` makes a refusal of a status and the JSON that came with it."""

    def __init__(self, account: str, url: str, secret: SecretStr, read: Callable[[int, Answer], Refusal]) -> None:
        self._account, self._url, self._secret, self._read = account, url, secret, read
        self._shown = origin_of(url)
        self._is_local = is_on_this_machine(url)
        # no proxy leads to this machine, whatever the environment says
        plain: dict[str, Any] = {"verify": certificates(), "trust_env": not self._is_local}
        headers = {"Authorization": f"Bearer {secret.get_secret_value().strip()}", "Accept": "application/json"}
        self._client = httpx.Client(base_url=url, headers=headers, timeout=ANSWER_SECONDS, **plain)
        self._storage = httpx.Client(timeout=TRANSFER_SECONDS, **plain)  # it never sees the key

    def close(self) -> None:
        self._client.close()
        self._storage.close()

    def ask(self, method: str, path: str, **request: Any) -> Answer | Refusal:
        """Send a request once, and return what it is answered with, or why it is not."""
        try:
            response = self._client.request(method, path, **request)
        except httpx.HTTPError as error:
            return self._clean(Refusal(f"no answer from {self._shown}: {str(error) or type(error).__name__}"))
        return self._answer(response)

    def send(self, method: str, path: str, **request: Any) -> Answer:
        """Send a request once; a refusal is raised."""
        return self._insist(self.ask(method, path, **request))

    def look(self, path: str, **query: Any) -> Answer | Refusal:
        """Read, again where that may help."""
        return read_again(lambda: self.ask("GET", path, params=query))

    def get(self, path: str, **query: Any) -> Answer:
        """Read; a refusal is raised."""
        return self._insist(self.look(path, **query))

    # -- signed URLs, which lead to somebody else's storage -------------------------------------------------------

    def fetch(self, url: str) -> bytes | Refusal:
        """What lies behind a signed URL."""
        answer = self._at_storage("GET", url)
        return answer if isinstance(answer, Refusal) else answer.content

    def deliver(self, url: str, path: Path, headers: Mapping[str, str]) -> None:
        """Send a file to a signed URL, once."""
        with path.open("rb") as content:
            answer = self._at_storage("PUT", url, content=content, headers=headers)
        if isinstance(answer, Refusal):
            raise error_of(self._account, answer)

    def _at_storage(self, method: str, url: str, **request: Any) -> httpx.Response | Refusal:
        """Answer or refusal; of the URL only the host is told, as its query is a key."""
        try:
            host, scheme = httpx.URL(url).host, httpx.URL(url).scheme
        except httpx.InvalidURL:
            host = scheme = ""
        if scheme != "https" and not (self._is_local and is_on_this_machine(url)):
            return Refusal(f'the signed URL leads to "{host}" by "{scheme}", not https', meaning=Meaning.PERMANENT)
        try:
            response = self._storage.request(method, url, **request)
        except httpx.HTTPError as error:
            return Refusal(f"no answer from {host}: {type(error).__name__}")
        if response.is_success:
            return response
        meaning = Meaning.RETRY if response.status_code in EXPIRED else None
        return Refusal(f"the store at {host} refused a signed URL", response.status_code, meaning=meaning)

    # -- answers --------------------------------------------------------------------------------------------------

    def typed(self, kind: type[T], answer: Answer | Refusal) -> T:
        """An answer as what it ought to be. One that is not may belong to a request that was heeded all the same."""
        told = self._insist(answer)
        try:
            return msgspec.convert(told, type=kind)
        except msgspec.ValidationError as error:
            refusal = Refusal(f"{self._shown} answered what is not understood here: {error}", meaning=Meaning.RETRY)
        raise error_of(self._account, self._clean(refusal))

    def _insist(self, answer: Answer | Refusal) -> Answer:
        if isinstance(answer, Refusal):
            raise error_of(self._account, answer)
        return answer

    def _answer(self, response: httpx.Response) -> Answer | Refusal:
        status, body = response.status_code, _json_of(response)
        if body is not None and response.is_success:
            return body
        if body is not None:
            refusal = self._read(status, body)
        elif response.is_success:
            kind = response.headers.get("content-type", "nothing")
            said = f"{self._shown} answered with {kind}, not a JSON object; check the account's base_url"
            refusal = Refusal(said, status)
        else:
            refusal = Refusal(" ".join(response.text.split())[:300] or "no reason was given", status)
        return self._clean(replace(refusal, retry_after=response.headers.get("retry-after")))

    def _clean(self, refusal: Refusal) -> Refusal:
        return replace(refusal, message=without_secret(refusal.message, self._secret, self._url))


def _json_of(response: httpx.Response) -> Answer | None:
    """The JSON object of an answer, if it is one."""
    try:
        body = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None
