"""Which rules a row stands under, and what they find in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

from tasks.data.checking import (
    call_ids,
    calls,
    content,
    contents,
    conversation,
    keys,
    mistral,
    plain,
    preference,
    trainable,
    weights,
)
from tasks.data.checking.finding import Problem, Rule, Turns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tasks.data.checking.finding import Severity
    from tasks.data.checking.target import Kind, Target

Found = tuple[Rule, "Severity", Problem]

_TALK = (*content.RULES, *weights.RULES, *calls.RULES, *call_ids.RULES)
RULES: Mapping[Kind, tuple[Rule, ...]] = {
    "chat": (*keys.RULES, *conversation.RULES, *_TALK),
    "preference": (*keys.RULES, *conversation.INPUT_RULES, *_TALK, *preference.RULES),
    "contents": (keys.UNKNOWN_KEY, *contents.RULES),
    "completion": (keys.UNKNOWN_KEY, weights.OF_EXAMPLE, *plain.TEXT_RULES),
    "text": (keys.UNKNOWN_KEY, weights.OF_EXAMPLE, *plain.TEXT_RULES),
    "tokens": (keys.UNKNOWN_KEY, *plain.TOKEN_RULES),
}
_ASKED_BEFORE = ("tools", "tool-description")  # of a preference's input
ANSWER_RULES = (
    keys.UNKNOWN_MESSAGE_KEY,
    conversation.NAME,
    *(rule for rule in _TALK if rule is not weights.OF_EXAMPLE and rule.name not in _ASKED_BEFORE),
)
LAST_RULES = (*mistral.RULES, *trainable.RULES)
# those of a talk that look at what stands beside its messages: at the keys, and at the values of some
BESIDE_VALUES = frozenset({"weight", "parallel_tool_calls"})
BESIDE = tuple(rule for rule in RULES["chat"] if rule.name in ("unknown-key", "tools", "example-weight"))
_MESSAGES_KEY: Mapping[Kind, str] = {"chat": "messages", "contents": "contents"}
ROW = Rule("row", "rows of a kind that the target takes", "blocking", lambda turns, target: iter(()))


def every_rule() -> dict[str, Rule]:
    """Every rule over rows, by its name."""
    found = [rule for rules in RULES.values() for rule in rules]
    return {rule.name: rule for rule in (ROW, *found, *LAST_RULES)}


def skipped_rules(target: Target) -> list[str]:
    """The rules of a target that cannot be asked here, since what they need is not installed."""
    return [] if mistral.INSTALLED or target.name != "mistral" else [f"{target.name}.{mistral.NAME}"]


def judge(row: dict[str, Any], target: Target, *, plain: bool = False) -> list[Found]:
    """What the target's rules find in a row; with `plain` its messages are known to be right."""
    turns = turns_of(row, target)
    if isinstance(turns, Problem):
        return [(ROW, "blocking", turns)]
    if plain and keys.LONG.isdisjoint(row):
        return list(_ask(BESIDE, turns, target))
    found = list(_ask(RULES[keys.kind_of(row) or "chat"], turns, target))
    for side in _answers(turns):
        found += _ask(ANSWER_RULES, side, target)
    if not any(severity == "blocking" for _, severity, _ in found):
        found += _ask(LAST_RULES, turns, target)
    return found


def mend(row: dict[str, Any], target: Target, found: list[Found]) -> None:
    """Apply, in place, the repairs of the rules that found something mendable."""
    turns = turns_of(row, target)
    if isinstance(turns, Problem):
        return
    for rule in _mendable(found):
        if rule.mend is not None:
            rule.mend(turns, target)
            for side in _answers(turns) if rule in ANSWER_RULES else ():
                rule.mend(side, target)


def mend_own(row: dict[str, Any], target: Target, found: list[Found]) -> None:
    """Apply, to a dataset's own row in place, what was found mendable in the row that the target would get of it."""
    for rule in _mendable(found):
        if rule.mend is not None and rule in RULES["chat"] and rule not in keys.RULES:
            for name in ("messages", "rejected"):
                if row.get(name):
                    rule.mend(Turns(row, row[name], row, name), target)


def _mendable(found: list[Found]) -> list[Rule]:
    return list(dict.fromkeys(rule for rule, _, problem in found if problem.fixable))


def turns_of(row: dict[str, Any], target: Target) -> Turns | Problem:
    """The messages of a row, or why there are none to look at."""
    kind = keys.kind_of(row)
    if kind is None or kind not in target.kinds:
        wanted = " or ".join("+".join(sorted(known & _NAMED)) for known in target.kinds.values())
        repair = f"{target.name} wants {wanted}; `tuneyard data convert` writes it"
        return Problem("", f"the keys are {', '.join(sorted(row)) or 'none'}", repair)
    if kind not in (*_MESSAGES_KEY, "preference"):
        return Turns(row, [], row, "")
    beside, key = (row.get("input"), "messages") if kind == "preference" else (row, _MESSAGES_KEY[kind])
    path = f"input.{key}" if kind == "preference" else key
    messages = beside.get(key) if isinstance(beside, dict) else None
    if not isinstance(beside, dict) or not _is_list_of_objects(messages):
        return Problem(path, "no list of messages", f"give {path} a list of at least one object")
    return Turns(row, messages, beside, path)


def _answers(turns: Turns) -> list[Turns]:
    """The two answers of a preference, each a talk of its own with the tools of the request; else none."""
    if not turns.prefix:
        return []
    sides = [(name, turns.row.get(name)) for name in preference.SIDES]
    return [Turns(turns.row, side, turns.beside, name) for name, side in sides if _is_list_of_objects(side)]


def _is_list_of_objects(value: Any) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


_NAMED = frozenset({"messages", "input", "preferred_output", "non_preferred_output", "contents"}) | frozenset(
    {"prompt", "completion", "text", "token_ids", "labels"}
)


def _ask(rules: tuple[Rule, ...], turns: Turns, target: Target) -> Iterator[Found]:
    for rule in rules:
        severity = target.heeds(rule.name, rule.severity)
        if severity != "off":
            for problem in rule.find(turns, target):
                yield rule, severity, problem
