"""The file that axolotl is started with: what it is to do, in the words of the version that is installed."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from gpu_worker.axolotl.program import RELAY
from gpu_worker.axolotl.words import changed_words, in_axolotls_words
from queue_app.errors import Invalid
from queue_app.job_type import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gpu_worker.axolotl.program import Schema
    from gpu_worker.training_config import TrainingOrder

# One setting under the names that it has had: the first that is known is taken.
OTHER_NAMES = {
    "dataset_num_proc": ("dataset_num_proc", "dataset_processes"),
    "attn_implementation": ("attn_implementation", "flash_attention"),
}
KERNELS = ("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel")
CARDS_ALONE = ("bf16", "fp16", "tf32", *KERNELS)
# What some versions do by themselves, and others do not know: left out where it is unknown.
IF_KNOWN = frozenset({*KERNELS, "load_best_model_at_end", "tf32"})
KEEP_ALL = 1_000_000  # zero means four; our plugin sets none at all, and Tuneyard removes old ones itself


def settings_for(
    order: TrainingOrder, data: Mapping[str, Path], scratch: Path, checkpoint: Path | None
) -> dict[str, Any]:
    """All settings; `data` are rows of tokens by axolotl's name for them, in place of those of a file of the user's."""
    assert order.axolotl is not None
    config, own = order.hyperparameters, order.axolotl.settings
    told = dict(own) | changed_words(own, config) if own else in_axolotls_words(config)
    told |= _examples(data)
    if own:
        told |= _looks(told)
    elif "test_datasets" not in data:
        del told["eval_steps"]
    if not order.on_card:  # its kernels are Triton's
        told |= dict.fromkeys(CARDS_ALONE, False)
    elif not own:
        told |= {"bf16": "auto", "tf32": False, "gradient_checkpointing": told.get("gradient_checkpointing", True)}
    if config.packing == "bfd":
        told |= {"attn_implementation": "flash_attention_2", "eval_sample_packing": False}
    plugins = [*(told.get("plugins") or ()), RELAY]
    return told | {
        "base_model": str(order.model_folder),
        "output_dir": str(order.checkpoints),
        "dataset_prepared_path": str(scratch / "prepared"),
        "resume_from_checkpoint": None if checkpoint is None else str(checkpoint),
        "save_total_limit": KEEP_ALL,
        "logging_steps": 1,
        "load_best_model_at_end": False,
        "plugins": plugins,
    }


def in_words_of(schema: Schema, told: dict[str, Any]) -> dict[str, Any]:
    """The settings under the names of this version.

    Raises:
        Invalid: it does not know one of them
    """
    made: dict[str, Any] = {}
    for name, value in told.items():
        known = next((each for each in OTHER_NAMES.get(name, (name,)) if each in schema.keys), None)
        if known is not None:
            made[known] = True if known == "flash_attention" != name else value
        elif name not in IF_KNOWN and value is not None:
            raise Invalid(
                f'axolotl {schema.version} knows no "{name}"{nearest(name, schema.keys)}; install a version that does, '
                "or take engine: trl"
            )
    return made


def write(path: Path, settings: dict[str, Any]) -> None:
    """Write settings so that YAML 1.1 and 1.2 read the same: each value as JSON."""
    lines = (f"{name}: {_as_json(value)}\n" for name, value in settings.items() if value is not None)
    path.write_text("".join(lines), encoding="utf-8")


def _as_json(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {_as_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_as_json, value)) + "]"
    if isinstance(value, float) and math.isfinite(value):
        mantissa, e, exponent = repr(value).partition("e")  # to YAML 1.1 a text is what has no point, or no sign
        return f"{mantissa}{'' if '.' in mantissa else '.0'}{e}{exponent}"
    return json.dumps(value)


def _examples(data: Mapping[str, Path]) -> dict[str, Any]:
    """Rows of tokens need no template and no `type`."""
    told: dict[str, Any] = {
        name: [{"path": str(path), "ds_type": "json", "split": "train"}] for name, path in data.items()
    }
    if "datasets" in data:
        told["dataset_num_proc"] = 1  # there is nothing left to do with them
    return told | ({"val_set_size": 0} if data else {})


def _looks(told: dict[str, Any]) -> dict[str, Any]:
    """Looks at the holdout where checkpoints are written, so that each has its loss."""
    if not (told.get("test_datasets") or told.get("val_set_size")):
        return {}
    if told.get("save_steps"):
        return {"eval_steps": told["save_steps"]}
    if told.get("saves_per_epoch"):
        return {"evals_per_epoch": told["saves_per_epoch"]}
    return {"eval_strategy": told.get("save_strategy", "epoch")}
