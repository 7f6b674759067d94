"""Nebius Token Factory: OpenAI's API with LoRA's own hyperparameters, which it insists on getting in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api_worker.provider import Method, Tuned
from api_worker.providers import openai

if TYPE_CHECKING:
    from api_worker.provider import Order


class Account(openai.Account):
    """One account. Whether its list can be narrowed by metadata is not documented, so the suffix carries the key."""

    dialect = openai.Dialect(
        url="https://api.tokenfactory.nebius.com/v1/",
        methods=frozenset({Method.SFT}),
        takes=frozenset(
            {"validation_file", "epochs", "suffix", "seed", "batch_size", "tuned", "learning_rate", "lora_r"}
        ),
        key_in_metadata=False,
        hyperparameters_only=True,
    )

    def more_hyperparameters(self, order: Order) -> dict[str, Any]:
        lora = None if order.tuned is None else order.tuned == Tuned.LORA
        # its own examples pass the learning rate itself under the name of OpenAI's multiplier
        return {"lora": lora, "lora_r": order.lora_r, "learning_rate_multiplier": order.learning_rate}
