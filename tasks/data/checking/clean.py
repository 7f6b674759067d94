"""The short way: rows of plain talk that no rule can object to, told apart without asking every rule.

The messages pass if they have nothing but role and text, no text is blank, and the rules – asked once – have nothing
against their order of roles. What stands beside them is left as bytes, for the few rules that look at it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from tasks.data.checking.rulebook import judge
from tasks.data.checking.target_lines import count_keys, keys_in

if TYPE_CHECKING:
    from tasks.data.checking.target import Target
    from tasks.data.checking.target_lines import Line

_REMEMBERED = 10_000  # orders of roles
_UNFIT = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NESTED = (dict, list)
_decode = msgspec.json.Decoder().decode
_ROW = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: Literal["system", "user", "assistant"]
    content: str


_MESSAGES = msgspec.json.Decoder(list[_Message])


class Talk(NamedTuple):
    """A row whose messages are certainly right."""

    row: dict[str, msgspec.Raw]
    beside: dict[str, bytes]  # the values without the messages
    texts: list[str]  # no roles
    doubled: bool  # whether a key may stand twice


class PlainTalk:
    """Recognises, for one target, rows of plain talk."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._takes_talk = "chat" in target.kinds
        self._orders: dict[tuple[str, ...], bool] = {}

    def talk(self, line: Line) -> Talk | None:
        """A row of which only what stands beside the messages can be wrong, and None for every other."""
        if not self._takes_talk or line.refusal is not None:
            return None
        try:
            row = _ROW.decode(line.raw)
            messages = _MESSAGES.decode(row["messages"])
            beside = {name: bytes(value) for name, value in row.items() if name != "messages"} if len(row) > 1 else {}
            values = [_decode(value) for value in beside.values()]  # what was passed over may still be no JSON
        except (*_UNFIT, KeyError):
            return None
        texts = [message.content for message in messages]
        if not all(texts) or any(map(str.isspace, texts)):
            return None
        if not self._in_order(tuple([message.role for message in messages])):
            return None
        keys = (
            1
            + 2 * len(texts)
            + len(beside)
            + sum([count_keys(value) for value in values if value.__class__ in _NESTED])
        )
        return Talk(row, beside, texts, line.record is None and keys_in(line.raw) != keys)

    def _in_order(self, roles: tuple[str, ...]) -> bool:
        known = self._orders.get(roles)
        if known is None:
            row = {"messages": [{"role": role, "content": "text"} for role in roles]}
            known = not judge(row, self._target)
            if len(self._orders) < _REMEMBERED:
                self._orders[roles] = known
        return known
