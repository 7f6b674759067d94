"""The Hub's dataset repositories, as far as files are committed to one and looked for in it.

Covered: small files inside a commit, large ones sent apart first. Not covered: sending in parts, branches, history.
What is in a file is found out by the container alone, so a bad one is committed all the same.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from api_worker.sandbox import huggingface_shapes as shapes
from api_worker.sandbox.chat_rows import ChatRules, chat_problem
from api_worker.sandbox.fields import needed_text, read_body
from api_worker.sandbox.refusals import Refused
from api_worker.sandbox.training_files import TrainingFile, examine

if TYPE_CHECKING:
    from starlette.requests import Request

    from api_worker.sandbox.desk import Desk

INLINE_BYTES = 10 * 1024**2  # the largest file that may be inside a commit
RULES = ChatRules()


@dataclass(frozen=True)
class FileRoutes:
    """The handlers. What is sent apart is forgotten with the process, if no commit comes for it."""

    desk: Desk
    made: set[str] = field(default_factory=set)  # repositories
    apart: dict[str, bytes] = field(default_factory=dict)  # contents by their SHA-256

    async def create(self, request: Request) -> Response:
        asked = read_body(await request.body())
        name = f"{asked.get('organization') or shapes.OWNER}/{needed_text(asked, 'name')}"
        if asked.get("type") != "dataset" or asked.get("visibility") != "private":
            raise Refused(400, "The sandbox makes private datasets only.")
        if name in self.made or self.desk.files():
            raise Refused(409, "You already created this dataset repo")
        self.made.add(name)
        return JSONResponse({"url": f"{request.base_url}datasets/{name}", "name": name, "id": name})

    async def repository(self, request: Request) -> Response:
        return JSONResponse({"id": "/".join(request.path_params.values()), "private": True})

    async def preupload(self, request: Request) -> Response:
        asked = read_body(await request.body())
        return JSONResponse({"files": [_placed(file) for file in asked.get("files") or ()], "commitOid": "0" * 40})

    async def batch(self, request: Request) -> Response:
        """Where the contents go that are sent apart."""
        root = str(request.base_url).rstrip("/") + self.desk.vendor.prefix
        wanted = read_body(await request.body()).get("objects") or []
        told = [
            {
                "oid": one["oid"],
                "size": one["size"],
                "actions": {
                    "upload": {"href": f"{root}/store/{one['oid']}?signature=sandbox"},
                    "verify": {"href": f"{root}/store/{one['oid']}/verify"},
                },
            }
            for one in wanted
        ]
        return JSONResponse({"transfer": "basic", "objects": told})

    async def put(self, request: Request) -> Response:
        content = await request.body()
        if hashlib.sha256(content).hexdigest() != request.path_params["oid"]:
            raise Refused(400, "The content is not the one that was announced.")
        self.apart[request.path_params["oid"]] = content
        return Response(status_code=200)

    async def verify(self, request: Request) -> Response:
        if request.path_params["oid"] not in self.apart:
            raise Refused(404, "The content was not received.")
        return Response(status_code=200)

    async def commit(self, request: Request) -> Response:
        rows = [json.loads(line) for line in (await request.body()).splitlines() if line.strip()]
        for row in rows:
            if row["key"] == "header":
                continue
            folder, _, name = row["value"]["path"].partition("/")
            if self.desk.file(folder) is None:
                await self.desk.keep_file(folder, name, self._content(row), look)
        return JSONResponse({"success": True, "commitOid": "0" * 40, "commitUrl": f"{request.url}", "hookOutput": ""})

    def _content(self, row: dict[str, Any]) -> bytes:
        value = row["value"]
        if row["key"] == "file" and value.get("encoding") == "base64":
            return base64.b64decode(value["content"])
        if row["key"] == "lfsFile" and value["oid"] in self.apart:
            return self.apart.pop(value["oid"])
        raise Refused(400, f"The sandbox cannot commit {value.get('path')}.")

    async def tree(self, request: Request) -> Response:
        file = self.desk.file(request.path_params["folder"])
        if file is None:
            raise Refused(404, f"{request.path_params['folder']} does not exist on main.")
        return JSONResponse([shapes.tree_object(file)])


def look(content: bytes) -> TrainingFile:
    """Look through a file as the container does, when it runs."""
    return examine(content, judge)


def judge(example: dict[str, Any]) -> tuple[str, str | None]:
    """The format and the fault of an example of chat, of a prompt, or of plain text."""
    if "messages" in example:
        return "messages", chat_problem(example, RULES)
    if {"prompt", "completion"} <= set(example):
        return "prompt", None
    return ("text", None) if "text" in example else ("", 'has none of "messages", "prompt" and "text".')


def _placed(file: dict[str, Any]) -> dict[str, Any]:
    """How a file is to be sent."""
    mode = "lfs" if int(file.get("size", 0)) > INLINE_BYTES else "regular"
    return {"path": needed_text(file, "path"), "uploadMode": mode, "shouldIgnore": False}
