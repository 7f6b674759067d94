"""Examples that another dataset has."""

from __future__ import annotations

import random
from pydoc_data.topics import topics

import pytest

from tasks.data.leakage import LeakOptions
from tasks.data.likeness.overlap import COMMON
from tasks.data.record import Message, Record
from tests.data.finders import find_leaks

QUESTION = (
    "The night train to the coast leaves the yard at nine with fourteen wagons and loses three of them at every stop"
)


def record(asked: str, answered: str = "So it is.") -> Record:
    return Record([Message("user", asked), Message("assistant", answered)])


def passages() -> list[str]:
    """Distinct prose of 200 to 600 characters, the same every time."""
    paragraphs = (" ".join(part.split()) for topic in sorted(topics) for part in topics[topic].split("\n\n"))
    return sorted({part[:600] for part in paragraphs if len(part) >= 200})


def test_what_a_holdout_has_word_for_word_or_nearly_has_leaked_and_the_report_says_where():
    rows = [record("Who is on duty?"), record(f"{QUESTION}?"), record(f"{QUESTION}!", "so  IT is.")]
    report = find_leaks(rows, {"holdout": [record("What?"), record(f"{QUESTION}?")]}, LeakOptions(run=None))
    assert (report.examples, report.known, report.leaked) == (3, {"holdout": 2}, 2)
    assert [(leak.line, leak.kind, leak.dataset, leak.twin) for leak in report.leaks] == [
        (2, "same", "holdout", 2),
        (3, "near", "holdout", 2),
    ]


def test_a_question_of_a_benchmark_has_leaked_whatever_it_is_answered_and_however_short_it_is():
    asked = "What is the capital of Peru?"
    told = Record([Message("system", "Be brief."), Message("user", f"{asked.upper()} "), Message("assistant", "Lima.")])
    report = find_leaks([record("Who?"), told], {"benchmark": [record(asked, "Answer: B"), record("Who?", "Me.")]})
    assert [(leak.line, leak.kind, leak.twin) for leak in report.leaks] == [(2, "prompt", 1)]
    assert (report.prompt, report.leaked) == (1, 1), "one word is nobody's question"
    only = Record([Message("user", asked)])
    assert find_leaks([told], {"benchmark": [only]}).prompt == 1, "a benchmark may have no answers"
    assert find_leaks([told], {"benchmark": [only]}, LeakOptions(prompt=None)).leaked == 0


def test_one_answer_to_different_questions_is_no_leak():
    canned = " ".join(passages()[:2])
    known, own = record("Cancel my order", canned), record("Where is my parcel?", canned)
    assert find_leaks([own], {"holdout": [known]}, LeakOptions(run=None)).leaked == 0


def test_a_run_of_words_in_another_text_is_an_overlap_without_regard_to_punctuation():
    around = f"{' '.join(passages()[0].split()[:40])} {QUESTION.upper().replace(' and ', ', and ')}! {passages()[1]}"
    report = find_leaks([record(around)], {"benchmark": [record(QUESTION)]})
    assert (report.same, report.near, report.overlap) == (0, 0, 1)
    assert 0.7 < report.leaks[0].similarity < 1, "all runs of the question, but not those that reach into its answer"


@pytest.mark.parametrize(("words", "leaked"), [(12, 0), (13, 1)])
def test_thirteen_words_in_a_row_are_a_run_and_twelve_are_none(words: int, leaked: int):
    asked = f"Listen: {' '.join(QUESTION.split()[:words])} – that is what I heard about it."
    assert find_leaks([record(asked)], {"benchmark": [record(QUESTION)]}, LeakOptions(near=None)).overlap == leaked


def test_a_share_can_be_asked_for():
    asked = record(f"Listen: {' '.join(QUESTION.split()[:14])} – that is what I heard about it.")
    options = LeakOptions(near=None, share=0.9)
    assert find_leaks([asked], {"benchmark": [record(QUESTION)]}, options).leaked == 0


def test_what_many_known_examples_have_in_common_is_their_form_and_no_leak():
    phrase = "Answer the following question with one of the four letters and nothing else at all please"
    known = [record(f"{phrase}: {text[:100]}") for text in passages()[: COMMON + 1]]
    report = find_leaks([record(f"{phrase}: Where is track nine?")], {"benchmark": known})
    assert report.overlap == 0
    assert report.common_runs == len(phrase.split()) - 12


def test_text_without_spaces_between_words_overlaps_too():
    known = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。"
    report = find_leaks(
        [record(f"次の文を読んでください。{known}これは何ですか。")], {"benchmark": [record(known, "")]}
    )
    assert report.overlap == 1


def test_planted_leaks_are_found_and_nothing_else_is():
    chance = random.Random(3)
    texts = passages()[:400]
    known, own = texts[:200], texts[200:]
    leaking = chance.sample(range(200), 60)
    rows = [
        record(f"{own[number][:80]} {known[number]}" if number in leaking else own[number]) for number in range(200)
    ]
    report = find_leaks(rows, {"benchmark": [record(text) for text in known]}, LeakOptions(shown=1000))
    found = {leak.line - 1 for leak in report.leaks}
    assert set(leaking) <= found
    others = {number for number in found - set(leaking) if not _share_a_run(own[number], known)}
    assert others == set()


def _share_a_run(text: str, known: list[str]) -> bool:
    """Whether a text has eight words in a row of a known one, which a leak has at the least."""
    words = text.casefold().split()
    runs = {" ".join(words[at : at + 8]) for at in range(len(words) - 7)}
    return any(run in " ".join(other.casefold().split()) for other in known for run in runs)


@pytest.mark.parametrize("rows", [[], [record("Why?")]])
@pytest.mark.parametrize("known", [[], [record("Who?")]])
def test_empty_sets_and_short_texts_leak_nothing(rows: list[Record], known: list[Record]):
    report = find_leaks(rows, {"holdout": known} if known else {})
    assert (report.examples, report.leaked, report.leaks) == (len(rows), 0, ())


def test_every_copy_of_a_leak_is_counted():
    assert find_leaks([record(QUESTION)] * 3, {"a": [record("Who?")], "b": [record(QUESTION)]}).same == 3
