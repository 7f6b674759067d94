"""The files of a server of OpenAI's shape: what is uploaded, and what comes of a job."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.datastructures import UploadFile
from starlette.responses import JSONResponse, Response

from api_worker.sandbox import openai_shapes as shapes
from api_worker.sandbox.openai_files import examine_marked, examine_plain
from api_worker.sandbox.pages import page_of
from api_worker.sandbox.refusals import Refused
from api_worker.sandbox.remote_job import Phase, SandboxJob
from api_worker.sandbox.state import new_id

if TYPE_CHECKING:
    from starlette.requests import Request

    from api_worker.sandbox.desk import Desk
    from api_worker.sandbox.openai_orders import Flavour
    from api_worker.sandbox.state import SandboxFile


@dataclass(frozen=True)
class FileRoutes:
    """The handlers."""

    desk: Desk
    flavour: Flavour

    async def upload(self, request: Request) -> Response:
        async with request.form() as form:
            sent, purpose = form.get("file"), form.get("purpose")
            if not isinstance(sent, UploadFile):
                raise Refused(400, "'file' is a required property", param="file")
            content, name = await sent.read(), sent.filename or "upload.jsonl"
        if purpose != "fine-tune":
            raise Refused(400, f"'{purpose}' is no purpose that the sandbox serves; use 'fine-tune'", param="purpose")
        examine = examine_marked if self.flavour.needs_byte_order_mark else examine_plain
        return JSONResponse(self._object(await self.desk.keep_file(new_id("file"), name, content, examine)))

    async def listed(self, request: Request) -> Response:
        items, more = page_of(list(map(self._object, self.desk.files())), request, default=10_000, most=10_000)
        return JSONResponse(shapes.list_object(items, more=more, ends=True))

    async def retrieve(self, request: Request) -> Response:
        file = self.desk.file(request.path_params["file_id"])
        if file is not None:
            return JSONResponse(self._object(file))
        return JSONResponse(shapes.result_file_object(self._job_of_result(request)))

    async def delete(self, request: Request) -> Response:
        file = self.desk.file(request.path_params["file_id"])
        if file is None:
            raise _not_there(request)
        self.desk.state.delete_file(file.id)
        return JSONResponse({"id": file.id, "object": "file", "deleted": True})

    async def content(self, request: Request) -> Response:
        file = self.desk.file(request.path_params["file_id"])
        if file is not None:
            content = self.desk.state.content_path(file.id).read_bytes()
        else:
            content = shapes.result_csv(self._job_of_result(request))
        return Response(content, media_type="application/octet-stream")

    def _object(self, file: SandboxFile) -> dict[str, Any]:
        return shapes.file_object(file, time.time(), tells_status=self.flavour.tells_file_status)

    def _job_of_result(self, request: Request) -> SandboxJob:
        now = time.time()
        for job in self.desk.jobs(now):
            if shapes.result_file(job) == request.path_params["file_id"] and job.phase(now) == Phase.SUCCEEDED:
                return job
        raise _not_there(request)


def _not_there(request: Request) -> Refused:
    file_id = request.path_params["file_id"]
    return Refused(404, f"There is no file {file_id}.", code="file_not_found", param="file_id")
