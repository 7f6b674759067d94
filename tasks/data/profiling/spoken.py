"""What of an example is measured: what a model reads of it, and nothing that only we know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tasks.data.likeness.saying import said
from tasks.data.rewriting import rewrite

if TYPE_CHECKING:
    from tasks.data.record import Record

LIMITS = (
    "of contents, reasoning, tool calls, tool definitions as JSON and rejected answers; "
    "not of names, agents, categories and metadata"
)
_FIELDS = ("messages", "rejected", "tools")


def spoken_in(record: Record) -> list[str]:
    """What each message says, the rejected ones with them."""
    return [text for message in (*record.messages, *record.rejected) if (text := said((message,)))]


def tools_of(record: Record) -> list[str]:
    """The definitions of the tools, as one text; none where there are none."""
    return [msgspec.json.encode(record.tools).decode()] if record.tools else []


def unescaped(record: Record, whole: str) -> str:
    """`whole`, which is all of it, as it reads where JSON in it has characters by their numbers."""
    if "\\u" not in whole:
        return whole
    texts: list[str] = []

    def take(field: str, key: str | None, text: str) -> str:
        del key
        if field.startswith(_FIELDS):
            texts.append(text)
        return text

    rewrite(record, take)
    return "\n".join(texts)
