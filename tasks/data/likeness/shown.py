"""The few examples that stand in a report beside its counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.data.likeness.saying import said

if TYPE_CHECKING:
    from tasks.data.record import Record

KEPT_CHARACTERS = 1000
SHOWN_LINES = 20


def start_of(text: str) -> str:
    """The beginning of a text, as it is and longer than it is shown.

    What is personal in it is masked before it is shortened, for half a secret looks like none; so the word that is cut
    here is left out.
    """
    if len(text) <= KEPT_CHARACTERS:
        return text
    words = text[:KEPT_CHARACTERS].rsplit(None, 1)
    return words[0] if len(words) > 1 else text[:KEPT_CHARACTERS]


def beginning(record: Record) -> str:
    """By what a person knows an example again: what the user says first, else what anybody does."""
    asked = (message.content for message in record.messages if message.role == "user" and message.content)
    return start_of(next(asked, "") or said(record.messages))
