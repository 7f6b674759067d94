"""What makes a record an example that can be trained on here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.data.record import Message, Record

ROLES = ("system", "user", "assistant")


def problem_of(record: Record) -> str | None:
    """What keeps a record from being trained on, and in which field; None if nothing does."""
    if record.rejected:
        return "rejected: this is a preference; training here takes one answer an example"
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
    return None
