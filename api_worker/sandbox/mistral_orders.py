"""A request for a job at Mistral, read with the limits that its OpenAPI document gives the fields."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from api_worker.sandbox.fields import needed_text, number_in, object_in, text_in, whole_in
from api_worker.sandbox.refusals import Refused
from api_worker.sandbox.remote_job import Plan

MODELS = ("sandbox-base", "open-mistral-7b", "mistral-small-latest")
KEY = re.compile(r"ty-[a-z0-9]+(?:-\d+)?")
SUFFIX = re.compile(r"[a-zA-Z0-9_-]{1,18}")
MOST_EPOCHS = 50  # the sandbox's own limit; the document has none
FIELDS = frozenset({"model", "training_files", "validation_files", "suffix", "hyperparameters", "auto_start"})
MORE = frozenset({"job_type", "invalid_sample_skip_percentage", "integrations", "repositories", "classifier_targets"})
UNSERVED = ("integrations", "repositories", "classifier_targets")
SHARES = ("weight_decay", "warmup_fraction", "fim_ratio")  # from 0 to 1
HYPERPARAMETERS = frozenset({"training_steps", "learning_rate", "epochs", "seq_len", *SHARES})


def key_of(asked: dict[str, Any]) -> str:
    """The submission key that a request carries, or nothing."""
    suffix = str(asked.get("suffix", ""))
    return suffix if KEY.fullmatch(suffix) else ""


def read_plan(asked: dict[str, Any], models: tuple[str, ...], job_id: str) -> Plan:
    """The plan in a request's body.

    Raises:
        Refused: with 422; a field is missing, not known or outside its limits, or there is no such model
    """
    try:
        return _plan(asked, models, job_id)
    except Refused as refused:
        raise Refused.by(replace(refused.denial, status=422)) from None


def _plan(asked: dict[str, Any], models: tuple[str, ...], job_id: str) -> Plan:
    _insist_on_known(asked, FIELDS | MORE)
    for name in UNSERVED:
        if asked.get(name):
            raise Refused(422, f"The sandbox serves no '{name}'.", param=name)
    model = needed_text(asked, "model")
    if model not in models or asked.get("job_type", "completion") != "completion":
        raise Refused(422, "Model not available for this type of fine-tuning (completion).")
    suffix = text_in(asked, "suffix")
    if suffix is not None and not SUFFIX.fullmatch(suffix):
        raise Refused(422, f"'suffix' must have 1 to 18 characters and match {SUFFIX.pattern}.", param="suffix")
    if asked.get("hyperparameters") is None:
        raise Refused(422, "Field required.", param="hyperparameters")
    hyperparameters = _hyperparameters(object_in(asked, "hyperparameters"))
    return Plan(
        id=job_id,
        key=key_of(asked),
        model=model,
        training_file=_training_file(asked.get("training_files") or []),
        validation_file=next(iter(_validation_files(asked.get("validation_files") or [])), None),
        epochs=hyperparameters.get("epochs") or 1,
        suffix=suffix,
        asked={"hyperparameters": hyperparameters, "auto_start": asked.get("auto_start") is not False},
    )


def _insist_on_known(asked: dict[str, Any], known: frozenset[str]) -> None:
    extra = sorted(set(asked) - known)
    if extra:
        raise Refused(422, f"The sandbox knows no '{extra[0]}'.", param=extra[0])


def _hyperparameters(asked: dict[str, Any]) -> dict[str, Any]:
    _insist_on_known(asked, HYPERPARAMETERS)
    whole_in(asked, "training_steps", 1, 10**6)
    whole_in(asked, "seq_len", 100, 10**6)
    number_in(asked, "learning_rate", above=0, most=1)
    for name in SHARES:
        number_in(asked, name, above=-1e-9, most=1)
    epochs = number_in(asked, "epochs", above=0, most=MOST_EPOCHS)
    whole = {} if epochs is None else {"epochs": max(1, round(epochs))}  # parts of an epoch are not rehearsed
    return {**{name: value for name, value in asked.items() if value is not None}, **whole}


def _training_file(files: Any) -> str:
    """The one file that is trained on."""
    if not files:
        raise Refused(422, "Value error, At least one training file or repository is required.", param="job_in")
    if not isinstance(files, list) or len(files) > 1:
        raise Refused(422, "The sandbox serves one training file.", param="training_files")
    if not isinstance(files[0], dict):
        raise Refused(422, "A training file must be an object.", param="training_files")
    number_in(files[0], "weight", above=0)
    return needed_text(files[0], "file_id")


def _validation_files(files: Any) -> list[str]:
    if not isinstance(files, list) or len(files) > 1 or not all(isinstance(file, str) for file in files):
        raise Refused(422, "The sandbox serves one validation file, by its id.", param="validation_files")
    return files
