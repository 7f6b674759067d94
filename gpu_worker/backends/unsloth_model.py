"""How Unsloth loads a base model and puts an adapter on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unsloth import FastLanguageModel  # first: it changes transformers and TRL as it is imported

# isort: split
import torch

from gpu_worker.backends.trl_model import check_targets, check_type, keep_weights_in_place
from queue_app.errors import Permanent

if TYPE_CHECKING:
    from pathlib import Path

    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from gpu_worker.backends.hardware import Hardware
    from gpu_worker.training_config import TrainingConfig

PACKAGES: tuple[str, ...] = ("unsloth", "unsloth_zoo", "trl", "transformers", "peft", "bitsandbytes", "torch")
LOSS = "nll"  # Unsloth has chunks of its own
CUDA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def load(
    folder: Path, config: TrainingConfig, hardware: Hardware
) -> tuple[PeftModel | PreTrainedModel, PreTrainedTokenizerBase]:
    """The base model with a fresh adapter on it, or itself; see `Loader.load`."""
    full = config.method == "full"
    wanted = config.gradient_checkpointing
    checkpointing = "unsloth" if wanted or (wanted is None and not hardware.on_cpu) else False
    quantised = config.method == "qlora"
    check_type(folder)
    model, tokenizer = FastLanguageModel.from_pretrained(
        str(folder),
        max_seq_length=config.sequence_len,
        dtype=torch.float32 if full else hardware.dtype,
        full_finetuning=full,
        load_in_4bit=quantised,
        use_gradient_checkpointing=checkpointing,
        local_files_only=True,
    )
    if quantised and not getattr(model, "is_loaded_in_4bit", False):
        raise Permanent("Unsloth cannot hold this model in 4 bits on this machine; use method: lora, or engine: trl")
    keep_weights_in_place(model)
    if full:
        return model, tokenizer
    check_targets(model, config)
    model = FastLanguageModel.get_peft_model(
        model,
        r=config.lora_r,
        target_modules=_targets(config, hardware),
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        use_gradient_checkpointing=checkpointing,
        random_state=config.seed,
    )
    return model, tokenizer


def _targets(config: TrainingConfig, hardware: Hardware) -> str | list[str]:
    """The CPU backend hands `all-linear` on to PEFT; the kernels on a card want the layers by name."""
    if config.target_modules != "all-linear":
        return list(config.target_modules)
    return "all-linear" if hardware.on_cpu else CUDA_TARGETS
