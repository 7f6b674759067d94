"""A small server that speaks as much of the Hugging Face hub's HTTP API as a download needs, from a folder."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

COMMIT = "a" * 40
Answer = tuple[int, dict[str, str], bytes]


class Hub(ThreadingHTTPServer):
    """Serves `root/<organisation>/<name>/` as models; `odd` answers what is asked under these parts of a path."""

    def __init__(self, root: Path, gated: tuple[str, ...], odd: Mapping[str, Answer]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.gated, self.odd = root, gated, odd
        self.asked: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, path: list[str]) -> Answer:
        self.asked.append("/".join(path))
        for part, answer in self.odd.items():
            if part in self.asked[-1]:
                return answer
        if path[:2] != ["api", "models"]:
            return self.file("/".join(path[:2]), "/".join(path[4:]))
        name = "/".join(path[2:4])
        return self.tree(name) if "tree" in path else self.model(name, path[-1] if "revision" in path else "main")

    def model(self, name: str, revision: str) -> Answer:
        if name in self.gated:
            return 403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "ask for access"}, b"{}"
        if not (self.root / name).is_dir():
            return 401, {"X-Error-Code": "RepoNotFound"}, b"{}"
        if revision not in ("main", COMMIT):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        files = [{"rfilename": path, "size": size} for path, size in self.files(name)]
        return _json({"id": name, "modelId": name, "sha": COMMIT, "siblings": files, "private": False, "tags": []})

    def tree(self, name: str) -> Answer:
        entries = [{"type": "file", "path": path, "size": size, "oid": "0" * 40} for path, size in self.files(name)]
        return _json(entries)

    def file(self, name: str, path: str) -> Answer:
        if not (self.root / name / path).is_file():
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        body = (self.root / name / path).read_bytes()
        return 200, {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": COMMIT}, body

    def files(self, name: str) -> list[tuple[str, int]]:
        paths = [path for path in sorted((self.root / name).rglob("*")) if path.is_file()]
        return [(path.relative_to(self.root / name).as_posix(), path.stat().st_size) for path in paths]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        self.wfile.write(self.head())

    def do_HEAD(self) -> None:
        self.head()

    def head(self) -> bytes:
        status, headers, body = self.server.answer(self.path.partition("?")[0].strip("/").split("/"))
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        return body

    def log_message(self, *_: object) -> None: ...


def _json(value: Any) -> Answer:
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


@contextmanager
def hub(root: Path, *, gated: tuple[str, ...] = (), odd: Mapping[str, Answer] = MappingProxyType({})) -> Iterator[Hub]:
    """Run a hub for as long as the block."""
    server = Hub(root, gated, odd)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
