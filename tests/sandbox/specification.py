"""The vendors' own specifications, as judges of the sandbox's answers."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

SPECS = Path(os.environ.get("TUNEYARD_SPECS") or Path(__file__).resolve().parents[2].parent / "shared" / "specs")


@dataclass(frozen=True)
class Specification:
    """The paths and schemas of an OpenAPI document, for answers to requests under a prefix."""

    document: dict[str, Any]
    prefix: str = ""  # what the sandbox puts before the document's paths
    error: str | None = None  # the schema of a refusal for which the route has none
    seen: list[str] = field(default_factory=list)  # the routes whose answers were judged

    def hook(self, response: Any) -> None:
        """Judge an answer as it passes: an event hook for a client of httpx's or httpx2's, and so for an SDK's."""
        response.read()
        method, path = response.request.method, response.request.url.path
        assert path.startswith(self.prefix), f"{path} is not under {self.prefix}"
        if "json" in response.headers.get("content-type", ""):
            self.check(method, path.removeprefix(self.prefix), response.status_code, response.json())

    def check(self, method: str, path: str, status: int, body: Any) -> None:
        """Fail if an answer is not what the specification says of its route."""
        self.seen.append(f"{method} {path}")
        schema = self._schema(method.lower(), path, status)
        judge = jsonschema.Draft202012Validator({**schema, "components": self.document["components"]})
        faults = [f"{fault.json_path}: {fault.message}" for fault in judge.iter_errors(body)]
        assert not faults, f"{method} {path} ({status}) answered outside its specification: {faults}"

    def _schema(self, method: str, path: str, status: int) -> dict[str, Any]:
        answers = self._operation(method, path)["responses"]
        content = answers.get(str(status), {}).get("content", {})
        if "application/json" in content:
            found: dict[str, Any] = content["application/json"]["schema"]
            return found
        assert status >= 400, f"the specification has no answer {status} in JSON to {method} {path}"
        return {"$ref": f"#/components/schemas/{self.error}"} if self.error else {}

    def _operation(self, method: str, path: str) -> dict[str, Any]:
        for template, operations in sorted(self.document["paths"].items(), key=lambda item: "{" in item[0]):
            pattern = re.sub(r"\\{[^/]+\\}", "[^/]+", re.escape(template))
            if re.fullmatch(pattern, path) and method in operations:
                found: dict[str, Any] = operations[method]
                return found
        pytest.fail(f"the specification has no {method} {path}")


def load_specification(name: str, prefix: str = "", error: str | None = None) -> Specification:
    """A vendor's specification, with objects closed to keys that it does not name.

    Skips the test where the folder of specifications is missing, and fails it in CI.
    """
    file = SPECS / name
    if not file.exists():
        reason = f"{file} is missing; TUNEYARD_SPECS names the folder with {name}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return Specification(_document(file), prefix, error)


@cache
def _document(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = _as_json_schema(YAML(typ="safe").load(file))
    return found


def _as_json_schema(node: Any) -> Any:
    """The document with what it keeps of OpenAPI 3.0 said as JSON Schema says it."""
    if isinstance(node, list):
        return [_as_json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: _as_json_schema(value) for key, value in node.items()}
    if made.get("exclusiveMinimum") is True:
        made["exclusiveMinimum"] = made.pop("minimum")
    if made.get("type", "object") == "object" and isinstance(made.get("properties"), dict):
        made.setdefault("additionalProperties", False)
    return {"anyOf": [made, {"type": "null"}]} if made.pop("nullable", False) is True else made
