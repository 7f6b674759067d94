"""A request for a job at a server of OpenAI's shape, read with the limits that OpenAI's specification gives its fields.

What servers of that shape do differently is said in a `Flavour`.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Any

from api_worker.sandbox.fields import needed_text, number_in, object_in, text_in, whole_in
from api_worker.sandbox.openai_files import FORMAT_OF
from api_worker.sandbox.refusals import Refused
from api_worker.sandbox.remote_job import Plan

# What an organisation that may still train at OpenAI can name, and a name of the sandbox's own.
MODELS = ("sandbox-base", "gpt-4.1-2025-04-14", "gpt-4.1-mini-2025-04-14")
KEY_IN_SUFFIX = re.compile(r"(?:^|-)(ty-[a-z0-9]+(?:-\d+)?)$")
EVERYWHERE = frozenset({"n_epochs", "batch_size", "learning_rate_multiplier"})


@dataclass(frozen=True)
class Flavour:
    """How a server differs from OpenAI's own for its client."""

    keeps_metadata: bool = True  # else it neither repeats it nor filters by it, and the suffix is the only key
    suffix_field: str = ""  # the job's field that repeats the suffix, beside those of the specification
    longest_suffix: int = 64
    suffix_letters: str = ""  # a pattern; empty: any
    methods: frozenset[str] = frozenset({"supervised", "dpo"})
    most_epochs: int = 50
    largest_batch: int = 256
    hyperparameters: frozenset[str] = EVERYWHERE
    either_method_or_hyperparameters: bool = False
    tells_file_status: bool = True
    tells_steps: bool = False  # `trained_steps` and `total_steps` stand in the job
    needs_byte_order_mark: bool = False
    has_model_limits: bool = True


def key_of(asked: dict[str, Any], flavour: Flavour) -> str:
    """The submission key that a request carries, or nothing."""
    if flavour.keeps_metadata:
        metadata = asked.get("metadata")
        return str(metadata.get("tuneyard", "")) if isinstance(metadata, dict) else ""
    found = KEY_IN_SUFFIX.search(str(asked.get("suffix", "")))
    return found[1] if found else ""


def read_plan(asked: dict[str, Any], models: tuple[str, ...], flavour: Flavour, job_id: str) -> Plan:
    """The plan in a request's body.

    Raises:
        Refused: a field is missing or outside its limits, or there is no such model
    """
    model, training_file = needed_text(asked, "model"), needed_text(asked, "training_file")
    if model not in models:
        text = f"Model {model} is not available for fine-tuning or does not exist."
        raise Refused(400, text, code="model_not_available", param="model")
    method, hyperparameters = _method(asked, flavour)
    seed = whole_in(asked, "seed", 0, 2**31 - 1)
    metadata = _metadata(asked) if flavour.keeps_metadata else {}
    return Plan(
        id=job_id,
        key=key_of(asked, flavour),
        model=model,
        training_file=training_file,
        validation_file=text_in(asked, "validation_file"),
        method=method,
        format=FORMAT_OF[method],
        epochs=3 if hyperparameters["n_epochs"] == "auto" else hyperparameters["n_epochs"],
        seed=secrets.randbelow(2**31) if seed is None else seed,
        suffix=_suffix(asked, flavour),
        asked={"metadata": metadata, "hyperparameters": hyperparameters},
    )


def _suffix(asked: dict[str, Any], flavour: Flavour) -> str | None:
    suffix, most = text_in(asked, "suffix"), flavour.longest_suffix
    if suffix is not None and not 1 <= len(suffix) <= most:
        raise Refused(400, f"'suffix' must have 1 to {most} characters.", param="suffix")
    if suffix is not None and flavour.suffix_letters and not re.fullmatch(flavour.suffix_letters, suffix):
        raise Refused(400, "'suffix' holds a character that is not allowed in it.", param="suffix")
    return suffix


def _method(asked: dict[str, Any], flavour: Flavour) -> tuple[str, dict[str, Any]]:
    """The method's type and its hyperparameters, with what is left to the provider as "auto"."""
    outside, method = object_in(asked, "hyperparameters"), object_in(asked, "method")
    if flavour.either_method_or_hyperparameters and outside and method:
        raise Refused(400, "Only one of 'method' or 'hyperparameters' must be provided", param="method")
    kind = method.get("type", "supervised")
    if kind not in flavour.methods:
        text = f"The sandbox rehearses {' and '.join(sorted(flavour.methods))} here, not '{kind}'."
        raise Refused(400, text, param="method")
    inside = object_in(object_in(method, kind), "hyperparameters")
    return kind, _hyperparameters({**outside, **inside}, kind, flavour)


def _hyperparameters(given: dict[str, Any], kind: str, flavour: Flavour) -> dict[str, Any]:
    known = flavour.hyperparameters | ({"beta"} if kind == "dpo" else frozenset())
    extra = sorted(set(given) - known)
    if extra:
        raise Refused(400, f"Unknown parameter: 'hyperparameters.{extra[0]}'.", param=f"hyperparameters.{extra[0]}")
    read: dict[str, Any] = {
        **given,
        "n_epochs": whole_in(given, "n_epochs", 1, flavour.most_epochs),
        "batch_size": whole_in(given, "batch_size", 1, flavour.largest_batch),
        "learning_rate_multiplier": number_in(given, "learning_rate_multiplier", above=0),
    }
    if kind == "dpo":
        read["beta"] = number_in(given, "beta", above=0, most=2)
    if "lora_r" in known:
        whole_in(given, "lora_r", 8, 128)
    return {name: "auto" if value is None else value for name, value in read.items()}


def _metadata(asked: dict[str, Any]) -> dict[str, str]:
    metadata = asked.get("metadata") or {}
    pairs = metadata.items() if isinstance(metadata, dict) else [("", None)]
    fits = all(isinstance(value, str) and len(key) <= 64 and len(value) <= 512 for key, value in pairs)
    if not fits or len(metadata) > 16:
        text = "'metadata' holds at most 16 pairs of strings: keys up to 64 characters, values up to 512."
        raise Refused(400, text, param="metadata")
    return dict(metadata)
