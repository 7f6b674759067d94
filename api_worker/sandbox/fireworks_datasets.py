"""Fireworks' datasets: a record first, then its content, in one request or by way of a signed URL.

What is wrong with an example is what OpenAI finds, as files made for OpenAI are taken unchanged. Not covered: the rules
that are Fireworks' own, such as a weight for each example.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.datastructures import UploadFile
from starlette.responses import JSONResponse, Response

from api_worker.sandbox.fields import needed_text, object_in, read_body, text_in
from api_worker.sandbox.fireworks_shapes import dataset_object
from api_worker.sandbox.openai_files import examine_plain
from api_worker.sandbox.refusals import Refused

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

    from api_worker.sandbox.desk import Desk

ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class DatasetRoutes:
    """The handlers. Records are kept in a folder, as a dataset without content is no file yet."""

    desk: Desk

    async def create(self, request: Request) -> Response:
        asked = read_body(await request.body())
        dataset = checked_id(needed_text(asked, "datasetId"))
        record = self._record(dataset)
        if record.exists():
            raise Refused(409, f"dataset {dataset} already exists", code="ALREADY_EXISTS")
        told = {"exampleCount": text_in(object_in(asked, "dataset"), "exampleCount") or "0"}
        record.parent.mkdir(exist_ok=True)
        record.write_text(json.dumps(told), encoding="utf-8")
        return self._answer(dataset)

    async def retrieve(self, request: Request) -> Response:
        return self._answer(self._known(request))

    async def upload(self, request: Request) -> Response:
        dataset = self._known(request)
        async with request.form() as form:
            sent = form.get("file")
            if not isinstance(sent, UploadFile):
                raise Refused(400, "file is required")
            content, name = await sent.read(), sent.filename or "upload.jsonl"
        await self.desk.keep_file(dataset, name, content, examine_plain)
        return JSONResponse({"id": dataset, "object": "file", "bytes": len(content), "filename": name})

    # -- by way of a signed URL -----------------------------------------------------------------------------------

    async def sign(self, request: Request) -> Response:
        dataset, sizes = self._known(request), object_in(read_body(await request.body()), "filenameToSize")
        if len(sizes) != 1:
            raise Refused(400, "The sandbox takes one file a dataset: filenameToSize must name one.")
        name, size = next(iter(sizes.items()))
        path = f"{self.desk.vendor.prefix}/store/datasets/{dataset}/{name}"
        signed = request.url.replace(path=path, query="").include_query_params(size=size, signature="sandbox")
        return JSONResponse({"filenameToSignedUrls": {name: str(signed)}})

    async def put(self, request: Request) -> Response:
        """The store, which takes what was signed for and nothing else."""
        size, content = request.query_params.get("size", ""), await request.body()
        signed = request.headers.get("x-goog-content-length-range") == f"{size},{size}"
        if not signed or str(len(content)) != size:
            return Response("<Error>SignatureDoesNotMatch</Error>", 403, media_type="application/xml")
        self._content(self._known(request)).write_bytes(content)
        return Response(status_code=200)

    async def validate(self, request: Request) -> Response:
        dataset = self._known(request)
        content = self._content(dataset)
        if not content.exists():
            raise Refused(400, f"dataset {dataset} has no content", code="FAILED_PRECONDITION")
        await self.desk.keep_file(dataset, f"{dataset}.jsonl", content.read_bytes(), examine_plain)
        content.unlink(missing_ok=True)
        return JSONResponse({})

    # -- what is there --------------------------------------------------------------------------------------------

    def _answer(self, dataset: str) -> JSONResponse:
        examples = json.loads(self._record(dataset).read_text(encoding="utf-8"))["exampleCount"]
        return JSONResponse(dataset_object(dataset, examples, self.desk.file(dataset), time.time()))

    def _known(self, request: Request) -> str:
        dataset: str = request.path_params["dataset"]
        if not ID.fullmatch(dataset) or not self._record(dataset).exists():
            raise Refused(404, f"dataset {dataset} not found", code="NOT_FOUND")
        return dataset

    def _record(self, dataset: str) -> Path:
        return self.desk.state.folder / "datasets" / f"{dataset}.json"

    def _content(self, dataset: str) -> Path:
        return self.desk.state.folder / "datasets" / f"{dataset}.part"


def checked_id(text: str) -> str:
    """An id that a client has chosen."""
    if not ID.fullmatch(text):
        raise Refused(400, f'"{text}" is no id: 1 to 63 of a-z, 0-9 and "-", and no "-" at an end')
    return text
