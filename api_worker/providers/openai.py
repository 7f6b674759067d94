"""OpenAI, and every server that speaks its files and fine-tuning API under another base_url.

The submission key travels in the job's metadata. Not every such server filters its list by it, so we do it as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import openai

from api_worker.provider import Order, RemoteJob, RemoteResult, RemoteState, each_once, running_job, series_of, state_of
from api_worker.refusals import Refusal, cause_of, error_of, is_on_this_machine, without_secret
from queue_app.errors import Permanent
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx2
    from openai.types.fine_tuning import FineTuningJob
    from openai.types.fine_tuning.job_create_params import Method

    from settings import ProviderSettings

P = ParamSpec("P")
T = TypeVar("T")

VENDOR_URL = "https://api.openai.com/v1"
ANSWER_SECONDS = 60.0
UPLOAD_SECONDS = 1800.0  # 512 MB, the largest file, at 2.3 Mbit/s
READ_RETRIES = 2  # reading again is harmless; what creates or changes is sent once
KEY = "tuneyard"  # the metadata pair that carries the submission key

STATES = {
    "validating_files": RemoteState.VALIDATING,
    "queued": RemoteState.QUEUED,
    "running": RemoteState.RUNNING,
    "succeeded": RemoteState.SUCCEEDED,
    "failed": RemoteState.FAILED,
    "cancelled": RemoteState.CANCELLED,
}


class Account:
    """One account. Its key must be set."""

    def __init__(self, name: str, account: ProviderSettings) -> None:
        assert account.api_key is not None
        self._name, self._secret, self._url = name, account.api_key, account.base_url or VENDOR_URL
        self._reader = openai.OpenAI(
            api_key=self._secret.get_secret_value(),
            base_url=self._url,
            max_retries=READ_RETRIES,
            timeout=ANSWER_SECONDS,
            http_client=openai.DefaultHttpxClient(
                event_hooks={"response": [_insist_on_json]},
                trust_env=not is_on_this_machine(self._url),  # no proxy leads there, whatever the environment says
            ),
        )
        self._reading = self._reader.fine_tuning.jobs
        self._writer = self._reader.with_options(max_retries=0)

    def upload(self, path: Path) -> str:
        with path.open("rb") as content:
            return self._ask(self._writer.files.create, file=content, purpose="fine-tune", timeout=UPLOAD_SECONDS).id

    def start(self, order: Order, key: str) -> str:
        hyperparameters: Any = {"n_epochs": order.epochs} if order.epochs else {}
        method: Method = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
        return self._ask(
            self._writer.fine_tuning.jobs.create,
            model=order.base_model,
            training_file=order.training_file,
            method=method,
            metadata={KEY: key},
            **order.wishes,
        ).id

    def find(self, key: str) -> str | None:
        def search() -> FineTuningJob | None:
            listed = each_once(self._reading.list(limit=100, metadata={KEY: key}))
            return next((job for job in listed if (job.metadata or {}).get(KEY) == key), None)

        found = self._ask(search)
        return found.id if found else None

    def state(self, remote_id: str) -> RemoteJob:
        job = self._ask(self._reading.retrieve, remote_id)
        state = state_of(job.status, STATES, f"{self._name}: job {remote_id}")
        if state == RemoteState.FAILED and job.error is not None and job.error.message:
            cause = cause_of(job.error.code, job.error.param)
            return RemoteJob(job.id, state, failure=f"{job.error.message} ({job.error.code})", cause=cause)
        if state != RemoteState.RUNNING:
            return RemoteJob(job.id, state)
        newest = self._ask(self._reading.list_events, remote_id, limit=20).data
        return running_job(job.id, [event.data for event in newest])

    def cancel(self, remote_id: str) -> RemoteState:
        seen = self._seen(remote_id)
        if seen.is_final:
            return seen
        try:
            self._ask(self._writer.fine_tuning.jobs.cancel, remote_id)
        except Permanent:  # it may have ended in between
            seen = self._seen(remote_id)
            if not seen.is_final:
                raise
            return seen
        return RemoteState.CANCELLED

    def result(self, remote_id: str) -> RemoteResult:
        job = self._ask(self._reading.retrieve, remote_id)
        if not job.fine_tuned_model:
            said = f'{self._name}: job {remote_id} is "{job.status}" and names no model; look for it at the provider'
            raise Permanent(said, cause=Cause.PROVIDER)
        events = self._ask(lambda: list(each_once(self._reading.list_events(remote_id, limit=100))))
        return RemoteResult(
            model=job.fine_tuned_model,
            trained_tokens=job.trained_tokens,
            series=series_of(event.data for event in events),
            warnings=tuple(event.message for event in reversed(events) if event.level in ("warn", "error")),
            files={name: self._ask(self._reader.files.content, name).content for name in job.result_files or ()},
        )

    def close(self) -> None:
        self._reader.close()

    def _seen(self, remote_id: str) -> RemoteState:
        """What a job is; one with a status that is not known may still run."""
        return STATES.get(self._ask(self._reading.retrieve, remote_id).status, RemoteState.RUNNING)

    def _ask(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call. The SDK's error is left outside the new one's context, as its request carries the key."""
        try:
            return call(*args, **kwargs)
        except openai.APIError as error:
            refusal = self._refusal(error)
        raise error_of(self._name, refusal)

    def _refusal(self, error: openai.APIError) -> Refusal:
        said = error.body.get("message") if isinstance(error.body, dict) else None
        text = without_secret(str(said or error.message), self._secret)
        if isinstance(error, openai.APIStatusError | openai.APIResponseValidationError):
            return Refusal(text, error.status_code, error.code, error.response.headers.get("retry-after"))
        return Refusal(without_secret(f"no answer from {self._url}: {error.__cause__ or text}", self._secret))


def _insist_on_json(response: httpx2.Response) -> None:
    """Stop a page of HTML and the like before the SDK takes it for an answer."""
    kind = response.headers.get("content-type", "nothing")
    if response.is_success and "json" not in kind and not response.url.path.endswith("/content"):
        said = f"{response.url} answered with {kind}, not JSON; check the account's base_url"
        raise openai.APIResponseValidationError(response, None, message=said)
