"""What an example says, in the forms in which two of them are compared."""

from __future__ import annotations

import hashlib
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tasks.data.record import Message, Record, Role

GIVEN = ("system", "developer")  # roles whose text is often the same in a whole dataset
DIGEST_BYTES = 16
_BETWEEN = "\x1e"  # no normalised text has it: it is white space for `str.split`
_ENCODER = msgspec.json.Encoder(order="deterministic")


def normalise(text: str) -> str:
    """The text without what does not change its meaning: compatibility forms, case, amount of white space."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def said(messages: Iterable[Message]) -> str:
    """What the messages say, whoever says it: reasoning, contents and calls, one below the other."""
    parts: list[str] = []
    for message in messages:
        if message.reasoning:
            parts.append(message.reasoning)
        if message.content:
            parts.append(message.content)
        for call in message.tool_calls:
            parts.append(f"{call.function.name} {call.function.arguments}")
    return "\n".join(parts) if len(parts) != 1 else parts[0]


class Saying(NamedTuple):
    """What of an example is compared."""

    wording: bytes  # a digest of who says what to whom, with which tools, and what is the worse answer; normalised
    conversation: str  # all that is said, normalised, but for the standing instructions
    asked: int  # characters of it that stand before the answer: all where there is none

    @property
    def prompt(self) -> str:
        return self.conversation[: self.asked]


def saying(record: Record) -> Saying:
    """An example as it is compared.

    A system prompt that all examples share would make all of them alike, so it is not in the conversation.
    """
    turns = [(message.role, normalise(said((message,)))) for message in record.messages]
    worse = [(message.role, normalise(said((message,)))) for message in record.rejected]
    whole = f"{_joined(turns)}{_BETWEEN * 2}{_tools(record)}{_BETWEEN * 2}{_joined(worse)}"
    answered = len(turns) - 1 if turns and turns[-1][0] == "assistant" else len(turns)
    prompt, answers = _without_given(turns[:answered]), _without_given(turns[answered:] + worse)
    return Saying(digest(whole), " ".join(filter(None, (prompt, answers))), len(prompt))


def _without_given(turns: list[tuple[Role, str]]) -> str:
    return " ".join([text for role, text in turns if text and role not in GIVEN])


class Exchange(NamedTuple):
    """A prompt and its answer: the last message, and what stands before it."""

    prompt: bytes  # a digest of all of it, and of the tools
    answer: str  # normalised


def exchange(record: Record) -> Exchange:
    """An example as a question that has an answer."""
    turns = [(message.role, normalise(said((message,)))) for message in record.messages[:-1]]
    answer = normalise(said(record.messages[-1:]))
    return Exchange(digest(f"{_joined(turns)}{_BETWEEN * 2}{_tools(record)}"), answer)


def digest(text: str) -> bytes:
    """16 bytes that stand for a text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


def _joined(turns: list[tuple[Role, str]]) -> str:
    return _BETWEEN.join([part for turn in turns for part in turn])


def _tools(record: Record) -> str:
    return _ENCODER.encode(record.tools).decode() if record.tools else ""
