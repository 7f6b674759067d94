"""The short way: rows of plain talk that no rule can object to, told apart without asking every rule.

A row passes if it is nothing but messages with role and text, no text is blank, no key stands twice, and the rules –
asked once – have nothing against its order of roles. Where more stands beside the messages, only the rules about that
are asked; everything else takes the long way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from tasks.data.checking.rulebook import judge
from tasks.data.checking.target_lines import keys_in

if TYPE_CHECKING:
    from tasks.data.checking.target import Target
    from tasks.data.checking.target_lines import Line

_REMEMBERED = 10_000  # orders of roles
_Decoder = msgspec.json.Decoder[Any]


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: Literal["system", "user", "assistant"]
    content: str


class _Row(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    messages: list[_Message]


class _WeightedRow(_Row, forbid_unknown_fields=True, gc=False):
    """As Together takes it."""

    weight: Annotated[float, msgspec.Meta(ge=0)] | msgspec.UnsetType = msgspec.UNSET


class _OpenRow(msgspec.Struct, gc=False):
    """Whatever stands beside the messages."""

    messages: list[_Message]


class PlainTalk:
    """Recognises, for one target, rows of plain talk."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._takes_talk = "chat" in target.kinds
        self._row: _Decoder = msgspec.json.Decoder(_WeightedRow if target.name == "together" else _Row)
        self._open_row: _Decoder = msgspec.json.Decoder(_OpenRow)
        self._orders: dict[tuple[str, ...], bool] = {}

    def texts(self, line: Line) -> list[str] | None:
        """The texts of a row that is certainly right, and None for every other; roles are not among them."""
        row = self._plain(line, self._row)
        if row is None:
            return None
        texts = [message.content for message in row.messages]
        keys = 1 + 2 * len(texts) + (getattr(row, "weight", msgspec.UNSET) is not msgspec.UNSET)
        return texts if line.record is not None or keys_in(line.raw) == keys else None

    def is_plain(self, line: Line) -> bool:
        """Whether only what stands beside the messages can be wrong with a row."""
        return self._plain(line, self._open_row) is not None

    def _plain(self, line: Line, decoder: _Decoder) -> Any:
        if not self._takes_talk or line.refusal is not None:
            return None
        try:
            row = decoder.decode(line.raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        for message in row.messages:
            if not message.content or message.content.isspace():
                return None
        return row if self._in_order(tuple([message.role for message in row.messages])) else None

    def _in_order(self, roles: tuple[str, ...]) -> bool:
        known = self._orders.get(roles)
        if known is None:
            row = {"messages": [{"role": role, "content": "text"} for role in roles]}
            known = not judge(row, self._target)
            if len(self._orders) < _REMEMBERED:
                self._orders[roles] = known
        return known
