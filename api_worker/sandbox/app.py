"""The sandbox as an ASGI application: routes, the key, the faults, the ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api_worker.sandbox.openai_routes import OpenAIRoutes, Rules
from api_worker.sandbox.orders import read_body
from api_worker.sandbox.refusals import Refused, told_to

if TYPE_CHECKING:
    from starlette.requests import Request

    from api_worker.sandbox.connections import Connections
    from api_worker.sandbox.faults import Fault, Faults
    from api_worker.sandbox.state import SandboxState

Handler = Callable[["Request"], Awaitable[Response]]


@dataclass(frozen=True)
class Sandbox:
    """Serves the routes, and commits the faults around them."""

    state: SandboxState
    rules: Rules
    faults: Faults
    connections: Connections

    def app(self) -> Starlette:
        """The application."""
        openai = OpenAIRoutes(self.state, self.rules, self.faults)
        jobs, job = "/v1/fine_tuning/jobs", "/v1/fine_tuning/jobs/{job_id}"
        table: list[tuple[str, str, str, Handler]] = [
            ("POST", "/v1/files", "upload", openai.upload),
            ("GET", "/v1/files", "files", openai.list_files),
            ("GET", "/v1/files/{file_id}", "files", openai.retrieve_file),
            ("DELETE", "/v1/files/{file_id}", "files", openai.delete_file),
            ("GET", "/v1/files/{file_id}/content", "content", openai.file_content),
            ("POST", jobs, "create", openai.create_job),
            ("GET", jobs, "list", openai.list_jobs),
            ("GET", job, "retrieve", openai.retrieve_job),
            ("POST", f"{job}/cancel", "cancel", openai.cancel_job),
            ("GET", f"{job}/events", "events", openai.job_events),
            ("GET", f"{job}/checkpoints", "checkpoints", openai.job_checkpoints),
            ("GET", "/v1/models", "models", openai.list_models),
            ("GET", "/v1/models/{model:path}", "models", openai.retrieve_model),
            ("POST", "/v1/chat/completions", "chat", openai.chat),
        ]
        routes = [Route(path, self._served(name, handler), methods=[method]) for method, path, name, handler in table]
        return Starlette(routes=[*routes, Route("/sandbox/ledger", self.ledger)])

    async def ledger(self, _: Request) -> Response:
        """What was asked of the sandbox and what came of it; no key is needed to read it."""
        return JSONResponse({**self.state.ledger(time.time()), "faults_committed": self.faults.committed})

    def _served(self, name: str, handler: Handler) -> Handler:
        async def answer(request: Request) -> Response:
            try:
                return await self._serve(name, handler, request)
            except Refused as refused:
                return refused.answer()

        return answer

    async def _serve(self, name: str, handler: Handler, request: Request) -> Response:
        await self._note(name, request)
        if not request.headers.get("authorization", "").removeprefix("Bearer ").strip():
            raise Refused(401, "You didn't provide an API key.", code="invalid_api_key")
        await asyncio.sleep(self.faults.seconds(name, "slow"))
        before = self.faults.draw(name, after=False)
        if before is not None:
            return self._commit(before, request)
        answer = await handler(request)
        after = self.faults.draw(name, after=True)
        return answer if after is None else self._commit(after, request)

    async def _note(self, name: str, request: Request) -> None:
        """Count what costs or changes something, before anything can go wrong with it."""
        if name == "upload":
            self.state.ask("upload")
        elif name == "create":
            metadata = read_body(await request.body()).get("metadata")
            self.state.ask("create", str(metadata.get("tuneyard", "")) if isinstance(metadata, dict) else "")
        elif name == "cancel":
            job = self.state.jobs.get(request.path_params["job_id"])
            self.state.ask("cancel", job.key if job else "")

    def _commit(self, fault: Fault, request: Request) -> Response:
        if fault.what == "drop":
            self.connections.cut(request)
            return Response(status_code=500)
        return told_to(fault.what, fault.seconds)
