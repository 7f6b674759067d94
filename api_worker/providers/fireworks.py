"""Fireworks, over plain HTTP.

Its SDK (1.2.30) is left out: of itself it sends a create up to three times, and for the ten routes that are used here
it brings a second HTTP client (aiohttp) and a lower bound on certifi that not every package index can meet.

The submission key is the job's id, which Fireworks lets us choose; so a job is found by its name, and no list can lag.
Ids are Fireworks' own resource names, such as accounts/ACCOUNT/supervisedFineTuningJobs/KEY.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from api_worker import fireworks_answers as answers
from api_worker.cancelling import cancel_unless_ended
from api_worker.fireworks_api import Api, is_missing
from api_worker.fireworks_datasets import Datasets
from api_worker.fireworks_orders import DPO, SFT, VENDOR_MODELS, request_of
from api_worker.provider import (
    Estimate,
    Method,
    Offer,
    Order,
    RemoteJob,
    RemoteResult,
    RemoteState,
    progress_of,
    series_of,
)
from api_worker.refusals import Meaning, Refusal, error_of
from queue_app.errors import NotFound, Permanent
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from settings import ProviderSettings

DIRECT_BYTES = 150_000_000  # a larger file goes to a signed URL


class Account:
    """One account. Its key must be set."""

    takes = frozenset({"validation_file", "tuned", "epochs", "suffix", "learning_rate", "batch_size", "lora_r"})
    methods = frozenset(Method)

    def __init__(self, name: str, account: ProviderSettings, *, direct_bytes: int = DIRECT_BYTES) -> None:
        self._name = name
        self._api = Api(name, account)
        self._account = self._api.path
        self._datasets = Datasets(name, self._api, direct_bytes)

    def close(self) -> None:
        self._api.close()

    def upload(self, path: Path) -> str:
        return self._datasets.upload(path)

    def is_ready(self, file: str) -> bool:
        return self._datasets.is_ready(file)

    # -- jobs -----------------------------------------------------------------------------------------------------

    def start(self, order: Order, key: str) -> str:
        kind, body = request_of(self._name, self._account, order, key)
        remote_id = f"{self._account}/{kind.collection}/{key}"
        path, params = f"v1/{self._account}/{kind.collection}", {kind.id_parameter: key}
        made = self._api.change(path, when_full=Meaning.SLOT, params=params, json=body)
        if not isinstance(made, Refusal):
            return self._api.typed(answers.Job, made).name
        # Only we give this key away, so what is there under it is ours. That 409 answers a repeated create is what the
        # SDK counts on for other kinds of job; for these it is not documented.
        if self._has(remote_id):
            return remote_id
        raise error_of(self._name, made)

    def find(self, key: str) -> str | None:
        ids = (f"{self._account}/{kind.collection}/{key}" for kind in (SFT, DPO))
        return next(filter(self._has, ids), None)

    def _has(self, remote_id: str) -> bool:
        told = self._api.look(f"v1/{remote_id}")
        if isinstance(told, Refusal) and not is_missing(told):
            raise error_of(self._name, told)
        return not isinstance(told, Refusal)

    def state(self, remote_id: str) -> RemoteJob:
        job = self._job(remote_id)
        seen = answers.seen(job)
        # How a job ends when the account is suspended is not documented; a precondition that failed may be that.
        if seen.state == RemoteState.FAILED and seen.cause == Cause.USER and (suspension := self._api.suspension()):
            said = f"{seen.failure}; the account is suspended: {suspension}"
            return replace(seen, cause=Cause.QUOTA, failure=said)
        if seen.state != RemoteState.RUNNING:
            return seen
        metrics = self._metrics(job)
        rows = [] if isinstance(metrics, Refusal) else answers.rows_of(metrics)[0]  # the look stands without them
        return replace(seen, **progress_of(reversed(rows)))

    def listed(self) -> Iterator[RemoteJob]:
        """The account's jobs, newest first.

        All pages are read before: how the name of a field is spelled for `orderBy` is not documented.
        """
        pages = [page for kind in (SFT, DPO) for page in self._api.pages(f"{self._account}/{kind.collection}")]
        jobs = [answers.seen(job) for page in pages for job in page.jobs]
        yield from sorted(jobs, key=lambda job: job.created_at.timestamp() if job.created_at else 0.0, reverse=True)

    def cancel(self, remote_id: str) -> RemoteState:
        def look() -> RemoteState:
            return answers.seen(self._job(remote_id)).state

        def send() -> RemoteState:
            told = self._api.ask("POST", f"v1/{remote_id}:cancel", json={})
            if isinstance(told, Refusal):
                raise error_of(self._name, told)
            return look()

        return cancel_unless_ended(look(), send, look)

    def result(self, remote_id: str) -> RemoteResult:
        job = self._job(remote_id)
        seen = answers.seen(job)
        if seen.state != RemoteState.SUCCEEDED:
            raise Permanent(f'{self._name}: job {remote_id} is "{seen.word}" and has no model', cause=Cause.PROVIDER)
        model = job.order.output_model or remote_id.rpartition("/")[2]  # where none was named it is the job's id
        usd, warnings = answers.price_of(job.estimated_cost)
        metrics = self._metrics(job)
        if isinstance(metrics, Refusal):  # the model is paid for and there; its figures are not worth losing it
            warnings.append(f"the metrics could not be collected: {metrics.message}")
            metrics = b""
        rows, unread = answers.rows_of(metrics)
        if unread:
            warnings.append(f"{unread} lines of the metrics are no JSON objects")
        said = job.status.message if job.status else None
        return RemoteResult(
            model=model if model.startswith("accounts/") else f"{self._account}/models/{model}",
            trained_tokens=answers.tokens_of(job),
            usd=usd,
            is_estimate=usd is not None,
            series=series_of(rows),
            warnings=(*([said] if said else ()), *warnings),
            files={"metrics.jsonl": metrics} if metrics else {},
        )

    # -- prices and models ----------------------------------------------------------------------------------------

    def estimate(self, order: Order) -> Estimate | None:  # noqa: ARG002  a price stands on a job alone, once it is there
        return None

    def offers(self) -> Iterator[Offer]:
        """The models to start from, and those made here.

        No limit of jobs is told: the account's quota counts GPUs. Nor a closing date: `deprecationDate` is when the
        shared deployment ends, and fine-tunes run on deployments of their own.
        """
        for owner in dict.fromkeys((VENDOR_MODELS, self._account)):
            for page in self._api.pages(f"{owner}/models"):
                yield from filter(None, map(answers.offer_of, page.models or ()))

    # -- what is asked for in more than one place -----------------------------------------------------------------

    def _job(self, remote_id: str) -> answers.Job:
        if not remote_id.startswith(f"{self._account}/"):
            raise NotFound(f'{self._name}: "{remote_id}" is no job of {self._account}: its id does not begin with that')
        return self._api.typed(answers.Job, self._api.look(f"v1/{remote_id}"))

    def _metrics(self, job: answers.Job) -> bytes | Refusal:
        """A job's file of metrics; empty where there is none yet."""
        url = job.metrics_file_signed_url
        if f"/{DPO.collection}/" in job.name:
            told = self._api.look(f"v1/{job.name}:getMetricsFileEndpoint")
            if isinstance(told, Refusal):
                return b"" if is_missing(told) else told
            url = self._api.typed(answers.SignedUrls, told).signed_url
        found = self._api.fetch(url) if url else b""
        return b"" if isinstance(found, Refusal) and found.status == 404 else found
