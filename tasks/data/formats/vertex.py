"""Vertex AI's rows for Gemini: contents with parts, and the system's text beside them."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from tasks.data.calls import arguments_of, call_of, count_ids, link_calls
from tasks.data.record import Message, Record, Role, count_unheld
from tasks.data.turns import Turns, content_of

if TYPE_CHECKING:
    from collections import Counter

SUMMARY = "contents with parts as Vertex AI takes them, systemInstruction, tools"
HELD = frozenset({"tools"})
TURNS = Turns(names=False)


class FunctionCall(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    args: dict[str, Any] = {}


class FunctionResponse(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    response: dict[str, Any]


class Part(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    text: str | None = None
    functionCall: FunctionCall | None = None  # noqa: N815  (Vertex' spelling)
    functionResponse: FunctionResponse | None = None  # noqa: N815


class Declaration(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    parametersJsonSchema: Any = None  # noqa: N815
    response: dict[str, Any] | None = None
    responseJsonSchema: Any = None  # noqa: N815


DECLARED = Declaration.__struct_fields__


class Tool(msgspec.Struct, forbid_unknown_fields=True):
    functionDeclarations: list[Declaration]  # noqa: N815


class Content(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    parts: list[Part]
    role: Literal["user", "model", "function", "tool", "system"] | None = None


class Row(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    contents: list[Content]
    systemInstruction: Content | None = None  # noqa: N815
    tools: list[Tool] = []


def recognises(keys: frozenset[str]) -> bool:
    return "contents" in keys


def to_record(row: Row) -> Record:
    messages: list[Message] = []
    for number, part in enumerate(row.systemInstruction.parts if row.systemInstruction else []):
        if _kind(part, f"systemInstruction.parts[{number}]") != "text":
            raise ValueError(f"systemInstruction.parts[{number}]: must be a text")
        messages.append(Message("system", part.text))
    for number, content in enumerate(row.contents):
        messages += _messages(content, f"contents[{number}]")
    link_calls(messages)
    for message in messages:
        message.name = None
    declared = (function for tool in row.tools for function in tool.functionDeclarations)
    return Record(messages, [{"type": "function", "function": msgspec.to_builtins(function)} for function in declared])


def from_record(record: Record, dropped: Counter[str]) -> Row:
    messages = TURNS.fit(record.messages, dropped)
    count_ids(messages, dropped)
    count_unheld(record, HELD, dropped)
    leading = len(list(takewhile(lambda message: message.role == "system", messages)))
    system = [message for message in messages if message.role == "system"]
    if len(system) > leading:
        dropped["messages[].role"] += len(system) - leading
    parts = [Part(content_of(message, dropped)) for message in system]
    contents = _contents([message for message in messages if message.role != "system"], dropped)
    tools = [Tool(declared)] if (declared := _declared(record.tools, dropped)) else []
    return Row(contents, Content(parts) if parts else None, tools)


def _kind(part: Part, where: str) -> str:
    """Which one of its fields a part holds."""
    kinds = [name for name in Part.__struct_fields__ if getattr(part, name) is not None]
    if len(kinds) != 1:
        raise ValueError(f"{where}: must hold one of {', '.join(Part.__struct_fields__)}")
    return kinds[0]


def _messages(content: Content, where: str) -> list[Message]:
    """What one speaker says, calls and answers in a row; texts beside one another are one."""
    role: Role = "assistant" if content.role == "model" else "system" if content.role == "system" else "user"
    made: list[Message] = []
    for number, part in enumerate(content.parts):
        kind, last = _kind(part, f"{where}.parts[{number}]"), made[-1] if made else None
        if kind != "text" and role != ("assistant" if kind == "functionCall" else "user"):
            raise ValueError(f"{where}.parts[{number}].{kind}: is not for the role {content.role or 'user'}")
        if part.text is not None:
            if last and last.role == role and not last.tool_calls:
                last.content = f"{last.content}{part.text}"
            else:
                made.append(Message(role, part.text))
        elif part.functionCall:
            if last is None:
                made.append(last := Message("assistant"))
            last.tool_calls.append(call_of(part.functionCall.name, part.functionCall.args))
        elif part.functionResponse:
            made.append(Message("tool", _told(part.functionResponse.response), part.functionResponse.name))
    if not made:
        raise ValueError(f"{where}.parts: is empty")
    return made


def _contents(messages: list[Message], dropped: Counter[str]) -> list[Content]:
    contents: list[Content] = []
    names: dict[str | None, str] = {}
    for number, message in enumerate(messages):
        names |= {call.id: call.function.name for call in message.tool_calls}
        if message.role == "tool":
            if message.tool_call_id not in names:
                raise ValueError("messages[].tool_call_id: a tool's answer refers to no call before it")
            response = FunctionResponse(names[message.tool_call_id], _response(content_of(message, dropped)))
            part = Part(functionResponse=response)
            if number and messages[number - 1].role == "tool":
                contents[-1].parts.append(part)
            else:
                contents.append(Content([part], "user"))
        else:
            contents.append(Content(_parts(message, dropped), "model" if message.role == "assistant" else "user"))
    return contents


def _parts(message: Message, dropped: Counter[str]) -> list[Part]:
    calls = [Part(functionCall=FunctionCall(call.function.name, arguments_of(call))) for call in message.tool_calls]
    if calls and not message.content:
        if message.content is not None:
            dropped["messages[].content"] += 1
        return calls
    return [Part(content_of(message, dropped)), *calls]


def _response(text: str) -> dict[str, Any]:
    """The answer itself where it is an object in JSON; else an object around it."""
    try:
        value = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {"output": text}
    return value if _told(value) == text else {"output": text}


def _told(response: dict[str, Any]) -> str:
    if response.keys() == {"output"} and isinstance(response["output"], str):
        return response["output"]
    return msgspec.json.encode(response).decode()


def _declared(tools: list[dict[str, Any]], dropped: Counter[str]) -> list[Declaration]:
    functions = [tool["function"] for tool in tools if isinstance(tool.get("function"), dict)]
    if len(functions) < len(tools):
        dropped["tools"] += 1
    for key in {key for function in functions for key in function if key not in DECLARED}:
        dropped[f"tools[].function.{key}"] += 1
    declared = [{key: function[key] for key in DECLARED if key in function} for function in functions]
    try:
        return msgspec.convert(declared, list[Declaration])
    except msgspec.ValidationError as error:
        raise ValueError(f"tools[].function: {error}") from None
