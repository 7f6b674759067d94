"""Together's files, fine-tunes, prices and models."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from starlette.responses import JSONResponse, Response

from api_worker.sandbox import together_shapes as shapes
from api_worker.sandbox.fields import read_body, text_in
from api_worker.sandbox.refusals import Denial, Refused
from api_worker.sandbox.remote_job import Phase
from api_worker.sandbox.together_files import CONVERSATION, PREFERENCE, FileRoutes
from api_worker.sandbox.together_orders import MODELS, key_of, read_plan
from api_worker.sandbox.vendor import Entry, Vendor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request

    from api_worker.sandbox.desk import Desk
    from api_worker.sandbox.remote_job import SandboxJob
    from api_worker.sandbox.state import SandboxFile

# How Together says these is not documented, but for the status 402. The sentences are ours.
DENIALS = {
    "402": Denial(402, "The account has reached its monthly spending limit.", "insufficient_balance"),
    "quota": Denial(402, "The account has reached its monthly spending limit.", "insufficient_balance"),
    "slot": Denial(429, "The account already runs as many fine-tuning jobs as it may at once."),
}
UNREADY = {"RUNNING": "not_validated", "INVALID_FORMAT": "invalid", "FAILED": "invalid"}  # a file, for an estimate


@dataclass(frozen=True)
class JobRoutes:
    """The handlers of jobs."""

    desk: Desk

    async def create(self, request: Request) -> Response:
        plan = read_plan(read_body(await request.body()), self.desk.models, self.desk.vendor.new_job_id())
        training = self._needed_file(plan.training_file, "training_file")
        if plan.validation_file is not None:
            self._needed_file(plan.validation_file, "validation_file")
        if plan.method == "sft" and training.format == PREFERENCE:  # any other would do
            plan = replace(plan, format=CONVERSATION)
        return JSONResponse(shapes.listed_job(self.desk.create(plan), time.time()))

    async def listed(self, _: Request) -> Response:
        now = time.time()
        return JSONResponse({"data": [shapes.listed_job(job, now) for job in self.desk.listed_jobs(now)]})

    async def retrieve(self, request: Request) -> Response:
        return JSONResponse(shapes.job_object(self._job(request), time.time()))

    async def cancel(self, request: Request) -> Response:
        job, now = self._job(request), time.time()
        if job.finished_at(now) is not None or job.phase(now) == Phase.CANCELLING:
            raise Refused(400, f"Job {job.id} is {shapes.word_of(job, now)} and cannot be cancelled.")
        return JSONResponse(shapes.listed_job(self.desk.cancel(job), time.time()))

    async def events(self, request: Request) -> Response:
        return JSONResponse({"data": shapes.job_events(self._job(request), time.time())})

    async def checkpoints(self, request: Request) -> Response:
        return JSONResponse(shapes.checkpoints(self._job(request), time.time()))

    async def metrics(self, request: Request) -> Response:
        since = request.query_params.get("logged_at_from")
        try:
            at = datetime.fromisoformat(since).astimezone(UTC).timestamp() if since else 0.0
        except ValueError:
            raise Refused(400, "'logged_at_from' must be a moment.", param="logged_at_from") from None
        return JSONResponse(shapes.metrics(self._job(request), time.time(), since=at))

    async def estimate(self, request: Request) -> Response:
        asked, now = read_body(await request.body()), time.time()
        plan = read_plan(asked, self.desk.models, "")
        training = self._needed_file(plan.training_file, "training_file")
        validation = self._needed_file(plan.validation_file, "validation_file") if plan.validation_file else None
        for name, file in (("train", training), ("eval", validation)):
            unready = UNREADY.get(shapes.processing_status(file, now)) if file else None
            if unready:
                return JSONResponse({"estimation_available": False, "unavailable_reason": f"{name}_file_{unready}"})
        return JSONResponse(shapes.estimate(training, validation, plan.epochs, plan.asked["n_evals"]))

    def _needed_file(self, file_id: str, param: str) -> SandboxFile:
        file = self.desk.file(file_id)
        if file is None:
            raise Refused(400, f"There is no file {file_id}.", param=param)
        return file

    def _job(self, request: Request) -> SandboxJob:
        job_id = request.path_params["job_id"]
        job = self.desk.job(job_id)
        if job is None:
            raise Refused(404, f"There is no fine-tune {job_id}.", param="id")
        return job


@dataclass(frozen=True)
class ModelRoutes:
    """The handlers of what can be tuned."""

    desk: Desk

    async def supported(self, _: Request) -> Response:
        return JSONResponse({"models": list(self.desk.models)})

    async def limits(self, request: Request) -> Response:
        model = text_in(dict(request.query_params), "model_name") or ""
        if model not in self.desk.models:
            raise Refused(404, f"Model {model} is not available for fine-tuning.", param="model_name")
        return JSONResponse(shapes.model_limits(model))


def _entries(desk: Desk) -> Iterable[Entry]:
    files, jobs, models = FileRoutes(desk), JobRoutes(desk), ModelRoutes(desk)
    one = "/fine-tunes/{job_id}"
    yield Entry("POST", "/files", "upload", files.reserve)
    yield Entry("GET", "/files", "files", files.listed)
    yield Entry("GET", "/files/{file_id}", "files", files.retrieve)
    yield Entry("DELETE", "/files/{file_id}", "files", files.delete)
    yield Entry("PUT", "/files/{file_id}/content", "content", files.put, is_signed=True)
    yield Entry("GET", "/files/{file_id}/content", "content", files.content)
    yield Entry("POST", "/files/{file_id}/preprocess", "content", files.retrieve)
    yield Entry("GET", "/fine-tunes/models/supported", "models", models.supported)
    yield Entry("GET", "/fine-tunes/models/limits", "limits", models.limits)
    yield Entry("POST", "/fine-tunes/estimate-price", "estimate", jobs.estimate)
    yield Entry("POST", "/fine-tunes", "create", jobs.create)
    yield Entry("GET", "/fine-tunes", "list", jobs.listed)
    yield Entry("GET", one, "retrieve", jobs.retrieve)
    yield Entry("POST", f"{one}/cancel", "cancel", jobs.cancel)
    yield Entry("GET", f"{one}/events", "events", jobs.events)
    yield Entry("GET", f"{one}/checkpoints", "checkpoints", jobs.checkpoints)
    yield Entry("GET", f"{one}/metrics", "metrics", jobs.metrics)


def _key_of(_: Request, body: dict[str, Any]) -> str:
    return key_of(body)


VENDOR = Vendor(
    name="together",
    prefix="/together/v1",
    words=shapes.WORDS,
    entries=_entries,
    key_of=_key_of,
    error_body=shapes.error_object,
    new_job_id=lambda: f"ft-{uuid4()}",
    denials=DENIALS,
    models=MODELS,
    restarts=True,
)
