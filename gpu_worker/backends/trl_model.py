"""How the built-in engine loads a base model and puts an adapter on it."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from gpu_worker.base_model import read_json
from queue_app.errors import Invalid
from queue_app.job_type import nearest

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from gpu_worker.backends.hardware import Hardware
    from gpu_worker.training_config import TrainingConfig

PACKAGES: tuple[str, ...] = ("trl", "transformers", "peft", "bitsandbytes", "torch")
LOSS = "chunked_nll"  # the same numbers; never holds the logits of a whole sequence, and computes none for prompts


def load(
    folder: Path, config: TrainingConfig, hardware: Hardware
) -> tuple[PeftModel | PreTrainedModel, PreTrainedTokenizerBase]:
    """The base model with a fresh adapter on it, or itself; see `Loader.load`."""
    full = config.method == "full"
    check_type(folder)
    model, told = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32 if full else hardware.dtype,  # bfloat16 would swallow most of AdamW's steps
        attn_implementation="flash_attention_2" if config.packing == "bfd" else None,
        device_map={"": "cpu" if hardware.on_cpu else torch.cuda.current_device()},
        quantization_config=_four_bits(hardware) if config.method == "qlora" else None,
        local_files_only=True,
        output_loading_info=True,
    )
    if told["missing_keys"]:
        missing = sorted(told["missing_keys"])[0]
        raise Invalid(f"{folder}: the weights hold no {missing}, which config.json speaks of; copy the model again")
    keep_weights_in_place(model)
    model.config.use_cache = False
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if full:
        return model, tokenizer
    check_targets(model, config)
    return get_peft_model(model, _adapter(config)), tokenizer


def check_type(folder: Path) -> None:
    """See that transformers knows this type of model itself: code that comes along with a model is not run.

    Raises:
        Invalid: it does not
    """
    found = read_json(folder / "config.json").get("model_type")
    if found not in CONFIG_MAPPING:
        raise Invalid(
            f"{folder}/config.json names the model type {found}, which transformers {version('transformers')} does not "
            "know, and code that comes along with a model is not run; take a model of a known type"
        )


def check_targets(model: nn.Module, config: TrainingConfig) -> None:
    """See that every layer named in `target_modules` is there.

    Raises:
        Invalid: one is not; names the nearest
    """
    if isinstance(config.target_modules, str):
        return
    known = sorted({name.rpartition(".")[2] for name, _ in model.named_modules() if name})
    for name in config.target_modules:
        if name.rpartition(".")[2] not in known:
            raise Invalid(f'target_modules: no layer is called "{name}"{nearest(name, known)}')


def keep_weights_in_place(model: nn.Module) -> None:
    """Forbid bitsandbytes to repack 4-bit weights for AVX512 in the first forward pass without gradients.

    The packed form is faster to read and wrong to differentiate: after one evaluation the gradients of a QLoRA run
    point elsewhere (cosine to the truth 0.17), without an error. Seen in bitsandbytes 0.50.2.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _four_bits(hardware: Hardware) -> BitsAndBytesConfig:
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=hardware.dtype,
    )


def _adapter(config: TrainingConfig) -> LoraConfig:
    target: Any = config.target_modules
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=target if isinstance(target, str) else list(target),
    )
