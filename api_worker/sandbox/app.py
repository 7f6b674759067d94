"""The sandbox as an ASGI application: every vendor's routes, the key, the faults, the ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api_worker.sandbox.desk import Desk
from api_worker.sandbox.fields import read_body
from api_worker.sandbox.ledger import ledger_of
from api_worker.sandbox.refusals import Refused
from api_worker.sandbox.rules import Rules
from api_worker.sandbox.state import SandboxState
from api_worker.sandbox.vendor import vendors

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

    from api_worker.sandbox.connections import Connections
    from api_worker.sandbox.faults import Fault, Faults
    from api_worker.sandbox.vendor import Entry, Handler


def open_desks(folder: Path, rules: Rules | Mapping[str, Rules], faults: Faults) -> list[Desk]:
    """A desk for every vendor, with a folder of its own; `rules` are everybody's, or by vendor."""
    return [
        Desk(
            vendor,
            SandboxState(folder / name),
            rules if isinstance(rules, Rules) else rules.get(name, Rules()),
            faults.at(name, but=() if vendor.restarts else ("restart",)),
        )
        for name, vendor in vendors().items()
    ]


@dataclass(frozen=True)
class Sandbox:
    """Serves the vendors' routes, and commits the faults around them."""

    desks: list[Desk]
    connections: Connections

    def app(self) -> Starlette:
        """The application."""
        routes = [
            Route(f"{desk.vendor.prefix}{entry.path}", self._served(desk, entry), methods=[entry.method])
            for desk in self.desks
            for entry in desk.vendor.entries(desk)
        ]
        return Starlette(routes=[*routes, Route("/sandbox/ledger", self.ledger)])

    def close(self) -> None:
        for desk in self.desks:
            desk.state.close()

    async def ledger(self, _: Request) -> Response:
        """What was asked of the sandbox and what came of it; no key is needed to read it."""
        return JSONResponse(ledger_of(self.desks, time.time()))

    def _served(self, desk: Desk, entry: Entry) -> Handler:
        async def answer(request: Request) -> Response:
            desk.received[entry.route] += 1
            try:
                given = await self._serve(desk, entry, request)
            except Refused as refused:
                given = refusal_answer(desk, refused)
            if given.status_code >= 400:
                desk.refused[f"{entry.route} {given.status_code}"] += 1
            return given

        return answer

    async def _serve(self, desk: Desk, entry: Entry, request: Request) -> Response:
        await _note(desk, entry.route, request)
        _insist_on_key(entry, request)
        await asyncio.sleep(desk.faults.number(entry.route, "slow"))
        before = desk.faults.draw(entry.route)
        if before is not None:
            return self._commit(desk, before, request)
        answer = await entry.handler(request)
        after = desk.faults.draw(entry.route, after=True)
        return answer if after is None else self._commit(desk, after, request)

    def _commit(self, desk: Desk, fault: Fault, request: Request) -> Response:
        if fault.what == "drop":
            self.connections.cut(request)
            return Response(status_code=500)
        headers = {} if fault.seconds is None else {"Retry-After": f"{fault.seconds:g}"}
        return refusal_answer(desk, desk.refusal(fault.what), headers)


async def _note(desk: Desk, route: str, request: Request) -> None:
    """Count what costs or changes something, before anything can go wrong with it."""
    if route == "upload":
        desk.state.ask("upload")
    elif route == "create":
        desk.state.ask("create", desk.vendor.key_of(request, read_body(await request.body())))
    elif route == "cancel":
        job = desk.job(request.path_params["job_id"])
        desk.state.ask("cancel", job.key if job else "")


def _insist_on_key(entry: Entry, request: Request) -> None:
    key = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
    if entry.is_signed and key:
        raise Refused(400, "This URL is signed; no API key is to be sent to it.")
    if not entry.is_signed and not key:
        raise Refused(401, "You didn't provide an API key.", code="invalid_api_key")


def refusal_answer(desk: Desk, refused: Refused, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A refusal in the vendor's shape."""
    denial = refused.denial
    return JSONResponse(desk.vendor.error_body(denial), denial.status, headers=dict(headers or {}))
