"""Trajectories in the Agent Data Protocol: what an agent did and what it saw, in order.

Written for its schema 1.5.0 and read from 1.0.0 on (github.com/neulab/agent-data-protocol, folder `schema`). A
trajectory has no place for what a record has beside its messages, save in `details`: there it is kept under one key.
"""

from __future__ import annotations

import hashlib
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from tasks.data.calls import ID, arguments_of, call_of, link_calls
from tasks.data.record import Message, Origin, Record, Weight, keep_aside
from tasks.data.turns import Turns, content_of

if TYPE_CHECKING:
    from collections import Counter

SUMMARY = "trajectories in the Agent Data Protocol: content with actions and observations, details"
VERSION = "1.5.0"
OURS = "tuneyard"  # the key in `details`
NAMELESS = re.compile(r"tuneyard-[0-9a-f]{16}")  # an id that stands for none
_SEEN = frozenset({"source", "name", "tool_call_id"})
_DONE = frozenset({"description", "reasoning_content"})
TAKEN = {  # by class, what a message is made of
    "message_action": _DONE | {"content"},
    "api_action": _DONE | {"function", "kwargs", "tool_call_id"},
    "code_action": _DONE | {"language", "content", "tool_call_id"},
    "text_observation": _SEEN | {"content"},
    "web_observation": _SEEN | {"url", "axtree", "html", "viewport_size"},
}
BESIDE = ("available_apis", "available_custom_tools", "available_code_languages")
TURNS = Turns(reasoning=True, developer=True)
SYSTEM = ("system", "developer")  # the schema has no source for them: the environment's, by this name


class Item(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    class_: str
    function: str | None = None
    kwargs: dict[str, Any] | None = None
    content: str | None = None
    language: str | None = None
    description: str | None = None
    reasoning_content: str | None = None
    source: Literal["user", "user_msg", "agent", "assistant", "environment", "system"] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    reward: float | None = None
    html: str | None = None
    axtree: str | None = None
    url: str | None = None
    viewport_size: tuple[int, int] | None = None
    image_observation: dict[str, Any] | None = None
    annotations: list[dict[str, Any]] | None = None


class Beside(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """What a record has beside messages, metadata and the worse answer."""

    tools: list[dict[str, Any]] = []
    parallel_tool_calls: bool | None = None
    weight: Weight | None = None
    source_agent: str | None = None
    target_agent: str | None = None
    category: str | None = None
    difficulty: str | None = None
    origin: Origin | None = None


class Row(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    id: str
    content: list[Item]
    schema_version: str | None = None
    available_apis: list[str] | None = None
    available_custom_tools: list[str] | None = None
    available_code_languages: list[str] | None = None
    details: dict[str, Any] = {}


def recognises(keys: frozenset[str]) -> bool:
    return {"id", "content"} <= keys and not keys.isdisjoint({"schema_version", "details"})


def to_record(row: Row) -> Record:
    messages: list[Message] = []
    for number, item in enumerate(row.content):
        made = _message(item, f"content[{number}]")
        goes_on = made.tool_calls and made.content is None and made.reasoning is None and messages
        if goes_on and messages[-1].tool_calls:
            messages[-1].tool_calls += made.tool_calls
        else:
            messages.append(made)
    beside, metadata = _beside(row.details)
    if not NAMELESS.fullmatch(row.id):
        keep_aside(metadata, "id", row.id)
    for name, value in ({name: getattr(row, name) for name in BESIDE} | _left_over(row.content)).items():
        if value:
            keep_aside(metadata, name, value)
    return Record(link_calls(messages), metadata=metadata, **msgspec.structs.asdict(beside))


def from_record(record: Record, dropped: Counter[str]) -> Row:
    messages = TURNS.fit(record.messages, dropped)
    items = [item for message in messages for item in _items(message, dropped)]
    _check_links(items, dropped)
    if merged := sum(_merged(before, after) for before, after in pairwise(messages)):
        dropped["messages"] += merged
    if record.rejected:
        dropped["rejected"] += 1
    details = dict(record.metadata)
    if details.pop(OURS, None) is not None:
        dropped[f"metadata.{OURS}"] += 1
    named = details.pop("id") if isinstance(details.get("id"), str) else None
    if named is not None and NAMELESS.fullmatch(named):
        dropped["metadata.id"] += 1
    beside = {name: getattr(record, name) for name in Beside.__struct_fields__}
    if kept := msgspec.to_builtins(Beside(**beside)):
        details[OURS] = kept
    return Row(_name(record) if named is None else named, items, VERSION, details=details)


def _name(record: Record) -> str:
    return f"tuneyard-{hashlib.sha256(msgspec.json.encode(record.messages)).hexdigest()[:16]}"


def _beside(details: dict[str, Any]) -> tuple[Beside, dict[str, Any]]:
    try:
        beside = msgspec.convert(details.get(OURS, {}), Beside)
    except msgspec.ValidationError:
        return Beside(), dict(details)
    return beside, {name: value for name, value in details.items() if name != OURS}


def _left_over(items: list[Item]) -> dict[str, dict[str, Any]]:
    """What no message is made of: by field, and by the item's number."""
    left: dict[str, dict[str, Any]] = {}
    for number, item in enumerate(items):
        for field, value in msgspec.structs.asdict(item).items():
            if value is not None and field != "class_" and field not in TAKEN[item.class_]:
                left.setdefault("rewards" if field == "reward" else field, {})[str(number)] = value
    return left


def _message(item: Item, where: str) -> Message:
    thought = item.reasoning_content
    if item.class_ == "message_action":
        thoughts = [text for text in (thought, item.description) if text is not None]
        return Message("assistant", item.content or "", reasoning="\n\n".join(thoughts) if thoughts else None)
    if item.class_ in ("api_action", "code_action"):
        return Message("assistant", item.description, tool_calls=[_call(item)], reasoning=thought)
    if item.class_ not in ("text_observation", "web_observation"):
        raise ValueError(f'{where}.class_: "{item.class_}" has no text; leave it out')
    if item.image_observation is not None:
        raise ValueError(f"{where}.image_observation: a record holds text alone; leave the image out")
    return _observed(item, _seen(item))


def _call(item: Item) -> Any:
    given = {"language": item.language, "content": item.content}
    call = (
        call_of("execute_code", given)
        if item.class_ == "code_action"
        else call_of(item.function or "", item.kwargs or {})
    )
    call.id = item.tool_call_id or ""
    return call


def _seen(item: Item) -> str:
    if item.class_ == "text_observation":
        return item.content or ""
    page = {name: getattr(item, name) for name in ("url", "axtree", "html", "viewport_size")}
    return msgspec.json.encode({name: value for name, value in page.items() if value is not None}).decode()


def _observed(item: Item, content: str) -> Message:
    if item.tool_call_id is None and (item.source == "system" or item.name in SYSTEM):
        return Message("developer" if item.name == "developer" else "system", content)
    if item.source in ("agent", "assistant") and item.tool_call_id is None:
        return Message("assistant", content, item.name, 0)  # what another said: seen, not learned
    if item.source in ("user", "user_msg"):
        return Message("user", content, item.name)
    return Message("tool", content, item.name, tool_call_id=item.tool_call_id)


def _items(message: Message, dropped: Counter[str]) -> list[Item]:
    if message.role == "assistant":
        return _actions(message, dropped)
    content = content_of(message, dropped)
    if message.role == "user":
        return [Item("text_observation", content=content, source="user", name=message.name)]
    if message.role == "tool":
        linked = message.tool_call_id
        return [Item("text_observation", content=content, source="environment", name=message.name, tool_call_id=linked)]
    if message.name is not None:
        dropped["messages[].name"] += 1
    return [Item("text_observation", content=content, source="environment", name=message.role)]


def _actions(message: Message, dropped: Counter[str]) -> list[Item]:
    if message.name is not None:
        dropped["messages[].name"] += 1
    if not message.tool_calls:
        said = content_of(message, dropped)
        return [Item("message_action", content=said, reasoning_content=message.reasoning)]
    if not all(call.id for call in message.tool_calls):
        dropped[ID] += 1  # what has none gets one when it is read again
    calls = [
        Item("api_action", call.function.name, arguments_of(call), tool_call_id=call.id) for call in message.tool_calls
    ]
    calls[0].description, calls[0].reasoning_content = message.content, message.reasoning
    return calls


def _check_links(items: list[Item], dropped: Counter[str]) -> None:
    """Take the ids from calls that nothing answers.

    Raises:
        ValueError: an answer belongs to no call or is the second one, or a call stands unanswered before another's
    """
    open_calls: dict[str | None, int] = {}
    seen: set[str | None] = set()
    for number, item in enumerate(items):
        if item.class_ == "api_action":
            if item.tool_call_id in seen:
                raise ValueError(f'{ID}: "{item.tool_call_id}" is there twice')
            seen.add(item.tool_call_id)
            open_calls[item.tool_call_id] = number
        elif (
            item.source == "environment" and item.name not in SYSTEM and open_calls.pop(item.tool_call_id, None) is None
        ):
            raise ValueError(f'messages[].tool_call_id: "{item.tool_call_id}" answers no call, or one that is answered')
    for number in open_calls.values():
        if number + 1 < len(items) and items[number + 1].source is not None:
            raise ValueError(
                f'{ID}: the call "{items[number].tool_call_id}" has no answer before something else is seen'
            )
        items[number].tool_call_id = None
        dropped[ID] += 1


def _merged(before: Message, after: Message) -> bool:
    """Whether two messages become one when they are read again."""
    return bool(before.tool_calls and after.tool_calls and after.content is None and after.reasoning is None)
