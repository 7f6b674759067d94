"""Connections that can be cut in the middle of a request, as a network does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

    from starlette.requests import Request


class Connections:
    """A server's open connections, by the client's address."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, int], asyncio.Transport] = {}

    def cut(self, request: Request) -> None:
        """Close the request's connection at once; what is answered afterwards reaches nobody."""
        assert request.client is not None
        self._open[(request.client.host, request.client.port)].abort()

    def protocol(self) -> type[H11Protocol]:
        """uvicorn's own protocol, which enters its connections here."""
        opened = self._open

        class Connection(H11Protocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                super().connection_made(transport)
                opened[transport.get_extra_info("peername")[:2]] = transport

            def connection_lost(self, exc: Exception | None) -> None:
                opened.pop(self.transport.get_extra_info("peername")[:2], None)
                super().connection_lost(exc)

        return Connection
