"""Together's files: what its client sends in three steps, and what is found in them.

Covered of its checks: the format of every example and that all have one, keys, roles, content, weights, an answer.
Not covered: turns that alternate, images, Parquet's columns.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from starlette.responses import JSONResponse, Response

from api_worker.sandbox import together_shapes as shapes
from api_worker.sandbox.chat_rows import (
    EXAMPLE_KEYS,
    MESSAGE_KEYS,
    ChatRules,
    chat_problem,
    input_problem,
    messages_problem,
)
from api_worker.sandbox.refusals import Refused
from api_worker.sandbox.training_files import TrainingFile, examine

if TYPE_CHECKING:
    from starlette.requests import Request

    from api_worker.sandbox.desk import Desk
    from api_worker.sandbox.state import SandboxFile

CONVERSATION, INSTRUCTION, GENERAL, PREFERENCE = "CONVERSATION", "INSTRUCTION", "GENERAL", "PREFERENCE_OPENAI"
FILE_TYPES = ("jsonl", "parquet", "csv")
RULES = ChatRules(
    example_keys=EXAMPLE_KEYS | {"weight"},
    message_keys=MESSAGE_KEYS | {"reasoning", "reasoning_content"},
    roles=frozenset({"system", "user", "assistant", "tool"}),
)
TEXTS = {INSTRUCTION: ("prompt", "completion"), GENERAL: ("text",)}


@dataclass(frozen=True)
class FileRoutes:
    """The handlers. Who wants to send a file asks where to; the answer holds all that the next request needs."""

    desk: Desk

    async def reserve(self, request: Request) -> Response:
        async with request.form() as form:
            asked = {name: str(form.get(name) or "") for name in ("purpose", "file_name", "file_type", "checksum")}
        for name, value in asked.items():
            if not value:
                raise Refused(400, f"Missing required field: '{name}'.", param=name)
        if asked["file_type"] not in FILE_TYPES:
            raise Refused(400, f"'file_type' must be one of {', '.join(FILE_TYPES)}.", param="file_type")
        for file in self.desk.files():
            if file.sha256 == asked["checksum"]:
                return JSONResponse({"message": "The file is already there.", "file_id": file.id}, 409)
        file_id = f"file-{uuid4()}"
        query = {"file_name": asked["file_name"], "checksum": asked["checksum"]}
        place = request.url.replace(path=f"{request.url.path}/{file_id}/content", query="").include_query_params(
            **query
        )
        return Response(status_code=302, headers={"Location": str(place), "X-Together-File-Id": file_id})

    async def put(self, request: Request) -> Response:
        content, query = await request.body(), request.query_params
        if hashlib.sha256(content).hexdigest() != query.get("checksum"):
            raise Refused(400, "The content does not have the checksum that was announced.", param="checksum")
        await self.desk.keep_file(request.path_params["file_id"], query.get("file_name", "upload.jsonl"), content, look)
        return Response(status_code=200)

    async def retrieve(self, request: Request) -> Response:
        """What is known of a file; also the answer to the request to look through it, which has begun by itself."""
        return JSONResponse(shapes.file_object(self._file(request), time.time()))

    async def listed(self, _: Request) -> Response:
        now = time.time()
        return JSONResponse({"data": [shapes.file_object(file, now) for file in self.desk.files()]})

    async def delete(self, request: Request) -> Response:
        file = self._file(request)
        self.desk.state.delete_file(file.id)
        return JSONResponse({"id": file.id, "deleted": True})

    async def content(self, request: Request) -> Response:
        content = self.desk.state.content_path(self._file(request).id).read_bytes()
        return Response(content, media_type="application/octet-stream")

    def _file(self, request: Request) -> SandboxFile:
        file = self.desk.file(request.path_params["file_id"])
        if file is None:
            raise Refused(404, f"There is no file {request.path_params['file_id']}.", param="id")
        return file


def look(content: bytes) -> TrainingFile:
    """Look through a file as Together does."""
    return examine(content, judge)


def judge(example: dict[str, Any]) -> tuple[str, str | None]:
    """An example's format and fault."""
    if "messages" in example:
        return CONVERSATION, chat_problem(example, RULES) or _weight_problem(example)
    if "input" in example or "preferred_output" in example:
        return PREFERENCE, _preference_problem(example)
    for kind, names in TEXTS.items():
        if names[0] in example:
            wrong = next((name for name in names if not isinstance(example.get(name), str) or not example[name]), None)
            return kind, f'has no text "{wrong}".' if wrong else None
    return "", 'has none of "messages", "input", "prompt" and "text".'


def _weight_problem(example: dict[str, Any]) -> str | None:
    weight = example.get("weight", 1)
    fits = type(weight) in (int, float) and weight >= 0
    return None if fits else 'has a "weight" that is no number from 0.'


def _preference_problem(example: dict[str, Any]) -> str | None:
    problem = input_problem(example, RULES)
    if problem:
        return problem
    for name in ("preferred_output", "non_preferred_output"):
        output = example.get(name)
        if not isinstance(output, list) or len(output) != 1:
            return f'must have one message in "{name}".'
        problem = messages_problem(output, RULES)
        if problem or output[0]["role"] != "assistant":
            return f'has a bad "{name}": {problem or "it is not from the assistant."}'
    return None
