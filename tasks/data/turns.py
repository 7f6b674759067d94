"""What is left of messages in a format that cannot hold everything a message may have."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from tasks.data.record import Message

if TYPE_CHECKING:
    from collections import Counter

_BESIDE = ("name", "weight", "tool_calls", "tool_call_id", "reasoning")
_NOTHING: tuple[Any, ...] = (None, None, [], None, None)
_values_of = attrgetter(*_BESIDE)
ANSWERLESS = 'messages: none is from "assistant", so there is nothing to learn'


@dataclass(frozen=True)
class Turns:
    """What a format's messages can have beside role, content and tool calls."""

    weights: bool = False  # 0 or 1, on the assistant's messages
    reasoning: bool = False  # of the assistant
    developer: bool = False  # the role; it becomes the system's elsewhere
    names: bool = True

    def fit(self, messages: list[Message], dropped: Counter[str]) -> list[Message]:
        """The messages as the format can hold them; what it cannot is counted by field.

        Raises:
            ValueError: none is the assistant's
        """
        for message in messages:
            if message.role == "assistant":
                return [self._fit(message, dropped) for message in messages]
        raise ValueError(ANSWERLESS)

    def _fit(self, message: Message, dropped: Counter[str]) -> Message:
        if (
            message.weight is None
            and message.reasoning is None
            and (self.names or message.name is None)
            and (self.developer or message.role != "developer")
            and (not message.tool_calls or message.role == "assistant")
            and (message.tool_call_id is None or message.role == "tool")
        ):
            return message
        return self._reduce(message, dropped)

    def _reduce(self, message: Message, dropped: Counter[str]) -> Message:
        answer = message.role == "assistant"
        weight = int(message.weight) if self.weights and answer and message.weight in (0, 1) else None
        reasoning = message.reasoning if self.reasoning and answer else None
        name = message.name if self.names else None
        role = "system" if message.role == "developer" and not self.developer else message.role
        calls = message.tool_calls if answer else []
        answered = message.tool_call_id if message.role == "tool" else None
        for field, kept, was in (
            ("weight", weight, message.weight),
            ("reasoning", reasoning, message.reasoning),
            ("name", name, message.name),
            ("role", role, message.role),
            ("tool_calls", calls, message.tool_calls),
            ("tool_call_id", answered, message.tool_call_id),
        ):
            if kept != was:
                dropped[f"messages[].{field}"] += 1
        return Message(role, message.content, name, weight, calls, answered, reasoning)


def until_last(messages: list[Message], dropped: Counter[str], *, text: bool = False) -> list[Message]:
    """The messages up to the assistant's last one, or with `text` its last one with text; counts those after it.

    Raises:
        ValueError: there is none
    """
    for number in range(len(messages), 0, -1):
        last = messages[number - 1]
        if last.role == "assistant" and (not text or (last.content and not last.tool_calls)):
            if number < len(messages):
                dropped["messages"] += len(messages) - number
            return messages[:number]
    raise ValueError(ANSWERLESS if not text else 'messages: none from "assistant" has text and no tool call')


def learned_text(message: Message, number: int) -> str:
    """The answer of an example in which one text is learned, whatever it weighs.

    Raises:
        ValueError: it has no text, or it shall not be learned
    """
    if not message.content:
        raise ValueError(f"messages[{number}].content: there is no text to learn")
    if message.weight == 0:
        raise ValueError(f"messages[{number}].weight: is 0, and this format has every answer learned")
    return message.content


def content_of(message: Message, dropped: Counter[str]) -> str:
    """The text of a message for a format whose messages always have one."""
    if message.content is None:
        dropped["messages[].content"] += 1
        return ""
    return message.content


def count_beside_text(message: Message, dropped: Counter[str]) -> None:
    """Count what a message has beside role and text, for a format that has nothing else."""
    values = _values_of(message)
    if values != _NOTHING:
        for name, value, none in zip(_BESIDE, values, _NOTHING, strict=True):
            if value != none:
                dropped[f"messages[].{name}"] += 1
