"""Mistral's own judgement, by mistral-common, where that is installed: it has the order rules of the open weights."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tasks.data.checking.finding import Problem, Rule, Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tasks.data.checking.target import Target

NAME = "mistral-common"
INSTALLED = find_spec("mistral_common") is not None


@cache
def _judge() -> Callable[[list[dict[str, Any]], Any], None]:
    """A function that raises what mistral-common says; loading it takes most of a second."""
    from mistral_common.protocol.instruct.messages import (
        FinetuningAssistantMessage,
        SystemMessage,
        ToolMessage,
        UserMessage,
    )
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.protocol.instruct.validator import MistralRequestValidatorV3, ValidationMode

    types = {
        "system": SystemMessage,
        "user": UserMessage,
        "assistant": FinetuningAssistantMessage,
        "tool": ToolMessage,
    }
    validator: Any = MistralRequestValidatorV3(mode=ValidationMode.finetuning)

    def judge(turns: list[dict[str, Any]], tools: Any) -> None:
        messages = [types[message["role"]].model_validate(message) for message in turns]
        validator.validate_request(ChatCompletionRequest(messages=messages, tools=tools))

    return judge


def _by_mistral_common(turns: Turns, target: Target) -> Iterator[Problem]:
    from mistral_common.exceptions import MistralCommonException
    from pydantic import ValidationError

    if target.name != "mistral" or any(message.get("role") not in target.roles for message in turns.messages):
        return
    try:
        _judge()(turns.messages, turns.beside.get("tools"))
    except MistralCommonException as error:
        yield Problem(turns.path, _one_line(str(error)), "mistral-common takes no such example; see its words")
    except ValidationError as error:
        for found in error.errors(include_url=False, include_input=False, include_context=False)[:1]:
            field = ".".join(str(part) for part in found["loc"])
            yield Problem(turns.path, f"{field}: {found['msg']}", "mistral-common takes no such example")


def _one_line(text: str) -> str:
    return " ".join(text.split()) or "refused without a word"


# asked only where no other rule blocks: it says again, in other words, what they say
RULES = (Rule(NAME, "what mistral-common validates", "blocking", _by_mistral_common),) if INSTALLED else ()
