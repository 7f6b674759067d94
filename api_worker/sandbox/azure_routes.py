"""Azure OpenAI: OpenAI's routes, files with a byte order mark, and nothing but a short suffix to find a job by."""

from __future__ import annotations

from api_worker.sandbox.openai_orders import Flavour
from api_worker.sandbox.openai_routes import openai_shaped

VENDOR = openai_shaped(
    "azure",
    "/azure/openai/v1",
    Flavour(
        keeps_metadata=False,
        suffix_field="user_provided_suffix",  # a guess: it is not documented
        longest_suffix=18,
        suffix_letters=r"[^.]+",
        needs_byte_order_mark=True,
        has_model_limits=False,
    ),
)
