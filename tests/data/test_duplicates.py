"""Copies among examples: word for word, nearly, and meant to be there."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.data.duplicates import DuplicateFinder, DuplicateOptions, DuplicateReport
from tasks.data.likeness.minhash import Sketch, similarity
from tasks.data.likeness.near import Components, NearTexts
from tasks.data.likeness.saying import normalise
from tasks.data.quoting import quoted
from tasks.data.record import Message, Origin, Record
from tests.data.finders import find_duplicates
from tests.data.planted_copies import NEAR, altered, found_pairs, prose, tally_copies, true_pairs

TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("ab "))
LONG = "The clerk notes every wagon that rolls into the yard, and the time at which it was shunted to its track."


def record(asked: str, answered: str = "So it is.", **more: Any) -> Record:
    return Record([Message("user", asked), Message("assistant", answered)], **more)


def test_planted_near_duplicates_are_found_and_nothing_else_is():
    told = tally_copies(seed=5, texts=240)
    assert told.found <= told.true, "what is reported is as alike as was asked for"
    assert told.recall >= 0.99
    kept = len(told.planted & told.found)
    assert kept >= 0.9 * len(told.planted), "two exchanged words in a short text are more than 15 in 100"


def test_of_hundreds_made_after_one_pattern_all_that_are_alike_are_found():
    chance = random.Random(7)
    pattern = " ".join(prose()[10:14]).split(" ")[:100]
    words = sorted({word for text in prose()[:50] for word in text.split()})
    texts = []
    for _ in range(200):
        made = list(pattern)
        for at in chance.sample(range(len(made)), 4):
            made[at] = chance.choice(words)
        texts.append(normalise(" ".join(made)))
    true = Components(len(texts))
    for one, other in true_pairs(texts):
        true.join(one, other)
    with NearTexts(NEAR) as near:
        for text in texts:
            near.add(text)
        assert list(near.components()) == [true.root(number) for number in range(len(texts))]


@given(TEXT, TEXT, st.integers(1, 8))
def test_the_similarity_is_that_of_the_sets_of_shingles(one: str, other: str, shingle: int):
    def pieces(text: str) -> set[str]:
        padded = text.ljust(shingle, "\0")
        return {padded[at : at + shingle] for at in range(len(padded) - shingle + 1)}

    sketch = Sketch(0.85, shingle)
    shared, either = pieces(one) & pieces(other), pieces(one) | pieces(other)
    assert similarity(sketch.shingles(one), sketch.shingles(other)) == len(shared) / len(either)


@settings(max_examples=30)
@given(st.lists(TEXT, min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_the_sketch_of_a_text_does_not_depend_on_its_neighbours(texts: list[str], chance: random.Random):
    alone = {text: NEAR.band_keys([text])[:, 0].tolist() for text in texts}
    chance.shuffle(texts)
    together = NEAR.band_keys(texts)
    assert [together[:, place].tolist() for place in range(len(texts))] == [alone[text] for text in texts]


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.85, 0.95, 1.0])
def test_bands_are_chosen_so_that_pairs_at_the_threshold_are_found(threshold: float):
    sketch = Sketch(threshold)
    assert 1 - (1 - threshold**sketch.rows) ** sketch.bands >= 0.999


def test_equal_content_is_exact_whatever_the_weight_and_the_metadata():
    report = find_duplicates([record("Why?", weight=0.5), record("Who?"), record("Why?", metadata={"page": 3})])
    assert (report.examples, report.distinct, report.exact, report.accidental) == (3, 2, 1, 1)
    assert report.clusters[0].lines == (1, 3)
    assert report.clusters[0].text == "Why?"


@pytest.mark.parametrize("other", ["WHERE  is the ﬁle?\n", "where is the\tfile?", "Where\u00a0is the file?"])
def test_case_white_space_and_compatibility_forms_make_no_other_example(other: str):
    report = find_duplicates([record("Where is the file?"), record(other)], DuplicateOptions(near=None))
    assert (report.exact, report.normalised, report.near) == (0, 1, 0)


def test_who_says_it_makes_another_example():
    turned = Record([Message("assistant", "Why?"), Message("user", "So it is.")])
    assert find_duplicates([record("Why?"), turned], DuplicateOptions(near=None)).accidental == 0


def test_nearly_equal_examples_are_near_and_their_similarity_is_told():
    report = find_duplicates([record(LONG), record(LONG.replace("clerk", "clark"))])
    assert (report.exact, report.near) == (0, 1)
    assert 0.85 <= report.clusters[0].similarity < 1


def test_one_long_answer_to_different_questions_makes_no_copies():
    canned = " ".join(prose()[:2])
    asked = ["Cancel my order", "Where is my parcel?", "Change my address", "I want a refund", "Delete my account"]
    assert find_duplicates(record(text, canned) for text in asked).clusters == ()
    capitals = [record(f"What is the capital of {country}?", canned) for country in ("Peru", "Chile")]
    assert find_duplicates(capitals).accidental == 0
    same = [record("Where is my parcel?", canned), record("Where is my parcel?", f"{canned} Thanks.")]
    assert find_duplicates(same).near == 1


@pytest.mark.parametrize("before", range(120, 170, 7))
def test_what_is_shown_of_a_copy_never_ends_within_a_secret(before: int):
    secret = "sk_live_" + "aB3dE5gH7jK9" * 2
    text = f"{'a word and ' * 20}"[:before] + f" {secret} in the end"
    (cluster,) = find_duplicates([record(text), record(text)]).clusters
    assert "sk_live" not in quoted(cluster.text)
    long = "padding " * 123 + f"at {secret}"
    assert "sk_live" not in find_duplicates([record(long), record(long)]).clusters[0].text


@pytest.mark.parametrize("where", ["prompt", "answer"])
def test_an_exchanged_word_makes_no_other_example_wherever_it_stands(where: str):
    chance = random.Random(2)
    found = 0
    for text in prose()[:100]:
        question, answer = text[:150], text[150:]
        other = (
            record(altered(question, chance), answer)
            if where == "prompt"
            else record(question, altered(answer, chance))
        )
        found += find_duplicates([record(question, answer), other], DuplicateOptions(near=0.7)).accidental
    assert found >= 95


def test_nothing_is_near_where_that_is_not_asked_for():
    options = DuplicateOptions(near=None)
    assert find_duplicates([record(LONG), record(LONG.replace("clerk", "clark"))], options).accidental == 0


def test_a_long_system_prompt_that_all_share_makes_no_examples_alike():
    system = Message("system", " ".join(prose()[:5]))
    rows = [Record([system, Message("user", asked)]) for asked in ("Where is track nine?", "Who is on duty tonight?")]
    assert find_duplicates(rows).accidental == 0


@pytest.mark.parametrize("texts", [(), ("",), ("x",), ("x", "y"), ("", "x")])
def test_few_and_short_texts_have_no_copies(texts: tuple[str, ...]):
    report = find_duplicates(record(text, "") for text in texts)
    assert (report.examples, report.distinct, report.clusters) == (len(texts), len(texts), ())


def test_texts_shorter_than_a_shingle_are_compared_whole():
    assert found_pairs(["no", "no.", "on", ""]) == set()
    assert find_duplicates([record("no", ""), record("NO", "")]).normalised == 1


@pytest.mark.parametrize(
    "text",
    [
        "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。何でも薄暗いじめじめした所で泣いていた。",
        "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему.",
        "كان يا ما كان في قديم الزمان رجل يعيش في مدينة بعيدة على شاطئ البحر الكبير",
        "👩‍🚀🚂🚃🚄🚅🚆🚇🚈🚉🚊🚋🚌🚍🚎🚐🚑🚒🚓🚔🚕🚖🚗🚘🚙🚚🚛🚜🚝🚞🚟🚠🚡🚢🚣🚤🚥🚦🚧🚨🚩🚪🚫🚬🚭🚮🚯🚰🚱🚲🚳🚴🚵🚶🚷🚸🚹🚺🚻🚼🚽🚾🚿",
    ],
)
def test_texts_of_any_script_are_compared(text: str):
    report = find_duplicates([record(text, ""), record(text[::-1], ""), record(f"{text}!", "")])
    assert (report.near, report.clusters[0].lines) == (1, (1, 3))


def copies_for(*lineages: tuple[str | None, str | None]) -> list[Record]:
    return [record("Why?", source_agent=source, target_agent=target) for source, target in lineages]


def test_one_base_example_for_several_agents_is_reuse():
    report = find_duplicates(copies_for(("law", "law"), ("law", "math"), ("law", "code")))
    assert (report.reuse, report.accidental, report.coincident) == (2, 0, 0)


def test_the_same_agent_twice_is_an_accident_beside_reuse():
    report = find_duplicates(copies_for(("law", "law"), ("law", "math"), ("law", "math")))
    assert (report.reuse, report.exact) == (1, 1)


def test_copies_that_do_not_say_whence_they_came_are_accidents():
    assert find_duplicates(copies_for((None, "law"), (None, "math"))).exact == 1
    assert find_duplicates(copies_for(("law", None), ("law", None))).exact == 1
    assert find_duplicates(copies_for(("law", "law"), (None, None), ("law", "math"))).exact == 1


@pytest.mark.parametrize("same", [{"metadata": {"base": "a1"}}, {"origin": Origin("book.txt", 3, 9, 700)}])
def test_a_base_or_an_origin_tells_the_parent_too(same: dict[str, Any]):
    rows = [record("Why?", target_agent=agent, **same) for agent in ("law", "math", "law")]
    report = find_duplicates(rows)
    assert (report.reuse, report.exact) == (1, 1)


def test_like_examples_of_different_bases_at_different_agents_are_coincident():
    rows = [record("Why?", target_agent=agent, metadata={"base": agent}) for agent in ("law", "math")]
    report = find_duplicates(rows)
    assert (report.coincident, report.reuse, report.accidental) == (1, 0, 0)


def test_reuse_is_an_accident_where_it_is_not_told_apart():
    rows = copies_for(("law", "law"), ("law", "math"))
    assert find_duplicates(rows, DuplicateOptions(tell_reuse=False)).exact == 1


def counts(report: DuplicateReport) -> tuple[int, ...]:
    return report.examples, report.distinct, report.cluster_count, report.clustered


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False))
def test_clusters_do_not_depend_on_the_order(chance: random.Random):
    planting = random.Random(8)
    texts = prose()[:60]
    rows = [record(text) for text in texts + [altered(text, planting) for text in texts[:30] * 2] + texts[50:]]
    expected = counts(find_duplicates(rows))
    chance.shuffle(rows)
    assert counts(find_duplicates(rows)) == expected
    assert expected[2] >= 30


def test_the_same_examples_give_the_same_report():
    planting = random.Random(9)
    rows = [record(altered(text, planting)) for text in prose()[:100] * 2]
    assert find_duplicates(rows) == find_duplicates(rows)


def removed_lines(rows: list[Record], **options: Any) -> list[tuple[int, int]]:
    with DuplicateFinder(DuplicateOptions(**options)) as finder:
        for line, row in enumerate(rows, 1):
            finder.see(row, line)
        finder.finish()
        return [(copy.line, copy.twin) for copy in finder.copies()]


def test_the_first_stays_or_the_longest_or_the_heaviest():
    rows = [record(LONG), record(f"{LONG} Now.", weight=0.2), record(LONG.replace("The", "A "), weight=3)]
    assert removed_lines(rows) == [(2, 1), (3, 1)]
    assert removed_lines(rows, keep="longest") == [(1, 2), (3, 2)]
    assert removed_lines(rows, keep="heaviest") == [(1, 3), (2, 3)]


def test_what_goes_is_like_what_stays_and_not_only_through_a_chain():
    middle = LONG
    left, right = f"In the evening, {middle}", f"{middle} Then they slept."
    sketch = Sketch(0.8)
    assert similarity(sketch.shingles(left), sketch.shingles(middle)) >= 0.8
    assert similarity(sketch.shingles(left), sketch.shingles(right)) < 0.8
    rows = [record(text, "") for text in (left, middle, right)]
    assert find_duplicates(rows, DuplicateOptions(near=0.8)).clustered == 3
    assert removed_lines(rows, near=0.8) == [(2, 1)], "line 3 is not like line 1"


def test_the_report_shows_the_clusters_with_most_accidents_and_counts_all():
    rows = [record(f"Question {number}?") for number in range(50) for _ in range(1 + number % 3)]
    report = find_duplicates(rows, DuplicateOptions(near=None, shown=4))
    assert [cluster.examples for cluster in report.clusters] == [3, 3, 3, 3]
    assert (report.cluster_count, report.exact) == (33, len(rows) - 50)
