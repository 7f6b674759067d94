"""Mistral's files and fine-tuning API, for servers that still have its routes, by the last SDK that knows them (2.5.1).

Mistral's own cloud answers them with 410 Gone, and stands as closed in the catalogue.

The submission key is the whole suffix, by which jobs can be listed: 18 characters are the most that it may have, so
there is no room for the user's own. Of the SDK's retries none is used: they know no number, and sleep for as long as a
Retry-After says.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import msgspec

from api_worker import mistral_answers as answers
from api_worker.cancelling import cancel_unless_ended
from api_worker.certificates import certificates
from api_worker.provider import Estimate, Method, Offer, Order, RemoteJob, RemoteResult, RemoteState
from api_worker.refusals import Meaning, Refusal, error_of, without_secret
from api_worker.rereading import read_again
from queue_app.errors import Invalid, NotFound, Permanent
from queue_app.lifecycle import Cause
from settings.addresses import is_on_this_machine, origin_of

try:
    from mistralai.client import Mistral
    from mistralai.client.errors import MistralError, ResponseValidationError
    from mistralai.client.models import CompletionTrainingParameters
except ModuleNotFoundError as error:
    raise Invalid(f"Mistral needs {error.name}; install the extra: pip install 'tuneyard[mistral]'") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from settings import ProviderSettings

T = TypeVar("T")

VENDOR_URL = "https://api.mistral.ai/v1"
ANSWER_SECONDS = 60.0
UPLOAD_SECONDS = 1800.0  # 512 MB, the largest file, at 2.3 Mbit/s
PAGE = 100  # jobs in a list
NO_HINTS: Mapping[int, str] = MappingProxyType({})


class Account:
    """One account. Its key must be set."""

    takes = frozenset({"validation_file", "epochs", "learning_rate"})
    methods = frozenset({Method.SFT})

    def __init__(self, name: str, account: ProviderSettings) -> None:
        assert account.api_key is not None
        self._name, self._secret, self._url = name, account.api_key, account.base_url or VENDOR_URL
        self._shown = origin_of(self._url)
        # no proxy leads to this machine, whatever the environment says
        plain: dict[str, Any] = {"verify": certificates(), "trust_env": not is_on_this_machine(self._url)}
        self._client = httpx.Client(**plain)
        self._mistral = Mistral(
            api_key=account.key,
            server_url=self._url.rstrip("/").removesuffix("/v1"),  # its paths begin with it
            client=self._client,
            async_client=httpx.AsyncClient(**plain),  # never used; of itself it would read the certificates once more
            timeout_ms=int(ANSWER_SECONDS * 1000),
        )
        self._files, self._jobs = self._mistral.files, self._mistral.fine_tuning.jobs

    def close(self) -> None:
        self._client.close()

    # -- files ----------------------------------------------------------------------------------------------------

    def upload(self, path: Path) -> str:
        """Send a file; one with the name and content of another is that one to Mistral."""
        hints = {413: f"; {path.name} has {path.stat().st_size:,} bytes"}
        with path.open("rb") as content:
            file = {"file_name": path.name, "content": content}
            upload_ms = int(UPLOAD_SECONDS * 1000)
            told = self._send(self._files.upload, hints, file=file, purpose="fine-tune", timeout_ms=upload_ms)
        return str(told["id"])

    def is_ready(self, file: str) -> bool:
        told = self._look(self._files.retrieve, {404: "; a retry sends the file again"}, file_id=file)
        if told["deleted"]:
            raise NotFound(f"{self._name}: the file {file} was deleted; a retry sends it again", cause=Cause.PROVIDER)
        return True

    # -- jobs -----------------------------------------------------------------------------------------------------

    def start(self, order: Order, key: str) -> str:
        if order.method != Method.SFT:
            raise Invalid(f"{self._name} does not train by {order.method}")
        asked = {"epochs": order.epochs, "learning_rate": order.learning_rate}
        hints = {
            409: "; it takes no second job like one that waits or runs",
            422: f'; the base model asked for is "{order.base_model}"',
        }
        told = self._send(
            self._jobs.create,
            hints,
            model=order.base_model,
            training_files=[{"file_id": order.training_file, "weight": 1}],
            validation_files=[order.validation_file] if order.validation_file else [],
            hyperparameters=CompletionTrainingParameters(
                **{name: value for name, value in asked.items() if value is not None}
            ),
            suffix=key,
            auto_start=True,  # else it would wait, validated, for a second request
            job_type="completion",
        )
        return self._typed(answers.Job, told).id

    def find(self, key: str) -> str | None:
        return next((job.id for job in self._listed(suffix=key) if job.suffix == key), None)

    def listed(self) -> Iterator[RemoteJob]:
        return map(answers.seen, self._listed())

    def _listed(self, **narrowed: Any) -> Iterator[answers.Job]:
        """Every job once, in Mistral's order, which is not documented; a page may begin with the end of the last."""
        known: set[str] = set()
        for page in itertools.count():
            told = self._look(self._jobs.list, page=page, page_size=PAGE, **narrowed)
            jobs = self._typed(list[answers.Job], [answers.as_sent(job) for job in told.get("data") or ()])
            new = [job for job in jobs if job.id not in known]
            yield from new
            known |= {job.id for job in new}
            if not new or len(known) >= told["total"]:
                return

    def state(self, remote_id: str) -> RemoteJob:
        return answers.seen(self._job(remote_id))

    def cancel(self, remote_id: str) -> RemoteState:
        def send() -> RemoteState:
            return self._typed(answers.Job, self._send(self._jobs.cancel, job_id=remote_id)).state

        return cancel_unless_ended(self._job(remote_id).state, send, lambda: self._job(remote_id).state)

    def result(self, remote_id: str) -> RemoteResult:
        job = self._job(remote_id)
        if job.state != RemoteState.SUCCEEDED or not job.fine_tuned_model:
            said = f'{self._name}: job {remote_id} is "{job.status}" and names no model; look for it at the provider'
            raise Permanent(said, cause=Cause.PROVIDER)
        told = job.metadata or answers.Metadata()
        is_usd = told.cost_currency == "USD"
        foreign = told.cost is not None and not is_usd
        return RemoteResult(
            model=job.fine_tuned_model,
            trained_tokens=job.trained_tokens,
            usd=told.cost if is_usd else None,
            series=job.series,
            warnings=(f"it cost {told.cost:g} {told.cost_currency or 'of an unnamed currency'}",) if foreign else (),
        )

    def _job(self, remote_id: str) -> answers.Job:
        return self._typed(answers.Job, self._look(self._jobs.get, job_id=remote_id))

    # -- prices and models ----------------------------------------------------------------------------------------

    def estimate(self, order: Order) -> Estimate | None:  # noqa: ARG002  the SDK cannot ask for a dry run
        return None

    def offers(self) -> Iterator[Offer]:
        """Models that can be tuned, and the account's own; of a `deprecation` nobody says what ends then."""
        for told in self._look(self._mistral.models.list).get("data") or ():
            model = answers.as_sent(told)
            tuned = model.get("type") == "fine-tuned"
            if tuned or (model.get("capabilities") or {}).get("fine_tuning"):
                yield Offer(str(model["id"]), max_tokens=model.get("max_context_length"), tuned=tuned)

    # -- requests -------------------------------------------------------------------------------------------------

    def _look(self, call: Callable[..., Any], hints: Mapping[int, str] = NO_HINTS, **asked: Any) -> dict[str, Any]:
        """Read, again where that may help."""
        return self._insist(read_again(lambda: self._ask(call, **asked)), hints)

    def _send(self, call: Callable[..., Any], hints: Mapping[int, str] = NO_HINTS, **asked: Any) -> dict[str, Any]:
        """Send a request, once."""
        return self._insist(self._ask(call, **asked), hints)

    def _insist(self, answer: dict[str, Any] | Refusal, hints: Mapping[int, str]) -> dict[str, Any]:
        """The answer; a refusal is raised, with what `hints` add to its status."""
        if isinstance(answer, Refusal):
            said = answer.message + hints.get(answer.status or 0, "")
            raise error_of(self._name, replace(answer, message=said))
        return answer

    def _ask(self, call: Callable[..., Any], **asked: Any) -> dict[str, Any] | Refusal:
        """Make a call. The SDK's error goes no further, as its request carries the key."""
        try:
            told = call(**asked)
        except MistralError as error:
            refusal = self._refusal(error)
        except httpx.HTTPError as error:
            refusal = Refusal(f"no answer from {self._shown}: {str(error) or type(error).__name__}")
        else:
            return answers.as_sent(told.model_dump(by_alias=True, warnings=False))
        return replace(refusal, message=without_secret(refusal.message, self._secret, self._url))

    def _refusal(self, error: MistralError) -> Refusal:
        status, kind = error.status_code, error.headers.get("content-type", "nothing")
        if isinstance(error, ResponseValidationError):  # the request may have been heeded all the same
            fault = " ".join(str(error.cause).split())[:300]
            return Refusal(
                f"{self._shown} answered what is not understood here: {fault}", status, meaning=Meaning.RETRY
            )
        if status < 400:
            return Refusal(f"{self._shown} answered with {kind}, not JSON; check the account's base_url", status)
        told = answers.json_of(error.body)
        said = answers.words(told) or " ".join(error.body.split())[:300] or "no reason was given"
        code = told.get("code") or told.get("type") if isinstance(told, dict) else None
        meaning = Meaning.SLOT if answers.NO_SLOT.search(said) else None
        return Refusal(said, status, str(code) if code else None, error.headers.get("retry-after"), meaning)

    def _typed(self, kind: type[T], told: Any) -> T:
        try:
            return msgspec.convert(told, type=kind)
        except msgspec.ValidationError as error:
            said = without_secret(
                f"{self._shown} answered what is not understood here: {error}", self._secret, self._url
            )
        raise error_of(self._name, Refusal(said, meaning=Meaning.RETRY))
