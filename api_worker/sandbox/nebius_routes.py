"""Nebius Token Factory: OpenAI's routes with LoRA's hyperparameters, and jobs that tell their steps."""

from __future__ import annotations

from api_worker.sandbox.openai_orders import EVERYWHERE, Flavour
from api_worker.sandbox.openai_routes import WORDS, openai_shaped
from api_worker.sandbox.remote_job import Phase

LORA = frozenset({"lora", "lora_r", "lora_alpha", "lora_dropout"})
MORE = frozenset({"packing", "context_length", "warmup_ratio", "weight_decay", "max_grad_norm", "learning_rate"})

VENDOR = openai_shaped(
    "nebius",
    "/nebius/v1",
    Flavour(
        keeps_metadata=False,
        suffix_field="suffix",  # a guess: it is not documented
        methods=frozenset({"supervised"}),
        most_epochs=20,
        largest_batch=32,
        hyperparameters=EVERYWHERE | LORA | MORE,
        either_method_or_hyperparameters=True,
        tells_file_status=False,
        tells_steps=True,
        has_model_limits=False,
    ),
    words={**WORDS, Phase.QUEUED: "running"},
    models=("sandbox-base", "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-14B"),
    min_examples=1,
)
