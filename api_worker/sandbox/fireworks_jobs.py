"""Fireworks' jobs, supervised and by DPO, each in a collection of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from starlette.responses import JSONResponse, Response

from api_worker.sandbox import fireworks_shapes as shapes
from api_worker.sandbox.fields import needed_text, number_in, object_in, read_body, text_in, whole_in
from api_worker.sandbox.fireworks_datasets import checked_id
from api_worker.sandbox.openai_files import CHAT, PREFERENCE
from api_worker.sandbox.refusals import Refused
from api_worker.sandbox.remote_job import Plan

if TYPE_CHECKING:
    from starlette.requests import Request

    from api_worker.sandbox.desk import Desk
    from api_worker.sandbox.remote_job import SandboxJob

MOST = 200  # of a page


@dataclass(frozen=True)
class Kind:
    """A collection of jobs."""

    method: str
    collection: str
    id_parameter: str
    format: str


SFT = Kind("sft", "supervisedFineTuningJobs", "supervisedFineTuningJobId", CHAT)
DPO = Kind("dpo", "dpoJobs", "dpoJobId", PREFERENCE)


def key_of(request: Request, _: dict[str, Any]) -> str:
    """The submission key in a create: the id that the client has chosen."""
    query = request.query_params
    return query.get(SFT.id_parameter) or query.get(DPO.id_parameter) or ""


@dataclass(frozen=True)
class JobRoutes:
    """The handlers of one collection."""

    desk: Desk
    kind: Kind

    async def create(self, request: Request) -> Response:
        key, asked = key_of(request, {}), read_body(await request.body())
        job_id = checked_id(key) if key else str(uuid4())
        if job_id in self.desk.state.jobs:
            raise Refused(409, f"job {job_id} already exists", code="ALREADY_EXISTS")
        config = object_in(asked, "trainingConfig") if self.kind is DPO else asked
        plan = Plan(
            id=job_id,
            key=key,
            model=self._model(needed_text(config, "baseModel")),
            training_file=self._dataset(needed_text(asked, "dataset")),
            validation_file=self._dataset(name) if (name := text_in(asked, "evaluationDataset")) else None,
            method=self.kind.method,
            format=self.kind.format,
            epochs=whole_in(config, "epochs", 1, 100) or 1,
            asked={
                "displayName": text_in(asked, "displayName") or "",
                "config": _config(config, job_id),
                "lossConfig": object_in(asked, "lossConfig"),
            },
        )
        return self._answer(request, self.desk.create(plan))

    async def listed(self, request: Request) -> Response:
        now = time.time()
        jobs = [job for job in self.desk.listed_jobs(now) if job.method == self.kind.method]
        shown = [self._object(request, job, now) for job in sorted(jobs, key=lambda job: job.id)]
        return JSONResponse(page_of(self.kind.collection, shown, request))

    async def retrieve(self, request: Request) -> Response:
        return self._answer(request, self._job(request))

    async def cancel(self, request: Request) -> Response:
        job = self._job(request)
        if job.finished_at(time.time()) is not None:
            raise Refused(400, f"job {job.id} has ended", code="FAILED_PRECONDITION")
        if job.cancel_asked_at is None:
            self.desk.cancel(job)
        return JSONResponse({})

    async def metrics_endpoint(self, request: Request) -> Response:
        return JSONResponse({"signedUrl": self._metrics_url(request, self._job(request))})

    async def metrics(self, request: Request) -> Response:
        """The store; there is nothing in it before the first step."""
        lines = shapes.metrics_lines(self._job(request), time.time())
        if not lines:
            return Response("<Error>NoSuchKey</Error>", 404, media_type="application/xml")
        return Response(lines, media_type="application/octet-stream")

    def _answer(self, request: Request, job: SandboxJob) -> JSONResponse:
        return JSONResponse(self._object(request, job, time.time()))

    def _object(self, request: Request, job: SandboxJob, now: float) -> dict[str, Any]:
        return shapes.job_object(job, now, self.desk.word(job, now), self._metrics_url(request, job))

    def _metrics_url(self, request: Request, job: SandboxJob) -> str:
        path = f"{self.desk.vendor.prefix}/store/{self.kind.collection}/{job.id}"
        return str(request.url.replace(path=path, query="signature=sandbox"))

    def _job(self, request: Request) -> SandboxJob:
        job = self.desk.job(request.path_params["job_id"])
        if job is None or job.method != self.kind.method:
            raise Refused(404, f"job {request.path_params['job_id']} not found", code="NOT_FOUND")
        return job

    def _model(self, name: str) -> str:
        known = {shapes.base_model_object(model)["name"] for model in self.desk.models}
        if name not in known:
            raise Refused(404, f"model {name} not found", code="NOT_FOUND")
        return name

    def _dataset(self, name: str) -> str:
        dataset = name.removeprefix(f"{shapes.ACCOUNT}/datasets/")
        file = self.desk.file(dataset)
        if file is None:
            raise Refused(404, f"dataset {name} not found", code="NOT_FOUND")
        if time.time() < file.ready_at:
            raise Refused(400, f"dataset {name} is not READY", code="FAILED_PRECONDITION")
        return dataset


def _config(asked: dict[str, Any], job_id: str) -> dict[str, Any]:
    """What is asked of the training, within limits, as the job repeats it."""
    output = text_in(asked, "outputModel") or job_id
    name = checked_id(output.removeprefix(f"{shapes.ACCOUNT}/models/"))
    read = {
        "outputModel": f"{shapes.ACCOUNT}/models/{name}",
        "learningRate": number_in(asked, "learningRate", above=0),
        "loraRank": whole_in(asked, "loraRank", 0, 1024),
        "batchSizeSamples": whole_in(asked, "batchSizeSamples", 1, 4096),
    }
    return {name: value for name, value in read.items() if value is not None}


def page_of(field: str, items: list[dict[str, Any]], request: Request) -> dict[str, Any]:
    """The page that is asked for; its token is its number."""
    query = request.query_params
    if query.get("filter") or query.get("orderBy"):
        raise Refused(400, "The sandbox rehearses neither filter nor orderBy.")
    size, token = query.get("pageSize", "50"), query.get("pageToken", "0")
    if not (size.isdecimal() and token.isdecimal() and int(size)):
        raise Refused(400, "pageSize and pageToken must be whole numbers.")
    start = int(token) * min(int(size), MOST)
    end = start + min(int(size), MOST)
    following = str(int(token) + 1) if end < len(items) else ""
    return {field: items[start:end], "nextPageToken": following, "totalSize": len(items)}
