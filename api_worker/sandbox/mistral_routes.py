"""Mistral's files, fine-tuning jobs and models, as they were before its own cloud closed the jobs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from starlette.responses import JSONResponse, Response

from api_worker.sandbox import mistral_shapes as shapes
from api_worker.sandbox.fields import read_body
from api_worker.sandbox.mistral_files import FileRoutes
from api_worker.sandbox.mistral_orders import MODELS, key_of, read_plan
from api_worker.sandbox.refusals import Denial, Refused
from api_worker.sandbox.remote_job import Phase, Reason
from api_worker.sandbox.vendor import Entry, Vendor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request

    from api_worker.sandbox.desk import Desk
    from api_worker.sandbox.remote_job import Plan, SandboxJob

# How Mistral refuses for want of money or of a slot before a job is made is not documented.
DENIALS = {
    "quota": Denial(402, "The account has no credits left."),
    "slot": Denial(429, shapes.SAID[Reason.SLOT]),
}
FILTERS = ("model", "status", "suffix")
PAGING = {
    "page": "0",
    "page_size": "100",
    "created_by_me": "false",
}  # there is one user, so the last changes nothing
MOST_LISTED = 100


@dataclass(frozen=True)
class JobRoutes:
    """The handlers of jobs."""

    desk: Desk

    async def create(self, request: Request) -> Response:
        plan = read_plan(read_body(await request.body()), self.desk.models, self.desk.vendor.new_job_id())
        for file_id in filter(None, (plan.training_file, plan.validation_file)):
            if self.desk.file(file_id) is None:
                raise Refused(422, f"There is no file {file_id}.", param="training_files")
        if request.query_params.get("dry_run", "false") == "true":
            return JSONResponse(shapes.dry_run(self.desk.state.files[plan.training_file], plan.epochs))
        self._refuse_its_like(plan)
        job = self.desk.create(plan)
        doomed = job.failure is not None and job.failure.phase == Phase.VALIDATING
        if not job.asked["auto_start"] and not doomed:
            job = self.desk.pause(job)
        return JSONResponse(shapes.listed_job(job, time.time()))

    def _refuse_its_like(self, plan: Plan) -> None:
        """Refuse a job like one that has not ended; how like it must be is not documented: here, the same in all."""
        now = time.time()
        for job in self.desk.jobs(now):
            same = all(getattr(job, name) == value for name, value in vars(plan).items() if name != "id")
            if same and job.finished_at(now) is None:
                raise Refused(409, f"A similar job, {job.id}, is already queued, validated or running.")

    async def listed(self, request: Request) -> Response:
        query, now = dict(request.query_params), time.time()
        extra = sorted(set(query) - {*FILTERS, *PAGING})
        if extra:
            raise Refused(422, f"The sandbox does not filter by '{extra[0]}'.", param=extra[0])
        shown = [shapes.listed_job(job, now) for job in self.desk.listed_jobs(now)]
        wanted = {name: query[name] for name in FILTERS if name in query}
        found = [job for job in shown if all(job[name] == value for name, value in wanted.items())]
        page, size = (_whole(query, name) for name in ("page", "page_size"))
        size = min(size, MOST_LISTED)
        answer = {"data": found[page * size : (page + 1) * size], "object": "list", "total": len(found)}
        return JSONResponse(answer)

    async def retrieve(self, request: Request) -> Response:
        return JSONResponse(shapes.job_object(self._job(request), time.time()))

    async def cancel(self, request: Request) -> Response:
        job, now = self._job(request), time.time()
        if job.finished_at(now) is not None or job.phase(now) == Phase.CANCELLING:
            raise Refused(400, f"Job {job.id} is {shapes.word_of(job, now)} and cannot be cancelled.")
        return JSONResponse(shapes.job_object(self.desk.cancel(job), time.time()))

    async def start(self, request: Request) -> Response:
        job, now = self._job(request), time.time()
        if job.phase(now) != Phase.PAUSED:
            raise Refused(400, f"Job {job.id} is {shapes.word_of(job, now)}; only a validated one can be started.")
        return JSONResponse(shapes.job_object(self.desk.resume(job), time.time()))

    def _job(self, request: Request) -> SandboxJob:
        job_id = request.path_params["job_id"]
        job = self.desk.job(job_id)
        if job is None:
            raise Refused(404, f"There is no job {job_id}.")
        return job


@dataclass(frozen=True)
class ModelRoutes:
    """The handlers of what can be tuned, and of what was."""

    desk: Desk

    async def listed(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": self._models()})

    async def retrieve(self, request: Request) -> Response:
        name = request.path_params["model_id"]
        found = next((model for model in self._models() if model["id"] == name), None)
        if found is None:
            raise Refused(404, f"There is no model {name}.")
        return JSONResponse(found)

    def _models(self) -> list[dict[str, Any]]:
        now = time.time()
        tuned = [shapes.fine_tune(job) for job in self.desk.jobs(now) if job.phase(now) == Phase.SUCCEEDED]
        return [*map(shapes.base_model, self.desk.models), *tuned]


def _whole(query: dict[str, str], name: str) -> int:
    value = query.get(name, PAGING[name])
    if not value.isdecimal():
        raise Refused(422, f"'{name}' must be a whole number.", param=name)
    return int(value)


def _entries(desk: Desk) -> Iterable[Entry]:
    files, jobs, models = FileRoutes(desk), JobRoutes(desk), ModelRoutes(desk)
    one, file = "/fine_tuning/jobs/{job_id}", "/files/{file_id}"
    yield Entry("POST", "/files", "upload", files.upload)
    yield Entry("GET", "/files", "files", files.listed)
    yield Entry("GET", file, "files", files.retrieve)
    yield Entry("DELETE", file, "files", files.delete)
    yield Entry("GET", f"{file}/content", "content", files.content)
    yield Entry("POST", "/fine_tuning/jobs", "create", jobs.create)
    yield Entry("GET", "/fine_tuning/jobs", "list", jobs.listed)
    yield Entry("GET", one, "retrieve", jobs.retrieve)
    yield Entry("POST", f"{one}/cancel", "cancel", jobs.cancel)
    yield Entry("POST", f"{one}/start", "start", jobs.start)
    yield Entry("GET", "/models", "models", models.listed)
    yield Entry("GET", "/models/{model_id}", "models", models.retrieve)


def _key_of(_: Request, body: dict[str, Any]) -> str:
    return key_of(body)


VENDOR = Vendor(
    name="mistral",
    prefix="/mistral/v1",
    words=shapes.WORDS,
    entries=_entries,
    key_of=_key_of,
    error_body=shapes.error_object,
    new_job_id=lambda: str(uuid4()),
    denials=DENIALS,
    models=MODELS,
    fails_when_full=True,
)
