"""A request for a job, read with the limits that OpenAI's specification gives its fields."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Any

from api_worker.sandbox.refusals import Refused

# What an organisation that may still train at OpenAI can name, and a name of the sandbox's own.
DEFAULT_MODELS = ("sandbox-base", "gpt-4.1-2025-04-14", "gpt-4.1-mini-2025-04-14")


@dataclass(frozen=True)
class Order:
    """The fields of a request that the sandbox heeds."""

    model: str
    training_file: str
    validation_file: str | None
    epochs: int | None
    seed: int
    suffix: str | None
    metadata: dict[str, str]


def read_body(body: bytes) -> dict[str, Any]:
    """The object in a request's body.

    Raises:
        Refused: it is none
    """
    try:
        value = json.loads(body)
    except ValueError:
        raise Refused(400, "We could not parse the JSON body of your request.") from None
    if not isinstance(value, dict):
        raise Refused(400, "The body of the request must be an object.")
    return value


def read_order(body: bytes, models: tuple[str, ...]) -> Order:
    """The order in a request's body.

    Raises:
        Refused: a field is missing or outside its limits, or there is no such model
    """
    asked = read_body(body)
    model, training_file = _text(asked, "model"), _text(asked, "training_file")
    if not model or not training_file:
        missing = "model" if not model else "training_file"
        raise Refused(400, f"Missing required parameter: '{missing}'.", param=missing)
    if model not in models:
        text = f"Model {model} is not available for fine-tuning or does not exist."
        raise Refused(400, text, code="model_not_available", param="model")
    suffix = _text(asked, "suffix")
    if suffix is not None and not 1 <= len(suffix) <= 64:
        raise Refused(400, "'suffix' must have 1 to 64 characters.", param="suffix")
    seed = _whole(asked.get("seed"), "seed", 0, 2**31 - 1)
    return Order(
        model=model,
        training_file=training_file,
        validation_file=_text(asked, "validation_file"),
        epochs=_epochs(asked),
        seed=secrets.randbelow(2**31) if seed is None else seed,
        suffix=suffix,
        metadata=_metadata(asked),
    )


def _text(asked: dict[str, Any], name: str) -> str | None:
    value = asked.get(name)
    if value is not None and not isinstance(value, str):
        raise Refused(400, f"'{name}' must be a string.", param=name)
    return value


def _whole(value: Any, name: str, least: int, most: int) -> int | None:
    if value is None or value == "auto":
        return None
    if not isinstance(value, int) or not least <= value <= most:
        raise Refused(400, f"'{name}' must be a whole number from {least} to {most}.", param=name)
    return value


def _epochs(asked: dict[str, Any]) -> int | None:
    method = asked.get("method") or {"type": "supervised"}
    if method.get("type") != "supervised":
        raise Refused(400, "The sandbox rehearses supervised fine-tuning only.", param="method")
    inside = (method.get("supervised") or {}).get("hyperparameters") or {}
    outside = asked.get("hyperparameters") or {}
    return _whole(inside.get("n_epochs", outside.get("n_epochs")), "n_epochs", 1, 50)


def _metadata(asked: dict[str, Any]) -> dict[str, str]:
    metadata = asked.get("metadata") or {}
    pairs = metadata.items() if isinstance(metadata, dict) else [("", None)]
    fits = all(isinstance(value, str) and len(key) <= 64 and len(value) <= 512 for key, value in pairs)
    if not fits or len(metadata) > 16:
        text = "'metadata' holds at most 16 pairs of strings: keys up to 64 characters, values up to 512."
        raise Refused(400, text, param="metadata")
    return dict(metadata)
