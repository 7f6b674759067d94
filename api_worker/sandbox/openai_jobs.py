"""The fine-tuning jobs of a server of OpenAI's shape."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from api_worker.sandbox import openai_shapes as shapes
from api_worker.sandbox.fields import read_body
from api_worker.sandbox.openai_orders import read_plan
from api_worker.sandbox.pages import page_of
from api_worker.sandbox.refusals import Refused
from api_worker.sandbox.remote_job import Phase

if TYPE_CHECKING:
    from starlette.requests import Request

    from api_worker.sandbox.desk import Desk
    from api_worker.sandbox.openai_orders import Flavour
    from api_worker.sandbox.remote_job import SandboxJob


@dataclass(frozen=True)
class JobRoutes:
    """The handlers."""

    desk: Desk
    flavour: Flavour

    async def create(self, request: Request) -> Response:
        desk = self.desk
        plan = read_plan(read_body(await request.body()), desk.models, self.flavour, desk.vendor.new_job_id())
        for param, file_id in (("training_file", plan.training_file), ("validation_file", plan.validation_file)):
            if file_id is not None and desk.file(file_id) is None:
                raise Refused(400, f"There is no file {file_id}.", code="file_not_found", param=param)
        return self._answer(desk.create(plan))

    async def listed(self, request: Request) -> Response:
        now, query = time.time(), request.query_params
        wanted = {name[9:-1]: value for name, value in query.items() if name.startswith("metadata[")}
        jobs = [
            self._object(job, now)
            for job in self.desk.listed_jobs(now)
            if not self.flavour.keeps_metadata or _fits(job.asked["metadata"], wanted, query.get("metadata") == "null")
        ]
        items, more = page_of(jobs, request, default=20, most=100)
        return JSONResponse(shapes.list_object(items, more=more))

    async def retrieve(self, request: Request) -> Response:
        return self._answer(self._job(request))

    async def cancel(self, request: Request) -> Response:
        return self._answer(self.desk.cancel(self._unfinished(request, "cancelled")))

    async def pause(self, request: Request) -> Response:
        job = self._unfinished(request, "paused")
        return self._answer(job if job.paused_at is not None else self.desk.pause(job))

    async def resume(self, request: Request) -> Response:
        job = self._unfinished(request, "resumed")
        if job.paused_at is None:
            raise Refused(400, f"Job {job.id} is not paused.", code="invalid_state")
        return self._answer(self.desk.resume(job))

    async def events(self, request: Request) -> Response:
        events = shapes.job_events(self._job(request), time.time())
        items, more = page_of(events, request, default=20, most=100)
        return JSONResponse(shapes.list_object(items, more=more))

    async def checkpoints(self, request: Request) -> Response:
        checkpoints = shapes.job_checkpoints(self._job(request), time.time())
        items, more = page_of(checkpoints, request, default=10, most=100)
        return JSONResponse(shapes.list_object(items, more=more, ends=True))

    def _answer(self, job: SandboxJob) -> JSONResponse:
        return JSONResponse(self._object(job, time.time()))

    def _object(self, job: SandboxJob, now: float) -> dict[str, Any]:
        shown = shapes.job_object(job, now, self.desk.word(job, now))
        if self.flavour.tells_steps:
            shown |= {"trained_steps": job.step(now), "total_steps": job.steps}
        if self.flavour.suffix_field:
            shown[self.flavour.suffix_field] = job.suffix
        return shown

    def _job(self, request: Request) -> SandboxJob:
        job_id = request.path_params["job_id"]
        job = self.desk.job(job_id)
        if job is None:
            raise Refused(404, f"Could not find fine-tune: {job_id}", code="fine_tune_not_found", param="job_id")
        return job

    def _unfinished(self, request: Request, change: str) -> SandboxJob:
        job, now = self._job(request), time.time()
        if job.finished_at(now) is not None or job.phase(now) == Phase.CANCELLING:
            text = f"Job {job.id} is {self.desk.word(job, now)} and can no longer be {change}."
            raise Refused(400, text, code="invalid_state")
        return job


def _fits(metadata: dict[str, str], wanted: dict[str, str], none: bool) -> bool:
    """Whether a job's metadata are those that a list is narrowed to."""
    return not metadata if none else wanted.items() <= metadata.items()
