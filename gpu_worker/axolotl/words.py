"""Our settings in axolotl's words, and axolotl's in ours as far as they say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from gpu_worker.training_config import Optimizer, Scheduler, TrainingConfig
from queue_app.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

SAME = (
    "sequence_len",
    "micro_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "weight_decay",
    "max_grad_norm",
    "seed",
    "lora_r",
    "lora_alpha",
    "lora_dropout",
)
# Ours for others that take the same memory.
OPTIMIZERS: dict[str, Optimizer] = {
    **{name: name for name in get_args(Optimizer)},
    "adamw_torch": "adamw_torch_fused",
    "adamw_hf": "adamw_torch_fused",
    "adamw_bnb_8bit": "adamw_8bit",
}
UNKNOWN_OPTIMIZER: Optimizer = "paged_adamw_8bit"  # the ladder of smaller settings leaves this one as it is
DEFAULTS: dict[str, Any] = {  # axolotl's own, where they differ from ours
    "sequence_len": 512,
    "gradient_accumulation_steps": 1,
    "gradient_checkpointing": False,
}


def in_axolotls_words(config: TrainingConfig) -> dict[str, Any]:
    """What axolotl is to do, without what is trained on what and where it is written."""
    told = {name: getattr(config, name) for name in SAME}
    if config.lora_alpha == int(config.lora_alpha):
        told["lora_alpha"] = int(config.lora_alpha)
    told |= {"max_steps": config.max_steps} if config.max_steps else {"num_epochs": config.epochs or 1}
    told |= {"adapter": config.method, "load_in_4bit": config.method == "qlora"}
    if config.target_modules == "all-linear":
        told["lora_target_linear"] = True
    else:
        told["lora_target_modules"] = list(config.target_modules)
    if config.gradient_checkpointing is not None:
        told["gradient_checkpointing"] = config.gradient_checkpointing
    return told | {
        "eval_batch_size": config.micro_batch_size,
        "lr_scheduler": config.scheduler,
        "warmup_ratio": config.warmup,
        "optimizer": config.optimizer,
        "save_steps": config.save_steps,
        "eval_steps": config.save_steps,
        "sample_packing": config.packing == "bfd",
    }


def in_our_words(settings: Mapping[str, Any]) -> TrainingConfig:
    """What a file of the user's says about memory and length, for the prediction, the ladder and the result.

    Covered: what has a name here. What has none is left to axolotl.

    Raises:
        Invalid: a value is out of range; names it
    """
    given = DEFAULTS | {name: value for name, value in settings.items() if value is not None}
    told = {name: given[name] for name in SAME if name in given}
    if "max_steps" in given:
        told["max_steps"] = given["max_steps"]
    elif "num_epochs" in given:
        told["epochs"] = given["num_epochs"]
    told["method"] = given.get("adapter", "lora")
    told["gradient_checkpointing"] = bool(given["gradient_checkpointing"])
    told["optimizer"] = OPTIMIZERS.get(str(given.get("optimizer", "adamw_torch_fused")), UNKNOWN_OPTIMIZER)
    if given.get("lr_scheduler") in get_args(Scheduler):
        told["scheduler"] = given["lr_scheduler"]
    if "warmup_ratio" in given:
        told["warmup"] = given["warmup_ratio"]
    if isinstance(given.get("lora_target_modules"), list) and not given.get("lora_target_linear"):
        told["target_modules"] = tuple(given["lora_target_modules"])
    if given.get("sample_packing"):
        told["packing"] = "wrapped"  # rows of sequence_len tokens, as far as memory is concerned
    if isinstance(given.get("save_steps"), int):
        told["save_steps"] = given["save_steps"]
    try:
        return TrainingConfig(**told)
    except ValidationError as error:
        found = error.errors()[0]
        raise Invalid(f'"{".".join(map(str, found["loc"])) or "settings"}": {found["msg"]}') from error


def changed_words(settings: Mapping[str, Any], config: TrainingConfig) -> dict[str, Any]:
    """What `config` says otherwise than a file of the user's did."""
    before, now = in_axolotls_words(in_our_words(settings)), in_axolotls_words(config)
    return {name: value for name, value in now.items() if name not in before or before[name] != value}
