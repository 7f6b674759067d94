"""The fields of a request's body, read with limits."""

from __future__ import annotations

import json
from typing import Any

from api_worker.sandbox.refusals import Refused


def read_body(body: bytes) -> dict[str, Any]:
    """The object in a request's body; an empty body is an empty one.

    Raises:
        Refused: it is none
    """
    try:
        value = json.loads(body or b"{}")
    except ValueError:
        raise Refused(400, "We could not parse the JSON body of your request.") from None
    if not isinstance(value, dict):
        raise Refused(400, "The body of the request must be an object.")
    return value


def text_in(asked: dict[str, Any], name: str) -> str | None:
    """A field that is a text, if it is there."""
    value = asked.get(name)
    if value is not None and not isinstance(value, str):
        raise Refused(400, f"'{name}' must be a string.", param=name)
    return value


def needed_text(asked: dict[str, Any], name: str) -> str:
    """A field that has to be there, and is a text."""
    value = text_in(asked, name)
    if not value:
        raise Refused(400, f"Missing required parameter: '{name}'.", param=name)
    return value


def object_in(asked: dict[str, Any], name: str) -> dict[str, Any]:
    """A field that is an object; empty if it is not there."""
    value = asked.get(name)
    if value is not None and not isinstance(value, dict):
        raise Refused(400, f"'{name}' must be an object.", param=name)
    return value or {}


def whole_in(asked: dict[str, Any], name: str, least: int, most: int) -> int | None:
    """A field that is a whole number within limits; None where the provider is to choose."""
    value = asked.get(name)
    if value is None or value == "auto":
        return None
    if type(value) is not int or not least <= value <= most:
        raise Refused(400, f"'{name}' must be a whole number from {least} to {most}.", param=name)
    return value


def number_in(asked: dict[str, Any], name: str, above: float, most: float | None = None) -> float | None:
    """A field that is a number above a limit; None where the provider is to choose."""
    value = asked.get(name)
    if value is None or value == "auto":
        return None
    if type(value) not in (int, float) or value <= above or (most is not None and value > most):
        limits = f"above {above:g}" + (f" and at most {most:g}" if most is not None else "")
        raise Refused(400, f"'{name}' must be a number {limits}.", param=name)
    return float(value)
