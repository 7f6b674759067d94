"""OpenAI's files, fine-tuning, models and chat routes, on the sandbox's state."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import JSONResponse, Response

from api_worker.sandbox import openai_shapes as shapes
from api_worker.sandbox.orders import DEFAULT_MODELS, Order, read_body, read_order
from api_worker.sandbox.pages import page_of
from api_worker.sandbox.refusals import Refused
from api_worker.sandbox.remote_job import Pace, SandboxJob
from api_worker.sandbox.state import SandboxFile, SandboxState, new_id
from api_worker.sandbox.training_files import examine

if TYPE_CHECKING:
    from starlette.requests import Request

    from api_worker.sandbox.faults import Faults

MIB = 1024 * 1024


@dataclass(frozen=True)
class Rules:
    """The sandbox's pace and limits."""

    pace: Pace = field(default_factory=Pace)
    max_concurrent: int | None = None  # unfinished jobs; one more is refused with 429
    min_examples: int = 10
    max_file_mib: float = 512
    models: tuple[str, ...] = DEFAULT_MODELS


@dataclass(frozen=True)
class OpenAIRoutes:
    """The handlers. Whatever reads and then writes the state does so without awaiting in between."""

    state: SandboxState
    rules: Rules
    faults: Faults

    # -- files ----------------------------------------------------------------------------------------------------

    async def upload(self, request: Request) -> Response:
        async with request.form() as form:
            sent, purpose = form.get("file"), form.get("purpose")
            if not isinstance(sent, UploadFile):
                raise Refused(400, "'file' is a required property", param="file")
            content, name = await sent.read(), sent.filename or "upload.jsonl"
        if purpose != "fine-tune":
            raise Refused(400, f"'{purpose}' is no purpose that the sandbox serves; use 'fine-tune'", param="purpose")
        if len(content) > self.rules.max_file_mib * MIB:
            raise Refused(413, f"The file is larger than {self.rules.max_file_mib:g} MiB.", param="file")
        found = await run_in_threadpool(examine, content)
        file = SandboxFile(new_id("file"), time.time(), name, len(content), found.examples, found.problem)
        self.state.keep_file(file, content)
        return JSONResponse(shapes.file_object(file))

    async def list_files(self, request: Request) -> Response:
        files = sorted(self.state.files.values(), key=lambda file: file.created_at, reverse=True)
        items, more = page_of([shapes.file_object(file) for file in files], request, default=10_000, most=10_000)
        return JSONResponse(shapes.list_object(items, more=more, ends=True))

    async def retrieve_file(self, request: Request) -> Response:
        file_id = request.path_params["file_id"]
        if file_id in self.state.files:
            return JSONResponse(shapes.file_object(self.state.files[file_id]))
        return JSONResponse(shapes.result_file_object(self._job_of_result(file_id)))

    async def delete_file(self, request: Request) -> Response:
        file = self._file(request.path_params["file_id"], "file_id")
        self.state.delete_file(file.id)
        return JSONResponse({"id": file.id, "object": "file", "deleted": True})

    async def file_content(self, request: Request) -> Response:
        file_id = request.path_params["file_id"]
        if file_id in self.state.files:
            content = self.state.content_path(file_id).read_bytes()
            return Response(content, media_type="application/octet-stream")
        content = shapes.result_csv(self._job_of_result(file_id))
        return Response(content, media_type="application/octet-stream")

    # -- jobs -----------------------------------------------------------------------------------------------------

    async def create_job(self, request: Request) -> Response:
        order = read_order(await request.body(), self.rules.models)
        now = time.time()
        training = self._file(order.training_file, "training_file")
        validation = self._file(order.validation_file, "validation_file") if order.validation_file else None
        limit = self.rules.max_concurrent
        if limit is not None and self.state.unfinished(now) >= limit:
            text = f"The account already has {limit} unfinished fine-tuning jobs, which is its limit."
            raise Refused(429, text, code="rate_limit_exceeded")
        job = self._job(order, now, training, validation)
        self.state.create_job(job)
        return JSONResponse(shapes.job_object(job, now))

    def _job(self, order: Order, now: float, training: SandboxFile, validation: SandboxFile | None) -> SandboxJob:
        return SandboxJob(
            id=new_id("ftjob"),
            created_at=now,
            model=order.model,
            training_file=training.id,
            validation_file=validation.id if validation else None,
            epochs=order.epochs or 3,
            seed=order.seed,
            suffix=order.suffix,
            metadata=order.metadata,
            examples=training.examples,
            pace=self.rules.pace,
            error=self._what_validation_finds(training, validation),
        )

    def _what_validation_finds(self, training: SandboxFile, validation: SandboxFile | None) -> dict[str, Any] | None:
        for name, file in (("training", training), ("validation", validation)):
            if file is not None and file.problem:
                text = f"The job failed due to a file format error in the {name} file. {file.problem}"
                return {"code": "invalid_file_format", "message": text, "param": f"{name}_file"}
        least = self.rules.min_examples
        if training.examples < least:
            text = f"The training file has {training.examples} examples; it must have at least {least}."
            return {"code": "invalid_n_examples", "message": text, "param": "training_file"}
        return None

    async def list_jobs(self, request: Request) -> Response:
        now = time.time()
        wanted = {name[9:-1]: value for name, value in request.query_params.items() if name.startswith("metadata[")}
        shown_until = now - self.faults.seconds("list", "lag")
        jobs = [
            shapes.job_object(job, now)
            for job in self.state.newest_jobs()
            if job.created_at <= shown_until and wanted.items() <= job.metadata.items()
            if request.query_params.get("metadata") != "null" or not job.metadata
        ]
        items, more = page_of(jobs, request, default=20, most=100)
        return JSONResponse(shapes.list_object(items, more=more))

    async def retrieve_job(self, request: Request) -> Response:
        return JSONResponse(shapes.job_object(self._requested(request), time.time()))

    async def cancel_job(self, request: Request) -> Response:
        now, job = time.time(), self._requested(request)
        if job.finished_at(now) is not None:
            text = f"Job {job.id} is {job.status(now)} and can no longer be cancelled."
            raise Refused(400, text, code="invalid_state")
        return JSONResponse(shapes.job_object(self.state.cancel_job(job.id), time.time()))

    async def job_events(self, request: Request) -> Response:
        events = shapes.job_events(self._requested(request), time.time())
        items, more = page_of(events, request, default=20, most=100)
        return JSONResponse(shapes.list_object(items, more=more))

    async def job_checkpoints(self, request: Request) -> Response:
        checkpoints = shapes.job_checkpoints(self._requested(request), time.time())
        items, more = page_of(checkpoints, request, default=10, most=100)
        return JSONResponse(shapes.list_object(items, more=more, ends=True))

    # -- models ---------------------------------------------------------------------------------------------------

    async def list_models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": self._models()})

    async def retrieve_model(self, request: Request) -> Response:
        return JSONResponse(self._model(request.path_params["model"]))

    async def chat(self, request: Request) -> Response:
        body = read_body(await request.body())
        if body.get("stream"):
            raise Refused(400, "The sandbox has nothing to stream; ask without 'stream'.", param="stream")
        model = self._model(str(body.get("model")))
        return JSONResponse(shapes.completion_object(model["id"], new_id("chatcmpl"), time.time()))

    def _models(self) -> list[dict[str, Any]]:
        now = time.time()
        tuned = [job for job in self.state.newest_jobs() if job.status(now) == "succeeded"]
        return [
            *(shapes.model_object(name, 0) for name in self.rules.models),
            *(shapes.model_object(job.tuned_model, job.ends_at) for job in tuned),
        ]

    def _model(self, name: str) -> dict[str, Any]:
        for model in self._models():
            if model["id"] == name:
                return model
        raise Refused(404, f"The model '{name}' does not exist.", code="model_not_found", param="model")

    # -- what a request names -------------------------------------------------------------------------------------

    def _requested(self, request: Request) -> SandboxJob:
        job_id = request.path_params["job_id"]
        if job_id not in self.state.jobs:
            raise Refused(404, f"Could not find fine-tune: {job_id}", code="fine_tune_not_found", param="job_id")
        return self.state.jobs[job_id]

    def _file(self, file_id: str, param: str) -> SandboxFile:
        if file_id not in self.state.files:
            status = 404 if param == "file_id" else 400
            raise Refused(status, f"There is no file {file_id}.", code="file_not_found", param=param)
        return self.state.files[file_id]

    def _job_of_result(self, file_id: str) -> SandboxJob:
        now = time.time()
        for job in self.state.jobs.values():
            if job.result_file == file_id and job.status(now) == "succeeded":
                return job
        raise Refused(404, f"There is no file {file_id}.", code="file_not_found", param="file_id")
