"""An axolotl file of the user's: read with its lines, and checked as far as that can be done where it is read."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_worker.axolotl.words import OPTIMIZERS, in_our_words
from queue_app.errors import Invalid
from queue_app.job_type import nearest
from queue_app.recipe.yaml import read_document

if TYPE_CHECKING:
    from gpu_worker.axolotl.program import Schema
    from queue_app.recipe.yaml import Document, Where

# What Tuneyard decides: key → what becomes of it.
OVERRIDDEN = {
    "output_dir": "checkpoints lie in the job's own folder, the adapter becomes an artifact",
    "dataset_prepared_path": "prepared examples lie in the job's own folder",
    "resume_from_checkpoint": "a job goes on from its newest whole checkpoint",
    "auto_resume_from_checkpoints": "a job goes on from its newest whole checkpoint",
    "save_total_limit": "the two newest checkpoints are kept, and the best",
    "logging_steps": "every step is shown",
    "load_best_model_at_end": "`checkpoint` of this job says which one is published",
    "eval_steps": "the holdout is looked at where a checkpoint is written",
    "evals_per_epoch": "the holdout is looked at where a checkpoint is written",
    "eval_strategy": "the holdout is looked at where a checkpoint is written",
}
# What cannot go through here: key → why. A value that says no, or nothing, is let pass.
REFUSED = {
    "hub_model_id": "Tuneyard uploads nothing; publish the merged model yourself",
    "hub_strategy": "Tuneyard uploads nothing; publish the merged model yourself",
    "push_to_hub_model_id": "Tuneyard uploads nothing; publish the merged model yourself",
    "push_dataset_to_hub": "Tuneyard uploads nothing",
    "comet_api_key": "a file that is kept with the job must hold no key; log in on the worker's host",
    "rl": "only supervised training goes through axolotl here; adapter.train has objective: dpo",
    "lora_model_dir": "an adapter that is trained further would not fit the record of its base model",
    "reward_model": "only supervised training goes through axolotl here",
    "process_reward_model": "only supervised training goes through axolotl here",
    "relora": "it changes the base model",
    "merge_lora": "adapter.merge merges, and proves it",
    "save_only_model": "a checkpoint without the optimizer's state cannot be gone on from",
    "trust_remote_code": "no code out of a model's folder is run",
    "batch_size": "say gradient_accumulation_steps",
    "auto_find_batch_size": "Tuneyard halves micro_batch_size itself when memory runs out",
    "early_stopping_patience": "a run that ends by itself is not told from one that broke off",
    "use_ray": "the worker is the one that reserves cards",
    "fsdp": "checkpoints in shards are not covered",
    "fsdp_config": "checkpoints in shards are not covered",
    "deepspeed": "checkpoints in shards are not covered",
    "pretraining_dataset": "it is streamed and has no length; name it under datasets",
    "streaming": "a dataset that is streamed has no length",
}
SECRET_WORDS = ("api_key", "auth_token", "access_token", "password", "secret")
SECRET_NAMES = ("token", "hf_token")  # as whole names: a pad_token is none
SECRET = re.compile(r"://[^/\s:@]*:[^/\s@]+@|\b(hf_|sk-)[\w-]{20,}")  # a URL's password, a key by its look
ADAPTERS = ("lora", "qlora")
PLAIN = {"yes": True, "on": True, "no": False, "off": False}  # to axolotl, which reads YAML 1.1
PATHS = ("base_model", "base_model_config", "tokenizer_config", "processor_config", "chat_template_jinja")


@dataclass(frozen=True)
class UsersFile:
    """What stands in the file, paths made absolute, and what deserves a note."""

    document: Document
    settings: dict[str, Any]
    notes: tuple[str, ...]
    text: str  # as it was read


def read_file(path: Path, *, has_base: bool, has_dataset: bool, has_holdout: bool) -> UsersFile:
    """Read a file; what is replaced by an artifact need not be there.

    Raises:
        Invalid: all that is wrong with it, each with its line
    """
    text = _text(path)
    document = read_document(text, str(path), "an axolotl file is a mapping of its settings")
    settings = {name: _plain(value) for name, value in document.data.items() if value is not None}
    _check_secrets(document, settings, ())
    for name in settings:
        _check_key(document, name, settings[name])
    _check_adapter(document, settings)
    base = settings.get("base_model")
    if not has_base and not isinstance(base, str):
        document.add(("base_model",), '"base_model" is missing; name it here, or as base_model of the job')
    settings |= _absolute_paths(settings, path.parent)
    for name, replaced in (("datasets", has_dataset), ("test_datasets", has_dataset or has_holdout)):
        if not replaced:
            settings[name] = _local_sets(document, name, settings.get(name), path.parent)
        elif name in settings:
            del settings[name]
    if not has_dataset and not settings["datasets"]:
        document.add(("datasets",), '"datasets" is missing; name it here, or as dataset of the job')
    try:
        in_our_words(settings)
    except Invalid as error:
        document.add((str(error).split('"')[1],), str(error))
    document.raise_problems()
    kept = {name: value for name, value in settings.items() if value != [] and name not in OVERRIDDEN}
    return UsersFile(document, kept, _notes(document, settings, has_dataset=has_dataset), text)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise Invalid(f"{path}: it cannot be read ({error.strerror}); name an axolotl file") from error
    except UnicodeDecodeError as error:
        raise Invalid(f"{path}: this is not UTF-8 ({error.reason} at byte {error.start}); save it as such") from error


def _absolute_paths(settings: dict[str, Any], base: Path) -> dict[str, str]:
    """Settings that name something which is there; a template may be given itself, as a text of any length."""
    texts = {name: settings[name] for name in PATHS if isinstance(settings.get(name), str)}
    return {name: str((base / text).resolve()) for name, text in texts.items() if os.path.exists(base / text)}  # noqa: PTH110


def _plain(value: Any) -> Any:
    return PLAIN.get(value.lower(), value) if isinstance(value, str) else value


def sets_of(settings: dict[str, Any], name: str) -> list[Path]:
    """The files of examples that a file names under `datasets` or `test_datasets`."""
    return [Path(each["path"]) for each in settings.get(name, ())]


def check_known(file: UsersFile, schema: Schema) -> None:
    """Hold a file against what the installed version knows.

    Raises:
        Invalid: a key is unknown or a value of a wrong type; each with its line, and the nearest key
    """
    _check_keys(file.document, file.document.data, schema.keys, (), schema.version)
    for where, message in schema.problems:
        place = _follow(file.document.data, where)
        if place:
            file.document.add(place, f'"{".".join(map(str, place))}": {message[:1].lower()}{message[1:]}')
    file.document.raise_problems()


def _check_keys(document: Document, value: Any, keys: dict[str, Any] | None, where: Where, version: str) -> None:
    if keys is None:
        return
    if isinstance(value, list):
        for index, item in enumerate(value):
            _check_keys(document, item, keys, (*where, index), version)
    elif isinstance(value, dict):
        for name, item in value.items():
            here = (*where, name)
            if name in keys:
                _check_keys(document, item, keys[name], here, version)
            else:
                told = f'axolotl {version} knows no "{".".join(map(str, here))}" and would pass it over in silence'
                document.add(here, f"{told}{nearest(name, keys)}")


def _check_key(document: Document, name: str, value: Any) -> None:
    if name in REFUSED and value not in (False, "", [], {}):
        document.add((name,), f'"{name}": {REFUSED[name]}; remove it')
    elif name == "save_safetensors" and value is False:
        document.add((name,), '"save_safetensors": a pickle can run code; remove it')
    elif name == "save_strategy" and value not in ("steps", "epoch"):
        document.add((name,), '"save_strategy": a job goes on from its checkpoints; take save_steps, or epoch')


def _check_secrets(document: Document, value: Any, where: Where) -> None:
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            _check_secrets(document, item, (*where, key))
        return
    name = next((each.lower() for each in reversed(where) if isinstance(each, str)), "")
    is_named = name in SECRET_NAMES or any(word in name for word in SECRET_WORDS)
    if isinstance(value, str) and value and (is_named or SECRET.search(value)):
        said = ".".join(map(str, where))
        document.add(where, f'"{said}": a file that is kept with the job must hold no key; log in on the host')


def _check_adapter(document: Document, settings: dict[str, Any]) -> None:
    if settings.get("adapter") not in ADAPTERS:
        said = f"not {settings['adapter']!r}" if "adapter" in settings else "and is missing"
        document.add(("adapter",), f'"adapter" must be lora or qlora, {said}; model.train trains whole models')


def _local_sets(document: Document, name: str, sets: Any, base: Path) -> list[dict[str, Any]]:
    """Sets of examples with their files, which must be here: Tuneyard asks nobody while it trains."""
    if sets is None:
        return []
    if not isinstance(sets, list) or not all(isinstance(each, dict) for each in sets):
        document.add((name,), f'"{name}" must be a list of mappings, each with a path')
        return []
    made = []
    for index, each in enumerate(sets):
        where, file = (name, index, "path"), base / str(each.get("path"))
        if not (file.is_file() and file.suffix == ".jsonl"):
            document.add(
                where,
                f'"{name}.{index}.path" must be a .jsonl file here (taken from the folder of this file); for '
                "anything else, and for what a hub holds, make a dataset artifact and name it as dataset of the job",
            )
        made.append({**each, "path": str(file.resolve()), "ds_type": "json"})
    return made


def _notes(document: Document, settings: dict[str, Any], *, has_dataset: bool) -> tuple[str, ...]:
    notes = [f'"{name}" is not taken from the file: {why}' for name, why in OVERRIDDEN.items() if name in settings]
    if settings.get("use_mlflow") or settings.get("mlflow_experiment_name"):
        notes.append("MLflow gets a run for each attempt: one that goes on from a checkpoint begins another there")
    if settings.get("peft_use_dora"):
        notes.append("adapter.merge merges no DoRA (peft_use_dora)")
    optimizer = settings.get("optimizer")
    if optimizer is not None and str(optimizer) not in OPTIMIZERS:
        notes.append(f"optimizer {optimizer} is not one whose memory is known; it is reckoned as an 8-bit AdamW")
    if has_dataset:
        idle = [name for name in ("chat_template", "train_on_inputs", "val_set_size") if settings.get(name)]
        notes += [f'"{name}" has no effect: the dataset is Tuneyard\'s, which says what is learned' for name in idle]
    return tuple(f"{document.origin}: {note}" for note in notes)


def _follow(values: Any, loc: tuple[str | int, ...]) -> Where:
    """The deepest place on pydantic's path, which also names branches of unions and what is missing."""
    place: Where = ()
    for key in loc:
        there = isinstance(key, int) and isinstance(values, list) and key < len(values)
        if there or (isinstance(values, dict) and key in values):
            values, place = values[key], (*place, key)
    return place
