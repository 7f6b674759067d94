"""What each target takes: data for the rules.

Where a provider does not say, the rule stays a warning for it and its text says that it is not documented. Sources of
the differences: OpenAI's schema and cookbook, the SDKs and the providers' pages, named beside the limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from queue_app.errors import Invalid
from queue_app.job_type import nearest

Kind = Literal["chat", "preference", "completion", "text", "contents", "tokens"]
Heed = Literal["blocking", "warning", "off"]

CHAT = frozenset({"messages", "tools"})
PREFERENCE = frozenset({"input", "preferred_output", "non_preferred_output"})
COMPLETION = frozenset({"prompt", "completion"})
TEXT = frozenset({"text"})
ROLES = frozenset({"system", "user", "assistant", "tool"})
MESSAGE = frozenset({"role", "content", "name", "tool_calls", "tool_call_id"})
OPENAI_MESSAGE = MESSAGE | {"weight", "refusal", "function_call"}
OPENAI_CHAT = CHAT | {"parallel_tool_calls", "functions"}


@dataclass(frozen=True)
class Target:
    """One provider, or one way of training there."""

    name: str
    format: str  # the module in `tasks.data.formats` that makes its rows
    kinds: Mapping[Kind, frozenset[str]]  # kind of row → keys that it may have
    roles: frozenset[str] = ROLES
    message_keys: frozenset[str] = MESSAGE
    heed: Mapping[str, Heed] = field(
        default_factory=dict
    )  # rule → how this target takes it, where not as the rule says
    byte_order_mark: bool = False  # whether the file must begin with one
    call_id_length: int | None = None
    note: str = ""

    def heeds(self, rule: str, severity: Heed) -> Heed:
        return self.heed.get(rule, severity)


_OPENAI_HEED: Mapping[str, Heed] = {"alternation": "off", "system-count": "warning", "system-place": "warning"}
_UNDOCUMENTED: Mapping[str, Heed] = {
    "unknown-key": "warning",
    "unknown-message-key": "warning",
    "call-answered": "warning",
    "system-count": "warning",
    "system-place": "warning",
}

TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        Target(
            "openai",
            "openai",
            {"chat": OPENAI_CHAT},
            roles=ROLES | {"developer"},
            message_keys=OPENAI_MESSAGE,
            heed=_OPENAI_HEED,
        ),
        Target(
            "openai_preference",
            "openai_preference",
            {"preference": PREFERENCE},
            roles=ROLES | {"developer"},
            message_keys=OPENAI_MESSAGE,
            heed=_OPENAI_HEED,
        ),
        Target(
            "azure",
            "openai",
            {"chat": OPENAI_CHAT, "preference": PREFERENCE},
            roles=ROLES | {"developer"},
            message_keys=OPENAI_MESSAGE,
            heed={**_OPENAI_HEED, "unknown-key": "warning"},
            byte_order_mark=True,
            note="whether Azure takes keys that OpenAI refuses is not documented",
        ),
        Target(
            "together",
            "together",
            {
                "chat": CHAT | {"weight"},
                "preference": PREFERENCE,
                "completion": COMPLETION | {"weight"},
                "text": TEXT | {"weight"},
            },
            message_keys=MESSAGE | {"weight", "reasoning", "reasoning_content"},
            heed={"last-message": "warning", "call-answered": "warning"},
            note="the context is a matter of the model (GET /v1/fine-tunes/models/limits): give it as max_tokens",
        ),
        Target(
            "fireworks",
            "fireworks",
            {"chat": CHAT | {"weight"}, "preference": PREFERENCE},
            roles=ROLES | {"developer"},
            message_keys=MESSAGE | {"weight", "reasoning_content", "refusal"},
            heed={**_UNDOCUMENTED, "alternation": "off", "last-message": "warning"},
            note="the context is a matter of the training shape: give it as max_tokens",
        ),
        Target(
            "nebius",
            "nebius",
            {"chat": CHAT, "completion": COMPLETION, "text": TEXT, "tokens": frozenset({"token_ids", "labels"})},
            heed={**_UNDOCUMENTED, "alternation": "off", "last-text": "blocking"},
            note="whether Nebius heeds message weights, and its least number of examples, is not documented",
        ),
        Target(
            "mistral",
            "mistral",
            {"chat": CHAT},
            message_keys=MESSAGE | {"weight", "prefix"},
            heed={"unknown-key": "warning", "alternation": "off"},
            call_id_length=9,
            note="Mistral takes no fine-tuning jobs any more (410 Gone since 2026-07); its weights are tuned elsewhere",
        ),
        Target(
            "vertex",
            "vertex",
            {"contents": frozenset({"contents", "systemInstruction", "tools", "toolConfig", "generationConfig"})},
            roles=frozenset({"user", "model", "function"}),
            heed=_UNDOCUMENTED,
            note="Vertex documents contents, parts and the role model; keys beside those of its API are warned about",
        ),
        Target(
            "local",
            "chat",
            {
                "chat": frozenset(
                    {
                        "messages",
                        "tools",
                        "rejected",
                        "parallel_tool_calls",
                        "weight",
                        "source_agent",
                        "target_agent",
                        "category",
                        "difficulty",
                        "origin",
                        "metadata",
                    }
                )
            },
            roles=ROLES | {"developer"},
            message_keys=MESSAGE | {"weight", "reasoning"},
            heed={
                "alternation": "off",
                "call-answered": "warning",
                "weight-value": "warning",
                "system-count": "warning",
                "system-place": "warning",
            },
            note="tokens are those of the texts; the chat template's own come on top",
        ),
    )
}


def find_target(name: str) -> Target:
    """The target called `name`.

    Raises:
        Invalid: there is none; names the nearest
    """
    if name not in TARGETS:
        raise Invalid(f'there is no target "{name}"{nearest(name, list(TARGETS))} (known: {", ".join(TARGETS)})')
    return TARGETS[name]
