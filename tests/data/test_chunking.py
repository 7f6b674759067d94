"""Texts cut into pieces."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pydoc_data.topics import topics
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks.data.chunking import GRAINS, Bounds, Piece, cut, parts, trim

if TYPE_CHECKING:
    import re

TEXT = st.text(st.sampled_from("ab .!\n\t…”。é\u00a0")) | st.text()


def characters(texts: Sequence[str]) -> list[int]:
    return [len(text) for text in texts]


def words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def bounds() -> st.SearchStrategy[Bounds]:
    return st.tuples(st.integers(0, 60), st.integers(1, 60)).map(lambda pair: Bounds(min(pair), max(pair)))


@given(TEXT, bounds())
def test_the_pieces_put_together_are_the_text(text: str, within: Bounds):
    assert "".join(piece.text for piece in cut(text, within, characters)) == text


@given(TEXT, bounds())
def test_no_piece_that_fits_is_above_the_bounds_and_what_does_not_fit_is_one_word(text: str, within: Bounds):
    for piece in cut(text, within, characters):
        assert piece.fits == (len(piece.text) <= within.most)
        assert piece.fits or len(piece.text.split()) <= 1


@given(TEXT, bounds())
def test_no_word_is_cut_in_two(text: str, within: Bounds):
    for before, after in pairwise(cut(text, within, characters)):
        assert after.text[0].isspace() or before.text[-1] in "。！？」』）”’、，；："


@given(st.lists(st.text(st.sampled_from("abc"), min_size=1, max_size=3), min_size=1, max_size=200), st.integers(8, 40))
@example(["a"] * 41, 40)
def test_only_a_text_that_is_too_short_makes_a_piece_that_is_too_short(listed: list[str], most: int):
    text = " ".join(listed)
    pieces = cut(text, Bounds(most // 2 - 3, most), characters)
    assert all(len(piece.text) >= min(most // 2 - 3, len(text)) for piece in pieces)


@pytest.mark.parametrize("most", [50, 200, 1000])
def test_real_text_is_cut_within_bounds_and_nothing_is_lost(most: int):
    for text in topics.values():
        pieces = cut(text, Bounds(most // 3, most), words)
        assert "".join(piece.text for piece in pieces) == text
        assert all(piece.tokens <= most for piece in pieces)
        assert all(piece.tokens >= min(most // 3, len(text.split())) for piece in pieces)


def test_short_paragraphs_are_merged_and_long_ones_stay_whole():
    text = "One two.\n\nThree four.\n\nFive six seven eight nine.\n\nTen."
    assert cut(text, Bounds(1, 5), words) == [
        Piece("One two.\n\nThree four.", 4),
        Piece("\n\nFive six seven eight nine.", 5),
        Piece("\n\nTen.", 1),
    ]


def test_a_long_paragraph_is_cut_after_a_sentence_and_not_after_a_title():
    text = "The guard met Mr. Brown at ten. “It is late!” he said. They went home together."
    assert [piece.text for piece in cut(text, Bounds(4, 7), words)] == [
        "The guard met Mr. Brown at ten.",
        " “It is late!” he said.",
        " They went home together.",
    ]


def test_text_without_spaces_is_cut_after_its_full_stops():
    text = "吾輩は猫である。名前はまだ無い。どこで生れたか。"
    assert [piece.text for piece in cut(text, Bounds(2, 10), characters)] == [
        "吾輩は猫である。",
        "名前はまだ無い。",
        "どこで生れたか。",
    ]


def test_a_word_longer_than_the_bounds_is_a_piece_that_does_not_fit():
    pieces = cut(f"one {'x' * 50} two", Bounds(2, 10), characters)
    assert [(piece.text.strip(), piece.fits) for piece in pieces] == [("one", True), ("x" * 50, False), ("two", True)]


def test_a_short_end_is_shared_with_the_piece_before():
    text = "\n\n".join(f"{number} b c d e." for number in range(5))
    assert sorted(piece.tokens for piece in cut(text, Bounds(10, 20), words)) == [10, 15]


@given(TEXT, st.sampled_from(GRAINS))
def test_every_border_leaves_the_text_whole(text: str, border: re.Pattern[str]):
    assert "".join(parts(text, border)) == text


@pytest.mark.parametrize(
    ("piece", "shown"),
    [("\n\n    if x:\n        y\n\n", "    if x:\n        y"), (" Next sentence. ", "Next sentence."), ("\n \n", "")],
)
def test_a_piece_is_shown_without_the_space_around_it_but_with_its_indentation(piece: str, shown: str):
    assert trim(piece) == shown


@pytest.mark.parametrize("text", ["." * 200_000, "!?" * 100_000, " " * 200_000, "a\n" * 100_000, "x" * 200_000])
def test_monotonous_text_takes_no_longer_than_other_text(text: str):
    assert "".join(piece.text for piece in cut(text, Bounds(700, 2000), characters)) == text
