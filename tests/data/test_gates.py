"""Thresholds judge what was measured."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tasks.data.gates import Check, Thresholds, judge, unmeasured


def judged(limits: dict[str, float], measured: dict[str, int], examples: int) -> dict[str, Check]:
    """The checks by name, of a dataset whose rows can all be read."""
    whole = {"bad_rows": 0, "examples": examples} | measured
    return {check.name: check for check in judge(Thresholds.model_validate(limits), whole, examples)}


@pytest.mark.parametrize(
    ("limit", "measured", "passed"),
    [
        (0, 0, True),
        (0, 1, False),
        (0.01, 10, True),
        (0.01, 11, False),
        (1, 1, True),
        (1, 2, False),
        (25, 25, True),
        (25, 26, False),
    ],
)
def test_a_limit_below_one_is_a_share_and_from_one_on_a_number(limit: float, measured: int, passed: bool) -> None:
    check = judged({"max_pii": limit}, {"pii": measured}, examples=1000)["max_pii"]
    assert check.passed is passed
    assert (check.share is not None) is (0 < limit < 1)


def test_a_minimum_is_held_against_the_examples() -> None:
    checks = [judged({"min_examples": 100}, {}, examples=n)["min_examples"] for n in (99, 100)]
    assert [check.passed for check in checks] == [False, True]


def test_what_is_not_given_is_not_judged() -> None:
    assert judge(Thresholds(), {}, examples=0) == []


def test_bad_rows_are_a_share_of_all_rows_even_where_no_row_is_good() -> None:
    check = judged({"max_bad_rows": 0.5}, {"bad_rows": 3}, examples=0)["max_bad_rows"]
    assert check.share == 1.0
    assert not check.passed


@pytest.mark.parametrize(("examples", "bad_rows"), [(0, 0), (0, 2), (10, 1)])
def test_what_was_not_read_passes_no_gate(examples: int, bad_rows: int) -> None:
    checks = judged({"max_secrets": 0}, {"secrets": 0, "bad_rows": bad_rows}, examples)
    assert checks["max_secrets"].passed
    assert checks["min_examples"].passed is (examples > 0)
    assert checks["max_bad_rows"].passed is (bad_rows == 0)


def test_a_gate_may_be_told_to_let_bad_rows_and_nothing_pass() -> None:
    checks = judged({"max_secrets": 0, "max_bad_rows": 2, "min_examples": 0}, {"secrets": 0, "bad_rows": 2}, 0)
    assert all(check.passed for check in checks.values())


def test_every_threshold_that_a_missing_part_would_measure_is_named() -> None:
    off = {"personal": frozenset({"pii", "secrets"})}
    assert unmeasured(Thresholds(max_secrets=0, max_mojibake=0), off) == [("max_secrets", "personal")]


def test_a_check_reads_as_what_was_wanted_and_found() -> None:
    share = judged({"max_mojibake": 0.01}, {"mojibake": 20}, examples=1000)["max_mojibake"]
    number = judged({"max_secrets": 0}, {"secrets": 2}, examples=1000)["max_secrets"]
    assert str(share) == "max_mojibake=0.01: 20 (2.00%)"
    assert str(number) == "max_secrets=0: 2"


@pytest.mark.parametrize("wrong", [{"max_pii": -1}, {"max_typo": 1}, {"min_examples": 0.5}])
def test_a_threshold_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Thresholds.model_validate(wrong)
