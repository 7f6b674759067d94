"""The same prompt with different answers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.data.contradictions import ContradictionOptions
from tasks.data.record import Message, Record
from tests.data.finders import find_contradictions

ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.sampled_from(["law", "math", None])))


def record(asked: str, answered: str, agent: str | None = None, **more: Any) -> Record:
    return Record([Message("user", asked), Message("assistant", answered)], target_agent=agent, **more)


def test_a_prompt_with_two_answers_contradicts_itself_and_the_report_shows_them():
    rows = [
        record("Is the yard open?", "It is."),
        record("Who?", "I."),
        record("is the  yard OPEN?", "No."),
        record("Is the yard open?", "it  is."),
    ]
    report = find_contradictions(rows)
    assert (report.prompts, report.contradictory_prompts, report.contradictory_examples) == (2, 1, 3)
    (found,) = report.contradictions
    assert found.text == "Is the yard open?"
    assert [(answer.text, answer.lines) for answer in found.answers] == [("It is.", (1, 4)), ("No.", (3,))]


def test_different_answers_of_different_agents_are_variety():
    rows = [record("Why?", "Because of the law.", "law"), record("Why?", "It follows.", "math")]
    report = find_contradictions([*rows, rows[0]])
    assert (report.contradictory_prompts, report.varied_prompts, report.varied_examples) == (0, 1, 3)


@pytest.mark.parametrize("agent", ["law", None])
def test_an_agent_with_two_answers_contradicts_itself(agent: str | None):
    rows = [record("Why?", "Because.", "law"), record("Why?", "It follows.", "math"), record("Why?", "Why not?", agent)]
    assert find_contradictions(rows).contradictory_prompts == 1


def test_another_system_prompt_is_another_prompt():
    def told(system: str, answer: str) -> Record:
        return Record([Message("system", system), Message("user", "Hello"), Message("assistant", answer)])

    assert find_contradictions([told("Be kind.", "Hello, dear."), told("Be short.", "Hi.")]).contradictory_prompts == 0
    assert find_contradictions([told("Be kind.", "Hello, dear."), told("Be kind.", "Hi.")]).contradictory_prompts == 1


def test_examples_without_an_answer_are_counted_and_not_compared():
    rows = [Record([Message("user", "Why?")]), Record([]), record("Why?", "Because.")]
    report = find_contradictions(rows)
    assert (report.examples, report.unanswered, report.prompts) == (3, 2, 1)


def test_texts_that_answer_nothing_contradict_nothing():
    alone = [Record([Message("assistant", text)]) for text in ("The yard is open.", "It rains.")]
    told = [Record([Message("system", "Write."), *row.messages]) for row in alone]
    report = find_contradictions([*alone, *told])
    assert (report.contradictory_prompts, report.unanswered) == (0, 4)


def test_nothing_contradicts_itself_in_an_empty_set():
    report = find_contradictions([])
    assert (report.examples, report.prompts, report.contradictions) == (0, 0, ())


@given(ROWS)
def test_the_counts_are_those_of_the_groups_whatever_the_order(rows: list[tuple[str, str, str | None]]):
    answers = {asked: {answer for prompt, answer, _ in rows if prompt == asked} for asked, _, _ in rows}
    several = [asked for asked in answers if len(answers[asked]) > 1]
    varied = [
        asked
        for asked in several
        if all(
            agent is not None
            and len({other for prompt, other, whose in rows if (prompt, whose) == (asked, agent)}) == 1
            for prompt, _, agent in rows
            if prompt == asked
        )
    ]
    records = [record(*row) for row in rows]
    for order in (records, records[::-1]):
        report = find_contradictions(order, ContradictionOptions(shown=1))
        assert (report.prompts, report.varied_prompts) == (len(answers), len(varied))
        assert report.contradictory_prompts == len(several) - len(varied)
