"""Fireworks' datasets, jobs, models and accounts, of the one account `sandbox`, and the store behind signed URLs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from starlette.responses import JSONResponse, Response

from api_worker.sandbox import fireworks_shapes as shapes
from api_worker.sandbox.fireworks_datasets import DatasetRoutes
from api_worker.sandbox.fireworks_jobs import DPO, SFT, JobRoutes, key_of, page_of
from api_worker.sandbox.refusals import Refused
from api_worker.sandbox.remote_job import Phase, Reason
from api_worker.sandbox.vendor import Entry, Vendor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request

    from api_worker.sandbox.desk import Desk


@dataclass(frozen=True)
class AccountRoutes:
    """The handlers."""

    desk: Desk

    async def account(self, _: Request) -> Response:
        """The account, which is suspended once a fault has said so."""
        now, committed = time.time(), self.desk.faults.committed
        broke = any(name.startswith("create:quota") or name.startswith("upload:quota") for name in committed) or any(
            job.failure and job.failure.reason == Reason.QUOTA and job.phase(now) == Phase.FAILED
            for job in self.desk.jobs(now)
        )
        state = "MONTHLY_SPEND_LIMIT_EXCEEDED" if broke else "UNSUSPENDED"
        told = {"name": shapes.ACCOUNT, "email": "nobody@sandbox.invalid", "state": "READY", "suspendState": state}
        return JSONResponse(told)

    async def elsewhere(self, request: Request) -> Response:
        said = f"{request.url.path} not found; the account at the sandbox is {shapes.ACCOUNT}"
        raise Refused(404, said, code="NOT_FOUND")

    async def base_models(self, request: Request) -> Response:
        return JSONResponse(page_of("models", [*map(shapes.base_model_object, self.desk.models)], request))

    async def tuned_models(self, request: Request) -> Response:
        now = time.time()
        made = [job for job in self.desk.jobs(now) if job.phase(now) == Phase.SUCCEEDED]
        return JSONResponse(page_of("models", [*map(shapes.tuned_model_object, made)], request))


def _entries(desk: Desk) -> Iterable[Entry]:
    accounts, datasets = AccountRoutes(desk), DatasetRoutes(desk)
    account, one = f"/v1/{shapes.ACCOUNT}", f"/v1/{shapes.ACCOUNT}/datasets/{{dataset}}"
    yield Entry("GET", account, "limits", accounts.account)
    yield Entry("GET", f"{account}/models", "models", accounts.tuned_models)
    yield Entry("GET", f"/v1/{shapes.VENDOR_MODELS}", "models", accounts.base_models)
    yield Entry("POST", f"{account}/datasets", "files", datasets.create)
    yield Entry("POST", f"{one}:upload", "upload", datasets.upload)
    yield Entry("POST", f"{one}:getUploadEndpoint", "files", datasets.sign)
    yield Entry("PUT", "/store/datasets/{dataset}/{filename}", "upload", datasets.put, is_signed=True)
    yield Entry("POST", f"{one}:validateUpload", "files", datasets.validate)
    yield Entry("GET", one, "files", datasets.retrieve)
    for kind in (SFT, DPO):
        jobs, many = JobRoutes(desk, kind), f"{account}/{kind.collection}"
        yield Entry("POST", many, "create", jobs.create)
        yield Entry("GET", many, "list", jobs.listed)
        yield Entry("POST", f"{many}/{{job_id}}:cancel", "cancel", jobs.cancel)
        yield Entry("GET", f"{many}/{{job_id}}:getMetricsFileEndpoint", "metrics", jobs.metrics_endpoint)
        yield Entry("GET", f"{many}/{{job_id}}", "retrieve", jobs.retrieve)
        yield Entry("GET", f"/store/{kind.collection}/{{job_id}}", "metrics", jobs.metrics, is_signed=True)
    for method in ("GET", "POST"):
        yield Entry(method, "/v1/{rest:path}", "limits", accounts.elsewhere)


VENDOR = Vendor(
    name="fireworks",
    prefix="/fireworks",
    words=shapes.WORDS,
    entries=_entries,
    key_of=key_of,
    error_body=shapes.error_object,
    new_job_id=lambda: str(uuid4()),
    denials=shapes.DENIALS,
    models=("sandbox-base", "qwen3-8b"),
    min_examples=3,
)
