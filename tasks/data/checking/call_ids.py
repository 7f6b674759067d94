"""Rules about the ids of calls, by which an answer finds its call."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import count, takewhile
from typing import TYPE_CHECKING, Any

from tasks.data.checking.calls import calls_in
from tasks.data.checking.finding import Problem, Rule, Turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.checking.target import Target

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _unique(turns: Turns, target: Target) -> Iterator[Problem]:
    """Two calls of one message with one id: nobody can tell which of them an answer is for."""
    del target
    for index in range(len(turns.messages)):
        seen: set[str] = set()
        for where, call in calls_in(turns, index):
            if call["id"] in seen:
                text = f"the id {call['id']!r} stands twice in a message"
                yield Problem(f"{where}.id", text, "give every call an id of its own")
            seen.add(call["id"])


def _repeated(turns: Turns, target: Target) -> Iterator[Problem]:
    """The id of a call in an earlier message; every answer follows its own call, so they can be told apart."""
    del target
    clear: dict[str, bool] = {}  # the ids seen twice
    seen: set[str] = set()
    for index in range(len(turns.messages)):
        here = list(calls_in(turns, index))
        for where, call in here:
            if call["id"] in seen:
                if call["id"] not in clear:
                    clear[call["id"]] = _answered_at_once(turns, call["id"])
                text = f"the id {call['id']!r} was given to an earlier call"
                yield Problem(f"{where}.id", text, "give every call an id of its own", clear[call["id"]])
        seen |= {call["id"] for _, call in here}


def _answered_at_once(turns: Turns, call_id: str) -> bool:
    """Whether every answer with this id stands among those right after a message that calls with it, once."""
    every = sum(message.get("tool_call_id") == call_id for message in turns.messages)
    at_once = 0
    for index in range(len(turns.messages)):
        times = sum(call["id"] == call_id for _, call in calls_in(turns, index))
        answers = sum(answer.get("tool_call_id") == call_id for answer in _answers_after(turns, index)) if times else 0
        if times > 1 or answers > 1:
            return False
        at_once += answers
    return bool(at_once == every)


def _answers_after(turns: Turns, index: int) -> Iterator[dict[str, Any]]:
    return takewhile(lambda message: message.get("role") == "tool", turns.messages[index + 1 :])


def _renew_repeated(turns: Turns, target: Target) -> None:
    """Later calls get a new id, made of the old one, and their answers with them."""
    times = Counter(call["id"] for _, call in calls_in(turns))
    clear = {call_id for call_id, many in times.items() if many > 1 and _answered_at_once(turns, call_id)}
    taken, seen = set(times), Counter[str]()
    for index in range(len(turns.messages)):
        for _, call in calls_in(turns, index):
            old = call["id"]
            seen[old] += 1
            if old in clear and seen[old] > 1:
                call["id"] = new = _free_id(old, seen[old], taken, target.call_id_length)
                for answer in _answers_after(turns, index):
                    if answer.get("tool_call_id") == old:
                        answer["tool_call_id"] = new


def _free_id(call_id: str, number: int, taken: set[str], length: int | None) -> str:
    made = (f"{call_id}_{one}" for one in count(number))
    found = next(new for one in made if (new := one if length is None else _short(one, length)) not in taken)
    taken.add(found)
    return found


def _id_length(turns: Turns, target: Target) -> Iterator[Problem]:
    if target.call_id_length is None:
        return
    for where, call in calls_in(turns):
        if not _fits(call["id"], target.call_id_length):
            repair = f"use {target.call_id_length} letters and digits, the same in the answer"
            yield Problem(f"{where}.id", f"found {call['id']!r}", repair, fixable=True)


def _shorten_ids(turns: Turns, target: Target) -> None:
    """The new id is made of the old one, so that call and answer still meet."""
    length = target.call_id_length
    if length is None:
        return
    new = {c["id"]: _short(c["id"], length) for _, c in calls_in(turns) if not _fits(c["id"], length)}
    for _, call in calls_in(turns):
        call["id"] = new.get(call["id"], call["id"])
    for message in turns.messages:
        asked = message.get("tool_call_id")
        if isinstance(asked, str):
            message["tool_call_id"] = new.get(asked, asked)


def _fits(call_id: str, length: int) -> bool:
    return len(call_id) == length and call_id.isascii() and call_id.isalnum()


def _short(call_id: str, length: int) -> str:
    number = int.from_bytes(hashlib.sha256(call_id.encode()).digest())
    return "".join(_DIGITS[number // len(_DIGITS) ** place % len(_DIGITS)] for place in range(length))


RULES = (
    Rule("call-id-unique", "an id of its own for every call of a message", "blocking", _unique),
    Rule("call-id-repeated", "an id of its own for every call of a talk", "warning", _repeated, _renew_repeated),
    Rule("call-id-length", "ids as long as the target has them", "blocking", _id_length, _shorten_ids),
)
