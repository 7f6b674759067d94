"""The one shape an example has between all formats.

On disk a record is a line of JSON: what OpenAI's chat format has, under the names it has there, and beside `messages`
what no provider takes – weight, agents, category, difficulty, origin, metadata. A writer of another format drops what
that one cannot hold, and counts it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

if TYPE_CHECKING:
    from collections import Counter

Role = Literal["system", "developer", "user", "assistant", "tool"]
MOST_WEIGHT = 10**9  # of an example: sums of them stay exact to many digits, and finite
Weight = Annotated[float, msgspec.Meta(ge=-MOST_WEIGHT, le=MOST_WEIGHT)]  # below 0: refused where weights count


class Function(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """What a tool call calls; `arguments` is JSON in a text, as the providers have it."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct, forbid_unknown_fields=True):
    """One call of a tool by the assistant; `id` is what the tool's answer refers to. The providers want the type."""

    id: str
    function: Function
    type: str = "function"

    def __post_init__(self) -> None:
        if self.type != "function":
            raise ValueError(f'type must be "function", found "{self.type}"')


class Message(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """One turn; `weight` is its share in the loss, by default 1 for the assistant's and 0 for all others."""

    role: Role
    content: str | None = None
    name: str | None = None
    weight: float | None = None
    tool_calls: list[ToolCall] = []
    tool_call_id: str | None = None
    reasoning: str | None = None


class Origin(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Where an example was cut from; `piece` counts from 1, `tokens` is by the base model's tokenizer."""

    document: str
    piece: int
    pieces: int
    tokens: int


class Record(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """One example. `rejected` is the worse answer of a preference: it stands in the place of the last messages."""

    messages: list[Message]
    tools: list[dict[str, Any]] = []
    rejected: list[Message] = []
    parallel_tool_calls: bool | None = None
    weight: Weight | None = None  # of the whole example in the loss; None counts as 1
    source_agent: str | None = None
    target_agent: str | None = None
    category: str | None = None
    difficulty: str | None = None
    origin: Origin | None = None
    metadata: dict[str, Any] = {}


_ENCODER = msgspec.json.Encoder(order="deterministic")
_CONTENT = tuple(name for name in Message.__struct_fields__ if name != "weight")


def encode(record: Record) -> bytes:
    """The record as one line of JSON, without its end."""
    return msgspec.json.encode(record)


def content_hash(record: Record) -> str:
    """SHA-256 of what is learned: messages, tools and rejected answer, whatever the weights, agents and metadata."""
    messages = [[getattr(message, name) for name in _CONTENT] for message in record.messages]
    rejected = [[getattr(message, name) for name in _CONTENT] for message in record.rejected]
    return hashlib.sha256(_ENCODER.encode([messages, record.tools, rejected])).hexdigest()


def keep_aside(metadata: dict[str, Any], name: str, value: Any) -> str:
    """Put among the metadata what has no other place; the name that it has there: another one where that is taken."""
    while metadata.setdefault(name, value) != value:
        name = f"outer_{name}"
    return name


def count_unheld(record: Record, held: frozenset[str], dropped: Counter[str]) -> None:
    """Count, by field, what a record has beside its messages and a format that holds only `held` cannot take."""
    names, values_of, nothing = _beside(held)
    values = values_of(record)
    if values != nothing:
        for name, value, none in zip(names, values, nothing, strict=True):
            if value != none:
                dropped[name] += 1


@cache
def _beside(held: frozenset[str]) -> tuple[tuple[str, ...], Callable[[Record], tuple[Any, ...]], tuple[Any, ...]]:
    """What a format does not hold: the names, the way to a record's values, and those of a record without them."""
    names = tuple(name for name in Record.__struct_fields__[1:] if name not in held)
    values_of = attrgetter(*names)
    return names, values_of, values_of(Record([]))
