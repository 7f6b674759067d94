"""Rules about rows without messages: prompt and completion, bare text, and tokens made beforehand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.data.checking.finding import Problem, Rule, Turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.checking.target import Target


def _texts(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    wanted = ("text",) if "text" in turns.row else ("prompt", "completion")
    for key in wanted:
        value = turns.row.get(key)
        if not isinstance(value, str) or not value.strip():
            yield Problem(key, "no text", f"give a text in {key}, or leave the example out")


def _tokens(turns: Turns, target: Target) -> Iterator[Problem]:
    del target
    ids, labels = turns.row.get("token_ids"), turns.row.get("labels")
    if not _whole_numbers(ids) or not ids:
        yield Problem("token_ids", "no list of whole numbers", "give the ids of the tokens")
    elif not _whole_numbers(labels) or len(labels or ()) != len(ids):
        yield Problem("labels", "not one whole number for each token", "give a label for each token, -100 for none")


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(number) is int for number in value)


TEXT_RULES = (Rule("text", "texts that are not blank", "blocking", _texts),)
TOKEN_RULES = (Rule("tokens-shape", "ids and labels of one length", "blocking", _tokens),)
