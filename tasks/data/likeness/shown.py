"""The few examples that stand in a report beside its counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.data.likeness.saying import said

if TYPE_CHECKING:
    from tasks.data.record import Record

SHOWN_CHARACTERS = 160
SHOWN_LINES = 20


def shorten(text: str) -> str:
    """The beginning of a text, in one line."""
    text = " ".join(text[: 4 * SHOWN_CHARACTERS].split())
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"


def beginning(record: Record) -> str:
    """By what a person knows an example again: what the user says first, else what anybody does."""
    asked = (message.content for message in record.messages if message.role == "user" and message.content)
    return shorten(next(asked, "") or said(record.messages))
