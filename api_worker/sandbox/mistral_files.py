"""Mistral's files, and what is wrong with an example in one.

Covered of its checks: keys, roles, content, weights, an answer at the end, ids of tool calls. Not covered: the order of
turns, the size of a validation file.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from starlette.datastructures import UploadFile
from starlette.responses import JSONResponse, Response

from api_worker.sandbox import mistral_shapes as shapes
from api_worker.sandbox.chat_rows import ChatRules, chat_problem
from api_worker.sandbox.refusals import Refused
from api_worker.sandbox.training_files import TrainingFile, examine

if TYPE_CHECKING:
    from starlette.requests import Request

    from api_worker.sandbox.desk import Desk
    from api_worker.sandbox.state import SandboxFile

RULES = ChatRules(
    example_keys=frozenset({"messages", "tools"}),
    message_keys=frozenset({"role", "content", "name", "weight", "tool_calls", "tool_call_id", "prefix"}),
    roles=frozenset({"system", "user", "assistant", "tool"}),
)
CALL_ID_LENGTH = 9


@dataclass(frozen=True)
class FileRoutes:
    """The handlers."""

    desk: Desk

    async def upload(self, request: Request) -> Response:
        """Keep a file; one with the name and the content of another is that one."""
        async with request.form() as form:
            sent, purpose = form.get("file"), form.get("purpose", "fine-tune")
            if not isinstance(sent, UploadFile):
                raise Refused(422, "Field required", param="file")
            content, name = await sent.read(), sent.filename or "upload.jsonl"
        if purpose != "fine-tune":
            raise Refused(422, f"The sandbox serves no purpose '{purpose}', only 'fine-tune'.", param="purpose")
        if not name.endswith(".jsonl"):
            raise Refused(422, "Only .jsonl files are served for fine-tuning.", param="file")
        digest = hashlib.sha256(content).hexdigest()
        known = next((file for file in self.desk.files() if (file.filename, file.sha256) == (name, digest)), None)
        file = known or await self.desk.keep_file(str(uuid4()), name, content, look)
        return JSONResponse(shapes.file_object(file))

    async def listed(self, _: Request) -> Response:
        files = [shapes.file_object(file) for file in self.desk.files()]
        return JSONResponse({"data": files, "object": "list", "total": len(files)})

    async def retrieve(self, request: Request) -> Response:
        return JSONResponse({**shapes.file_object(self._file(request)), "deleted": False})

    async def delete(self, request: Request) -> Response:
        file = self._file(request)
        self.desk.state.delete_file(file.id)
        return JSONResponse({"id": file.id, "object": "file", "deleted": True})

    async def content(self, request: Request) -> Response:
        content = self.desk.state.content_path(self._file(request).id).read_bytes()
        return Response(content, media_type="application/octet-stream")

    def _file(self, request: Request) -> SandboxFile:
        file = self.desk.file(request.path_params["file_id"])
        if file is None:
            raise Refused(404, f"No file matches the id {request.path_params['file_id']}.")
        return file


def look(content: bytes) -> TrainingFile:
    """Look through a file as Mistral does."""
    return examine(content, judge)


def judge(example: dict[str, Any]) -> tuple[str, str | None]:
    """A chat example's format and fault."""
    return "instruct", chat_problem(example, RULES) or _ids_problem(example["messages"])


def _ids_problem(messages: list[dict[str, Any]]) -> str | None:
    calls = [call["id"] for message in messages for call in message.get("tool_calls") or ()]
    wrong = next((name for name in calls if len(name) != CALL_ID_LENGTH), None)
    return (
        None if wrong is None else f'has a tool call with the id "{wrong}", which has not {CALL_ID_LENGTH} characters.'
    )
