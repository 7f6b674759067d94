"""What makes a record an example that can be trained on here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.data.record import Message, Record

ROLES = ("system", "user", "assistant")


def problem_of(record: Record) -> str | None:
    """What keeps a record from being trained on, and in which field; None if nothing does."""
    if record.rejected:
        return "rejected: this is a preference; only objective dpo takes a better and a worse answer"
    return _problem_of_talk(record)


def problem_of_preference(record: Record) -> str | None:
    """What keeps a record from being a preference that can be trained on; None if nothing does."""
    if not record.rejected:
        return "rejected: there is none; objective dpo takes a better and a worse answer"
    if len(record.rejected) != 1 or record.rejected[0].role != "assistant":
        return "rejected: must be one message from assistant, in the place of the last one of messages"
    if problem := _problem_of_message(record.rejected[0]):
        return f"rejected[0].{problem}"
    if record.weight not in (None, 1) or any(message.weight is not None for message in record.messages):
        return "weight: objective dpo counts every preference the same; leave weights out"
    return _problem_of_talk(record)


def _problem_of_talk(record: Record) -> str | None:
    if record.weight is not None and not (math.isfinite(record.weight) and record.weight >= 0):
        return f"weight: must be a number of at least 0, found {record.weight}"
    if len(record.messages) < 2:
        return 'messages: must be a list of at least two messages, from "user" and from "assistant"'
    for index, message in enumerate(record.messages):
        if problem := _problem_of_message(message):
            return f"messages[{index}].{problem}"
    roles = [message.role for message in record.messages]
    if roles[-1] != "assistant":
        return f'messages: the last one is from "{roles[-1]}"; a training example must end with "assistant"'
    if "user" not in roles:
        return 'messages: none is from "user"; there is nothing to answer'
    return None


def _problem_of_message(message: Message) -> str | None:
    if message.role not in ROLES:
        return f'role: must be one of {", ".join(ROLES)}, found "{message.role}"'
    if message.tool_calls:
        return "tool_calls: training here takes text alone; leave the example out, or send it to a provider"
    if message.content is None:
        return "content: must be a text that is not blank, found nothing"
    if not message.content.strip():
        return "content: must be a text that is not blank, found a blank text"
    if message.weight not in (None, 0, 1):
        return f"weight: must be 0 or 1, found {message.weight}; the whole example may have any other"
    return None
