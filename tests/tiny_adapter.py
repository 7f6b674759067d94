"""A LoRA adapter for the tiny model, made in code: random matrices in PEFT's own layout, no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from gpu_worker.base_model import read_header, weight_files

RANK = 4
ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def make_tiny_adapter(folder: Path, base: Path, *, size: float = 0.05, **settings: Any) -> Path:
    """An adapter on every linear layer of `base`; `size` 0 is an untrained one, `settings` go into its config."""
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ALL_LINEAR,
        "inference_mode": True,
        **settings,
    }
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    random = np.random.default_rng(7)
    matrices = {}
    for tensor in (tensor for file in weight_files(base) for tensor in read_header(file)):
        module = tensor.name.removesuffix(".weight")
        if not module.endswith("proj"):
            continue
        outputs, inputs = tensor.shape
        rank = next((r for key, r in config.get("rank_pattern", {}).items() if module.endswith(key)), config["r"])
        stem = f"base_model.model.{module}"
        matrices[f"{stem}.lora_A.weight"] = random.normal(0, 0.1, (rank, inputs)).astype(np.float32)
        matrices[f"{stem}.lora_B.weight"] = random.normal(0, 1, (outputs, rank)).astype(np.float32) * np.float32(size)
    save_file(matrices, folder / "adapter_model.safetensors", {"format": "pt"})
    return folder
