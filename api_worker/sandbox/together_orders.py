"""A request for a job at Together, read with the limits that it gives its fields."""

from __future__ import annotations

import re
import secrets
from typing import Any

from api_worker.sandbox import together_shapes as shapes
from api_worker.sandbox.fields import needed_text, number_in, object_in, text_in, whole_in
from api_worker.sandbox.refusals import Refused
from api_worker.sandbox.remote_job import Plan
from api_worker.sandbox.together_files import PREFERENCE

MODELS = ("sandbox-base", "meta-llama/Meta-Llama-3.1-8B-Instruct-Reference")
KEY_IN_SUFFIX = re.compile(r"(?:^|-)(ty-[a-z0-9]+(?:-\d+)?)$")
SUFFIX_LIMIT = 40
METHODS = ("sft", "dpo")
FIELDS = frozenset({"model", "training_file", "validation_file", "suffix", "random_seed", "packing", "max_seq_length"})
HYPERPARAMETERS = frozenset({"n_epochs", "n_evals", "n_checkpoints", "batch_size", "gradient_accumulation_steps"})
MORE = frozenset({"learning_rate", "lr_scheduler", "warmup_ratio", "max_grad_norm", "weight_decay"})
METHOD = frozenset({"training_method", "training_type"})
KNOWN = FIELDS | HYPERPARAMETERS | MORE | METHOD


def key_of(asked: dict[str, Any]) -> str:
    """The submission key that a request carries, or nothing."""
    found = KEY_IN_SUFFIX.search(str(asked.get("suffix", "")))
    return found[1] if found else ""


def read_plan(asked: dict[str, Any], models: tuple[str, ...], job_id: str) -> Plan:
    """The plan in a request's body.

    Raises:
        Refused: a field is missing, not known or outside its limits, or there is no such model
    """
    extra = sorted(set(asked) - KNOWN)
    if extra:
        raise Refused(400, f"The sandbox knows no '{extra[0]}'.", param=extra[0])
    model, training_file = needed_text(asked, "model"), needed_text(asked, "training_file")
    if model not in models:
        raise Refused(404, f"Model {model} is not available for fine-tuning.", param="model")
    suffix, seed = text_in(asked, "suffix"), whole_in(asked, "random_seed", 0, 2**31 - 1)
    if suffix is not None and len(suffix) > SUFFIX_LIMIT:
        raise Refused(400, f"'suffix' may have {SUFFIX_LIMIT} characters at the most.", param="suffix")
    number_in(asked, "learning_rate", above=0, most=0.1)
    if asked.get("batch_size") != "max":
        whole_in(asked, "batch_size", 1, shapes.MAX_BATCH)
    method = _method(asked)
    return Plan(
        id=job_id,
        key=key_of(asked),
        model=model,
        training_file=training_file,
        validation_file=text_in(asked, "validation_file"),
        method=method["method"],
        format=PREFERENCE if method["method"] == "dpo" else "",
        epochs=whole_in(asked, "n_epochs", 1, shapes.MAX_EPOCHS) or 1,
        seed=secrets.randbelow(2**31) if seed is None else seed,
        suffix=suffix,
        asked={"training_method": method, "training_type": _type(asked), "n_evals": _evals(asked)},
    )


def _method(asked: dict[str, Any]) -> dict[str, Any]:
    method = object_in(asked, "training_method") or {"method": "sft", "train_on_inputs": "auto"}
    if method.get("method") not in METHODS:
        raise Refused(400, f"'training_method.method' must be one of {', '.join(METHODS)}.", param="training_method")
    return method


def _type(asked: dict[str, Any]) -> dict[str, Any]:
    kind = object_in(asked, "training_type")
    if not kind:
        return {"type": "Lora", "lora_r": shapes.MAX_RANK, "lora_alpha": 2 * shapes.MAX_RANK}
    if kind.get("type") == "Lora":
        rank, alpha = (
            whole_in(kind, name, 1, most) for name, most in (("lora_r", shapes.MAX_RANK), ("lora_alpha", 512))
        )
        if rank is None or alpha is None:
            raise Refused(400, "'training_type' of a LoRA needs 'lora_r' and 'lora_alpha'.", param="training_type")
    elif kind.get("type") != "Full":
        raise Refused(400, "'training_type.type' must be Lora or Full.", param="training_type")
    return kind


def _evals(asked: dict[str, Any]) -> int:
    evals = whole_in(asked, "n_evals", 0, shapes.MAX_EVALS) or 0
    if evals and not asked.get("validation_file"):
        raise Refused(400, "'n_evals' needs a 'validation_file'.", param="n_evals")
    return evals
