"""Azure OpenAI and Microsoft Foundry: OpenAI's API under a resource of the customer's own."""

from __future__ import annotations

from api_worker.provider import RemoteState
from api_worker.providers import openai


class Account(openai.Account):
    """One resource. Whether its list can be narrowed by metadata is not documented, so the suffix is the key."""

    dialect = openai.Dialect(
        url=None,
        takes=frozenset({"validation_file", "epochs", "seed", "batch_size"}),
        suffix_limit=18,
        key_in_metadata=False,
        marks_utf8=True,
        bills={RemoteState.FAILED: False, RemoteState.CANCELLED: True},
    )
