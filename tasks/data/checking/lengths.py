"""Tokens of examples, and those that have too many."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from api_worker.catalogue import Catalogue, catalogue
from tasks.data.checking.finding import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from api_worker.catalogue import Limit
    from tasks.data.checking.target_lines import Said
    from tasks.data.counting import Counting

TEXT_KEYS = (
    "messages",
    "contents",
    "input",
    "preferred_output",
    "non_preferred_output",
    "prompt",
    "completion",
    "text",
)


# beside the messages, what `spoken_in` looks at
BESIDE_KEYS = frozenset({*TEXT_KEYS, "tools", "functions", "systemInstruction"}) - {"messages"}
_SPOKEN = ("reasoning", "reasoning_content", "refusal")  # beside the content
_CALLS = ("tool_calls", "function_call")
_CALLING = frozenset({"functionCall", "functionResponse", "executableCode", "codeExecutionResult"})  # parts, at Vertex


class Spoken(msgspec.Struct, gc=False):
    """What of a row is counted: its texts, and of how many messages they are."""

    texts: list[str]
    messages: int
    names: int = 0
    tools: bool = False
    media: bool = False  # pictures or sound, which no counter here counts
    ready: int = 0  # tokens that were made beforehand


@dataclass
class Lengths:
    """Counts batches of rows and remembers sum, longest and excess."""

    target: str
    counting: Counting
    context: int | None = None  # tokens; of the base model, or as the user says
    catalogue: Catalogue = field(default_factory=catalogue, repr=False)  # whose limits are kept
    total: int = 0
    longest: int = 0
    longest_line: int = 0
    over: int = 0
    with_tools: int = 0  # rows whose tools were counted by their JSON
    with_media: int = 0  # rows with more than was counted
    _limits: list[Limit] = field(init=False)

    def __post_init__(self) -> None:
        self._limits = [] if self.context else self.catalogue.limits_of(self.target, "example_tokens")

    @property
    def limited(self) -> bool:
        """Whether there is anything to hold the lengths against."""
        return self.context is not None or bool(self._limits)

    def measure(self, rows: Sequence[tuple[int, Spoken]]) -> list[Said | None]:
        """For each row, by its line and what is spoken in it, what is wrong with its length."""
        texts = [text for _, spoken in rows for text in spoken.texts]
        counts = iter(self.counting.count(texts))
        return [self._one(line, spoken, sum(islice(counts, len(spoken.texts)))) for line, spoken in rows]

    def _one(self, line: int, spoken: Spoken, tokens: int) -> Said | None:
        role = 1 if self.counting.counts_roles else 0  # every role is one token in the vocabularies at hand
        tokens += spoken.messages * (self.counting.per_message + role) + spoken.names + spoken.ready
        tokens += self.counting.per_example
        self.total += tokens
        self.with_tools += spoken.tools
        self.with_media += spoken.media
        if tokens > self.longest:
            self.longest, self.longest_line = tokens, line
        said = self._said(tokens)
        self.over += said is not None
        return said

    def _said(self, tokens: int) -> Said | None:
        about = "" if self.counting.exact else "about "
        repair = "shorten it, or split it in two"
        if self.context is not None:
            if tokens <= self.context:
                return None
            text = f"{about}{tokens:,} tokens, and the context has {self.context:,}"
            return "example-tokens", "blocking" if self.counting.exact else "warning", Problem("", text, repair)
        for limit in self._limits:
            if limit.maximum is not None and tokens > limit.maximum:
                text = f"{about}{tokens:,} tokens, and {self.target} takes {limit.maximum:,} ({limit.source})"
                severity = limit.severity if self.counting.exact else "warning"
                return "example-tokens", severity, Problem("", text, repair)
        return None


def spoken_in(row: dict[str, Any]) -> Spoken:
    """What of any row is counted; tools by their JSON, which is near what the models see and not the same."""
    spoken = Spoken([], 0)
    for key in TEXT_KEYS:
        if key in row:
            _collect(row[key], spoken)
    holders = (row, row["input"]) if isinstance(row.get("input"), dict) else (row,)
    for holder in holders:
        for key in ("tools", "functions"):
            _collect_json(holder.get(key), spoken)
    if isinstance(row.get("token_ids"), list):
        spoken.ready = len(row["token_ids"])
    instruction = row.get("systemInstruction")
    if isinstance(instruction, dict):
        _collect([instruction], spoken)
    return spoken


def _collect(value: Any, spoken: Spoken) -> None:
    if isinstance(value, str):
        spoken.texts.append(value)
    elif isinstance(value, dict):
        _collect(value.get("messages"), spoken)
    elif isinstance(value, list):
        for message in value:
            if isinstance(message, dict):
                _collect_message(message, spoken)


def _collect_message(message: dict[str, Any], spoken: Spoken) -> None:
    spoken.messages += 1
    content = message.get("content", message.get("parts"))
    parts = content if isinstance(content, list) else [content]
    for part in parts:
        _collect_part(part, spoken)
    spoken.texts += [message[key] for key in _SPOKEN if isinstance(message.get(key), str)]
    if isinstance(message.get("name"), str):
        spoken.texts.append(message["name"])
        spoken.names += 1
    for key in _CALLS:
        _collect_json(message.get(key), spoken)


def _collect_part(part: Any, spoken: Spoken) -> None:
    text = part.get("text", part.get("refusal")) if isinstance(part, dict) else part
    if isinstance(text, str):
        spoken.texts.append(text)
    elif isinstance(part, dict) and not _CALLING.isdisjoint(part):
        _collect_json(part, spoken)
    elif part is not None:
        spoken.media = True


def _collect_json(value: Any, spoken: Spoken) -> None:
    if value:
        spoken.tools = True
        spoken.texts.append(msgspec.json.encode(value).decode())
