"""Counting tokens by a model's own tokenizer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from queue_app.errors import Permanent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BATCH = 1024  # texts encoded at once: enough for every core, little enough to hold


class TokenCounter:
    """Counts as the model reads: its own vocabulary, without the chat template and without special tokens added."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer

    @classmethod
    def of_model(cls, folder: Path) -> TokenCounter:
        """The counter of a model folder.

        Raises:
            Permanent: the folder has no tokenizer.json, or a damaged one
        """
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise Permanent(
                f"{folder} has no tokenizer.json to count tokens with; base_model must be a Hugging Face model folder "
                "or a pulled model (`tuneyard models pull`)"
            )
        try:
            parts = json.loads(file.read_bytes())
        except ValueError as error:
            raise Permanent(f"{file} is not JSON ({error}); pull the model again") from error
        if not isinstance(parts, dict) or not isinstance(parts.get("model"), dict):
            raise Permanent(f"{file} describes no tokenizer: it has no field model; pull the model again")
        return cls(Tokenizer.from_file(str(file)))

    def __call__(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text."""
        counts: list[int] = []
        for start in range(0, len(texts), BATCH):
            batch = list(texts[start : start + BATCH])
            counts.extend(len(found) for found in self._tokenizer.encode_batch_fast(batch, add_special_tokens=False))
        return counts
