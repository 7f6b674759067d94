"""The catalogue: what is in it has a source, and what makes no sense is refused with its line and field."""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING

import pytest

from api_worker.catalogue import FILE, Wanted, catalogue, read_catalogue
from api_worker.provider import Method, Tuned
from api_worker.providers import providers
from queue_app.errors import Invalid

if TYPE_CHECKING:
    from pathlib import Path

ROW = """[[provider]]
api = "acme"
title = "Acme"
slots = "account"

[[figure]]
provider = "acme"
what = "usd_per_million_tokens"
value = 2.0
source = "its page"
grade = "P"
seen = 2026-01-02
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "catalogue.toml"
    file.write_text(text)
    return file


def test_every_figure_and_closing_names_its_source_and_a_day_on_which_it_was_seen() -> None:
    for row in (*catalogue().figures, *catalogue().closings):
        assert row.source
        assert date(2025, 1, 1) < row.seen <= date(2026, 11, 21)


def test_every_adapter_has_its_listing() -> None:
    assert set(providers()) <= set(catalogue().listings)


def test_the_figure_that_is_said_of_the_fewest_is_taken() -> None:
    known = catalogue()
    small = Wanted("together", "meta-llama/Meta-Llama-3.1-8B-Instruct-Reference")
    large = Wanted("together", "meta-llama/Llama-3.3-70B-Instruct-Reference")
    of_preferences = Wanted(small.provider, small.model, Method.DPO)
    full = Wanted(small.provider, small.model, tuned=Tuned.FULL)
    found = [known.figure("usd_per_million_tokens", wanted) for wanted in (small, large, of_preferences, full)]
    assert [figure.value for figure in found if figure] == [0.48, 2.90, 0.54, 1.35]
    assert known.figure("jobs_a_day", Wanted("openai", "gpt-4o-2024-08-06")).value == 5  # type: ignore[union-attr]


def test_what_nobody_told_is_none() -> None:
    assert catalogue().figure("usd_per_million_tokens", Wanted("openai", "gpt-4.1-2025-04-14")) is None
    assert catalogue().figure("usd_per_million_tokens", Wanted("together", "somebody/a-model-of-unknown-size")) is None


@pytest.mark.parametrize(
    ("old", "new", "line", "field"),
    [
        ("value = 2.0", "value = -1", 9, "value"),
        ("value = 2.0", 'value = "two"', 9, "value"),
        ('grade = "P"', 'grade = "X"', 11, "grade"),
        ("seen = 2026-01-02\n", "", 6, "seen"),
        ('what = "usd_per_million_tokens"', 'what = "usd_per_million_words"', 8, "what"),
        ("value = 2.0", "value = 2.0\nprize = 3", 10, "prize"),
        ('provider = "acme"', 'provider = "acne"', 7, "provider"),
        ('slots = "account"', 'slots = "fleet"', 4, "slots"),
    ],
)
def test_a_bad_row_is_named_by_line_and_field(tmp_path: Path, old: str, new: str, line: int, field: str) -> None:
    file = written(tmp_path, ROW.replace(old, new))
    with pytest.raises(Invalid, match=rf"{re.escape(str(file))} line {line}: {field}: "):
        read_catalogue(file)


def test_rows_of_an_unknown_kind_and_what_is_no_toml_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no rows of the kind price; only provider, model, closing, figure"):
        read_catalogue(written(tmp_path, ROW + "\n[[price]]\nvalue = 1\n"))
    with pytest.raises(Invalid, match="cannot be read"):
        read_catalogue(written(tmp_path, "[[provider\n"))


def test_the_file_that_comes_along_is_the_one_that_is_read() -> None:
    assert read_catalogue(FILE) == catalogue()
