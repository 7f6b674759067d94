"""How alike examples are: what of them is compared, exactly and nearly, and which copies are meant to be there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.data.likeness.near import NearTexts


def near_texts(threshold: float, shingle: int, folder: Path | None) -> NearTexts:
    """Texts to be compared, from which similarity and by pieces of how many characters; numpy is loaded only here."""
    from tasks.data.likeness.minhash import Sketch
    from tasks.data.likeness.near import NearTexts

    return NearTexts(Sketch(threshold, shingle), folder)
