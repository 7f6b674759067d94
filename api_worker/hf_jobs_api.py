"""The Hub's API as Hugging Face Jobs needs it: whose account it is, lists, logs, and what a refusal says."""

from __future__ import annotations

import json
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any

import httpx

from api_worker.hf_jobs_answers import Named
from api_worker.json_api import Answer, JsonApi
from api_worker.refusals import Meaning, Refusal, error_of, without_secret

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import SecretStr

QUIET_SECONDS = 5.0  # after which a log has told what it has
OF_JOBS = re.compile(r"\bjobs\b", re.IGNORECASE)


class Api(JsonApi):
    """The Hub's, which answers with lists, names their next page in a header, and tells logs as events."""

    def __init__(self, account: str, url: str, secret: SecretStr, owner: str | None) -> None:
        super().__init__(account, url.rstrip("/"), secret, _refusal)
        self._owner = owner

    @cached_property
    def space(self) -> str:
        """Whose jobs and repositories these are."""
        return self._owner or self.typed(Named, self.get("api/whoami-v2")).name

    def is_at_the_hub(self, url: str) -> bool:
        """Whether a URL that an answer names leads to the Hub itself; the key goes nowhere else."""
        return url.startswith(f"{self._url}/")

    def pages(self, path: str, **query: str) -> Iterator[Any]:
        """Every row of a list, page by page; of the next page's URL only the query is heeded, so that no key leaves."""
        seen: list[dict[str, str]] = []
        while query not in seen:
            seen.append(query)
            told = self.get(path, **query)
            if "rows" not in told:
                said = f"{self._shown} answered {path} with what is not understood here: no list"
                raise error_of(self._account, Refusal(said, meaning=Meaning.RETRY))
            yield from told["rows"]
            if told["next"] is None:
                return
            query = dict(httpx.URL(told["next"]).params)

    def lines(self, path: str, **query: int) -> list[str]:
        """What a log tells by now; what cannot be read of it is missing."""
        found: list[str] = []
        try:
            with self._client.stream("GET", path, params=query, timeout=QUIET_SECONDS) as response:
                for line in response.iter_lines() if response.status_code == 200 else ():
                    if line.startswith("data: {"):
                        found.append(str(json.loads(line.removeprefix("data: ")).get("data", "")))
        except (httpx.HTTPError, ValueError):
            pass  # it has nothing more to tell, or breaks off
        return [without_secret(line, self._secret, self._url) for line in found]

    def _answer(self, response: httpx.Response) -> Answer | Refusal:
        try:
            rows = response.json() if response.is_success else None
        except ValueError:
            rows = None
        if not isinstance(rows, list):
            return super()._answer(response)
        return {"rows": rows, "next": response.links.get("next", {}).get("url")}


def _refusal(status: int, body: Answer) -> Refusal:
    """What a refusal says."""
    told = body.get("error") or body.get("message")
    said = str(told.get("message") if isinstance(told, dict) else told or "no reason was given")
    return Refusal(said, status, meaning=Meaning.SLOT if status == 429 and OF_JOBS.search(said) else None)
