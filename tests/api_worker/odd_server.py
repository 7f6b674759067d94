"""A server that speaks HTTP and answers what a test wants it to: providers are not always as they should be."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from settings import ProviderSettings
from tests.sandbox.server import ORGANIZATION, SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class OddServer:
    """Gives the same answer to everything; `{authorization}` in it stands for the header it was sent."""

    status: int
    body: str
    headers: dict[str, str]
    asked: list[str] = field(default_factory=list)
    port: int = 0

    def answer_with(self, body: Any) -> None:
        """Give another answer from now on."""
        html = isinstance(body, str)
        self.body = body if html else json.dumps(body)
        self.headers["Content-Type"] = "text/html" if html else "application/json"

    @property
    def account(self) -> ProviderSettings:
        """An account there at what speaks OpenAI's API."""
        return self.account_at("openai")

    def account_at(self, api: str) -> ProviderSettings:
        """An account there at a provider that speaks `api`."""
        url = f"http://127.0.0.1:{self.port}/v1"
        return ProviderSettings(api=api, base_url=url, api_key=SecretStr(SECRET), organization=ORGANIZATION)


@contextmanager
def odd_server(body: Any, *, status: int = 200, **headers: str) -> Iterator[OddServer]:
    """Serve an answer: an object as JSON, a text as a web page."""
    odd = OddServer(status, "", {name.replace("_", "-"): value for name, value in headers.items()})
    odd.answer_with(body)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            self.rfile.read(length)
            odd.asked.append(f"{self.command} {self.path}")
            answer = odd.body.replace("{authorization}", self.headers.get("Authorization", "")).encode()
            self.send_response(odd.status)
            for name, value in odd.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_PUT = do_DELETE = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        odd.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield odd
        finally:
            server.shutdown()
            thread.join()


def remote_job(**fields: Any) -> dict[str, Any]:
    """A job as a server of OpenAI's shape gives it."""
    plain = {
        "id": "ftjob-1",
        "object": "fine_tuning.job",
        "created_at": 1,
        "error": None,
        "fine_tuned_model": None,
        "finished_at": None,
        "hyperparameters": {},
        "model": "m",
        "organization_id": "o",
        "result_files": [],
        "seed": 1,
        "status": "running",
        "trained_tokens": None,
        "training_file": "f",
        "validation_file": None,
    }
    return {**plain, **fields}
