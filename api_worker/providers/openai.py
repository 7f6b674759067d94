"""OpenAI, and every server that speaks its files and fine-tuning API under another base_url.

What such servers do differently is said in a `Dialect`. The submission key travels in the job's metadata, or in its
suffix where a server keeps no metadata. Not every such server filters its list by it, so we do it as well.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import httpx  # noqa: F401  the SDK looks for it among what is loaded, and must not find half of it
import openai
from openai.types import FileObject, Model
from openai.types.fine_tuning import FineTuningJob

from api_worker import openai_answers as answers
from api_worker.cancelling import cancel_unless_ended
from api_worker.certificates import certificates
from api_worker.provider import (
    Estimate,
    Method,
    Offer,
    Order,
    RemoteJob,
    RemoteResult,
    RemoteState,
    each_once,
    progress_of,
    series_of,
)
from api_worker.refusals import Refusal, cause_of_words, error_of, without_secret
from queue_app.errors import Invalid, NotFound, Permanent, Transient, Unauthorized
from queue_app.lifecycle import Cause
from settings.account import variable_of
from settings.addresses import is_on_this_machine, origin_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import httpx2

    from settings import ProviderSettings

P = ParamSpec("P")
T = TypeVar("T")
W = TypeVar("W", FineTuningJob, FileObject)

VENDOR_URL = "https://api.openai.com/v1"
ANSWER_SECONDS = 60.0
UPLOAD_SECONDS = 1800.0  # 512 MB, the largest file, at 2.3 Mbit/s
PAGE = 100  # jobs in a list, the most there may be
READ_RETRIES = 2  # reading again is harmless; what creates or changes is sent once


@dataclass(frozen=True)
class Dialect:
    """How a server that speaks OpenAI's API differs from OpenAI's own."""

    url: str | None = VENDOR_URL  # None: every account has its own
    methods: frozenset[Method] = frozenset(Method)
    takes: frozenset[str] = frozenset({"validation_file", "epochs", "suffix", "seed", "batch_size"})
    suffix_limit: int = 64
    key_in_metadata: bool = True  # else the suffix ends with it
    hyperparameters_only: bool = False  # it refuses an order that has a `method` as well
    marks_utf8: bool = False  # a training file begins with a byte order mark
    bills: Mapping[RemoteState, bool] = field(default_factory=dict)  # which ends without success, if it says


class Account:
    """One account. Its key must be set."""

    dialect = Dialect()

    def __init__(self, name: str, account: ProviderSettings) -> None:
        assert account.api_key is not None
        url = account.base_url or self.dialect.url
        if url is None:
            raise Invalid(f'account "{name}": its servers are its own; set {variable_of(name, "base_url")}')
        self._name, self._secret, self._url, self._tier = name, account.api_key, url, account.tier
        self._shown = origin_of(url)
        self.takes, self.methods = self.dialect.takes, self.dialect.methods
        self._reader = openai.OpenAI(
            api_key=account.key,
            base_url=self._url,
            max_retries=READ_RETRIES,
            timeout=ANSWER_SECONDS,
            http_client=openai.DefaultHttpxClient(
                verify=certificates(),
                event_hooks={"response": [_insist_on_json]},
                trust_env=not is_on_this_machine(self._url),  # no proxy leads there, whatever the environment says
            ),
        )
        self._reading = self._reader.fine_tuning.jobs
        self._writer = self._reader.with_options(max_retries=0)

    def upload(self, path: Path) -> str:
        with path.open("rb") as file:
            content: Any = file
            if self.dialect.marks_utf8:
                content = (path.name, BOM_UTF8 + file.read())
            sent = self._ask(self._writer.files.create, file=content, purpose="fine-tune", timeout=UPLOAD_SECONDS)
        return self._whole(sent, FileObject).id

    def is_ready(self, file: str) -> bool:
        try:
            found = self._whole(self._ask(self._reader.files.retrieve, file), FileObject)
        except Unauthorized:
            raise
        except Permanent as error:
            kind = NotFound if isinstance(error, NotFound) else Permanent
            raise kind(f"{error}; a retry sends the file again", cause=Cause.PROVIDER) from None
        if found.status == "error":
            said = f"{self._name}: the file {file} was refused: {found.status_details or 'no reason was given'}"
            raise Permanent(said, cause=cause_of_words(found.status_details))
        return found.status not in ("pending", "running")  # others show no status, or "uploaded" for good

    def start(self, order: Order, key: str) -> str:
        made = self._ask(self._writer.fine_tuning.jobs.create, **self._request(order, key))
        return self._whole(made, FineTuningJob).id

    def _request(self, order: Order, key: str) -> Any:
        """The body of a request for a job.

        Raises:
            Permanent: the server cannot train in that way, or the suffix is too long beside the key
        """
        if order.method not in self.dialect.methods:
            raise Invalid(f"{self._name} does not train by {order.method}")
        request: dict[str, Any] = {"model": order.base_model, "training_file": order.training_file}
        asked = {"n_epochs": order.epochs, "batch_size": order.batch_size, **self.more_hyperparameters(order)}
        hyperparameters = {name: value for name, value in asked.items() if value is not None}
        if self.dialect.hyperparameters_only:
            request["hyperparameters"] = hyperparameters
        else:
            name = "supervised" if order.method == Method.SFT else "dpo"
            request["method"] = {"type": name, name: {"hyperparameters": hyperparameters}}
        if self.dialect.key_in_metadata:
            request["metadata"] = {answers.KEY: key}
        suffix = order.suffix if self.dialect.key_in_metadata else "-".join(filter(None, (order.suffix, key)))
        if suffix and len(suffix) > self.dialect.suffix_limit:
            room = self.dialect.suffix_limit - (0 if self.dialect.key_in_metadata else len(key) + 1)
            raise Invalid(f"{self._name}: the suffix may have {room} characters at the most")
        if self._tier:
            request["extra_body"] = {"trainingType": self._tier}
        plain = {"suffix": suffix, "seed": order.seed, "validation_file": order.validation_file}
        return request | {name: value for name, value in plain.items() if value is not None}

    def more_hyperparameters(self, order: Order) -> dict[str, Any]:
        """What a dialect asks for beside epochs and batch size."""
        return {}

    def find(self, key: str) -> str | None:
        def search() -> FineTuningJob | None:
            narrowed: Any = {"metadata": {answers.KEY: key}} if self.dialect.key_in_metadata else {}
            listed = each_once(self._reading.list(limit=PAGE, **narrowed))
            return next((job for job in listed if answers.key_of(job) == key), None)

        found = self._ask(search)
        return found.id if found else None

    def state(self, remote_id: str) -> RemoteJob:
        seen = self._look(self._job(remote_id))
        if seen.state != RemoteState.RUNNING or seen.step is not None:
            return seen
        newest = self._ask(self._reading.list_events, remote_id, limit=20).data
        return replace(seen, **progress_of([event.data for event in newest]))

    def listed(self) -> Iterator[RemoteJob]:
        after: Any = openai.omit
        while True:
            page = self._ask(self._reading.list, limit=PAGE, after=after)
            yield from map(self._look, page.data)
            if not page.has_more or not page.data or page.data[-1].id == after:
                return
            after = page.data[-1].id

    def _look(self, job: FineTuningJob) -> RemoteJob:
        seen = answers.seen(job)
        if seen.state not in (RemoteState.FAILED, RemoteState.CANCELLED):
            return seen
        return replace(seen, is_billed=self._is_billed(job, seen.state), trained_tokens=job.trained_tokens)

    def _is_billed(self, job: FineTuningJob, state: RemoteState) -> bool | None:
        """Whether an end without success is billed: `trained_tokens` are the billable ones, where they are told."""
        of_file = job.error is not None and job.error.param in answers.FILES  # looked through before it is trained on
        told = bool(job.trained_tokens) if job.trained_tokens is not None else False if of_file else None
        return self.dialect.bills.get(state, told)

    def cancel(self, remote_id: str) -> RemoteState:
        def send() -> RemoteState:
            self._ask(self._writer.fine_tuning.jobs.cancel, remote_id)
            return RemoteState.CANCELLED

        return cancel_unless_ended(self._seen(remote_id), send, lambda: self._seen(remote_id))

    def result(self, remote_id: str) -> RemoteResult:
        job = self._job(remote_id)
        if not job.fine_tuned_model:
            said = f'{self._name}: job {remote_id} is "{job.status}" and names no model; look for it at the provider'
            raise Permanent(said, cause=Cause.PROVIDER)
        events = self._ask(lambda: list(each_once(self._reading.list_events(remote_id, limit=100))))
        files, missing = self._files(job.result_files or ())
        return RemoteResult(
            model=job.fine_tuned_model,
            trained_tokens=job.trained_tokens,
            series=series_of(event.data for event in events),
            warnings=(*(e.message for e in reversed(events) if e.level in ("warn", "error")), *missing),
            files=files,
        )

    def _files(self, names: Sequence[str]) -> tuple[dict[str, bytes], list[str]]:
        """Files by name, and what is to be said of those that cannot be had: a model is not lost for want of one."""
        files, missing = {}, []
        for name in names:
            try:
                files[name] = self._ask(self._reader.files.content, name).content
            except Permanent as error:
                missing.append(f"the result file {name} could not be had: {error}")
        return files, missing

    def estimate(self, order: Order) -> Estimate | None:  # noqa: ARG002  there is nothing to ask
        return None

    def offers(self) -> Iterator[Offer]:
        limits = self._limits()
        listed = self._ask(lambda: list(self._reader.models.list()))
        named = {model.id for model in listed}
        listed += [Model(id=name, created=0, object="model", owned_by="") for name in limits if name not in named]
        yield from self._ask(lambda: [answers.offer(model, limits.get(model.id, {})) for model in listed])

    def _limits(self) -> dict[str, dict[str, Any]]:
        """What the account may start of each model; a server that does not tell has nothing against it."""
        try:
            told = self._ask(self._reader.get, "/fine_tuning/model_limits", cast_to=object)
        except Permanent:
            return {}
        found = told if isinstance(told, dict) else {}
        return {name: row for name, row in found.items() if isinstance(row, dict)}

    def close(self) -> None:
        self._reader.close()

    def _seen(self, remote_id: str) -> RemoteState:
        """What a job is; one with a status that is not known may still run."""
        return answers.STATES.get(self._job(remote_id).status, RemoteState.RUNNING)

    def _job(self, remote_id: str) -> FineTuningJob:
        return self._whole(self._ask(self._reading.retrieve, remote_id), FineTuningJob)

    def _whole(self, answer: object, kind: type[W]) -> W:
        """An answer that is what it should be: the SDK passes on whatever came.

        Raises:
            Transient: it is not; what was asked for may have been done all the same
        """
        if isinstance(answer, kind) and isinstance(getattr(answer, "id", None), str):
            return answer
        raise Transient(
            f"{self._name}: {self._shown} did not answer with a {kind.__name__}; check the account's base_url"
        )

    def _ask(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call. The SDK's error is left outside the new one's context, as its request carries the key."""
        try:
            return call(*args, **kwargs)
        except openai.APIError as error:
            refusal = self._refusal(error)
        except ValueError:  # JSON that was cut short
            refusal = Refusal(f"{self._shown} answered with what cannot be read; check the account's base_url")
        raise error_of(self._name, refusal)

    def _refusal(self, error: openai.APIError) -> Refusal:
        said = error.body.get("message") if isinstance(error.body, dict) else None
        text = without_secret(str(said or error.message), self._secret, self._url)
        if isinstance(error, openai.APIStatusError | openai.APIResponseValidationError):
            header = error.response.headers.get("retry-after")
            meaning = answers.meaning(error.status_code, error.code, text)
            return Refusal(text, error.status_code, error.code, header, meaning)
        return Refusal(
            without_secret(f"no answer from {self._shown}: {error.__cause__ or text}", self._secret, self._url)
        )


def _insist_on_json(response: httpx2.Response) -> None:
    """Stop a page of HTML and the like before the SDK takes it for an answer."""
    kind = response.headers.get("content-type", "nothing")
    if response.is_success and "json" not in kind and not response.url.path.endswith("/content"):
        said = f"{origin_of(str(response.url))} answered with {kind}, not JSON; check the account's base_url"
        raise openai.APIResponseValidationError(response, None, message=said)
