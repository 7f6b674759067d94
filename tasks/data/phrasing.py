"""A piece of prose put as a request and its answer."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from tasks.data.chunking import GRAINS, parts, trim
from tasks.data.record import Message, Record

if TYPE_CHECKING:
    from tasks.data.sources import Document

CONTINUE = "Continue this passage."
PASSAGE_SHARE = 0.25  # of the piece that the request shows; the answer is the rest
LEAST_SHARE, MOST_SHARE = 0.1, 0.5


def phrase(document: Document, text: str, number: int, of: int) -> Record | None:
    """Piece `number` of a document as a request and its answer; None if it is prose of a single word.

    What explains a subject is the answer to a request to explain it; prose is a passage to be continued.
    """
    if document.subject is not None:
        return _answered(request(document, number, of), trim(text))
    passage, rest = cut_passage(trim(text))
    if not rest:
        return None
    return _answered(f"{CONTINUE}\n\n{passage}", rest)


def _answered(asked: str, answer: str) -> Record:
    return Record([Message("user", asked), Message("assistant", answer)])


def request(document: Document, number: int, of: int) -> str:
    """The instruction for one piece."""
    if document.subject is None:
        return CONTINUE
    return f"Explain {document.subject}{f', part {number} of {of}' if of > 1 else ''}."


def cut_passage(text: str) -> tuple[str, str]:
    """About the first quarter, up to the end of a paragraph, or else of a sentence, line or word; and the rest."""
    borders: list[int] = []
    for grain in GRAINS:
        borders = list(accumulate(len(part) for part in parts(text, grain)))[:-1]
        near = [border for border in borders if LEAST_SHARE <= border / len(text) <= MOST_SHARE]
        if near:
            borders = near
            break
    border = min(borders, key=lambda border: abs(border - PASSAGE_SHARE * len(text)), default=len(text))
    return text[:border].rstrip(), trim(text[border:])
