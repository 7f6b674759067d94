"""Counting tokens by a model's own tokenizer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from queue_app.errors import Permanent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

BATCH = 1024  # texts encoded at once: enough for every core, little enough to hold
BATCH_CHARACTERS = 500_000  # well below a second's work, so that a request to stop is soon heard


class TokenCounter:
    """Counts as the model reads: its own vocabulary, without the chat template and without special tokens added."""

    def __init__(self, tokenizer: Tokenizer, look: Callable[[], object] = bool) -> None:
        """`look` is called between batches, and may raise to end the counting."""
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._look = look

    @classmethod
    def of_model(cls, folder: Path, look: Callable[[], object] = bool) -> TokenCounter:
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
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:
            if type(error) is not Exception:  # the library has no error class of its own
                raise
            raise Permanent(f"{file} describes no usable tokenizer ({error}); pull the model again") from error
        return cls(tokenizer, look)

    def __call__(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text."""
        counts: list[int] = []
        for batch in _batches(texts):
            self._look()
            counts.extend(len(found) for found in self._tokenizer.encode_batch_fast(batch, add_special_tokens=False))
        return counts


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    characters = 0
    for text in texts:
        if batch and (len(batch) == BATCH or characters + len(text) > BATCH_CHARACTERS):
            yield batch
            batch, characters = [], 0
        batch.append(text)
        characters += len(text)
    if batch:
        yield batch
