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
api = "together"
title = "Together"
slots = "account"

[[figure]]
provider = "together"
what = "usd_per_million_tokens"
value = 2.0
source = "its page"
grade = "P"
seen = 2026-01-02
"""
MODEL = """
[[model]]
provider = "together"
name = "llama"
methods = ["sft"]
tuned = []
source = "its page"
grade = "P"
seen = 2026-01-02
"""
LIMIT = """
[[limit]]
targets = ["openai"]
measure = "examples"
minimum = 10
severity = "blocking"
source = "its page"
grade = "P"
seen = 2026-01-02
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "catalogue.toml"
    file.write_text(text)
    return file


def test_every_figure_and_closing_names_its_source_and_a_day_on_which_it_was_seen() -> None:
    known = catalogue()
    for row in (*known.models, *known.figures, *known.closings, *known.limits):
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
    ("old", "new", "line", "says"),
    [
        ("value = 2.0", "value = -1", 9, "value: Input should be greater than or equal to 0, not -1"),
        ("value = 2.0", 'value = "two"', 9, "value: Input should be a valid number, not 'two'"),
        ("value = 2.0", "value = true", 9, "value: Input should be a valid number"),
        ("value = 2.0", "value = inf", 9, "value: Input should be a finite number"),
        ("value = 2.0", "value = nan", 9, "value: Input should be a finite number"),
        (
            '"usd_per_million_tokens"\nvalue = 2.0',
            '"jobs_at_once"\nvalue = 2.5',
            9,
            "value: jobs_at_once is a whole number",
        ),
        ("value = 2.0", "value = 2.0\nup_to_billions = inf", 10, "up_to_billions: Input should be a finite number"),
        ("value = 2.0", "value = 2\nover_billions = 9\nup_to_billions = 8", 11, "up_to_billions: no model is so large"),
        ('grade = "P"', 'grade = "X"', 11, "grade: "),
        ("seen = 2026-01-02\n", "", 6, "seen: is missing"),
        ("seen = 2026-01-02", 'seen = "soon"', 12, "seen: Input should be a valid date"),
        ("seen = 2026-01-02", "seen = 86400", 12, "seen: Input should be a valid date"),
        ("seen = 2026-01-02", "seen = 2026-02-30", 12, "seen: "),
        ("seen = 2026-01-02", "seen =", 12, "seen: "),
        ('what = "usd_per_million_tokens"', 'what = "usd_per_million_words"', 8, "what: "),
        ("value = 2.0", "value = 2.0\nprize = 3", 10, "prize: there is no such field; did you mean"),
        (
            'provider = "together"',
            'provider = "togehter"',
            7,
            'provider: there is no [[provider]] with the api "togehter"',
        ),
        ('slots = "account"', 'slots = "fleet"', 4, "slots: "),
        ('api = "together"', 'api = "acme"', 2, 'api: no provider goes by the name "acme"'),
        ("[[provider]]", "[provider]", 1, "provider: a table is no list of rows; each begins with [[provider]]"),
        ("[[provider]]", "figure = 5\n[[provider]]", 7, "figure: Cannot overwrite a value"),
        ("[[provider]]", "closing = 5\n[[provider]]", 1, "closing: 5 is no list of rows; each begins with [[closing]]"),
        ("[[provider]]", "closing = [1]\n[[provider]]", 1, "closing: [1] is no list of rows"),
        ("[[provider]]", "[[price]]\nvalue = 1\n[[provider]]", 1, "price: there are no such rows"),
    ],
)
def test_a_bad_row_is_named_by_file_line_and_field(tmp_path: Path, old: str, new: str, line: int, says: str) -> None:
    file = written(tmp_path, ROW.replace(old, new, 1))
    with pytest.raises(Invalid) as refused:
        read_catalogue(file)
    assert f"{file} line {line}: {says}" in str(refused.value)


@pytest.mark.parametrize(
    ("row", "line", "says"),
    [
        (ROW.partition("\n\n")[0], 15, "api: the [[provider]] of line 1 is about the same"),
        (ROW.partition("\n\n")[2], 14, "figure: the [[figure]] of line 6 is about the same"),
        (MODEL.lstrip() + MODEL, 23, "model: the [[model]] of line 14 is about the same"),
        (MODEL.lstrip().replace('"sft"', '"rft"'), 17, "methods: "),
        (MODEL.lstrip() + "billions = 0", 22, "billions: "),
        (LIMIT.lstrip().replace("openai", "opnai"), 15, 'targets: there is no target "opnai"; did you mean "openai"?'),
        (LIMIT.lstrip().replace("minimum = 10\n", ""), 14, "limit: gives neither a minimum nor a maximum"),
        (LIMIT.lstrip().replace("minimum = 10", "minimum = 10\nmaximum = 9"), 14, "limit: its maximum is below"),
        (LIMIT.lstrip().replace("minimum = 10", "minimum = 1.5"), 17, "minimum: "),
    ],
)
def test_a_row_that_is_one_too_many_or_wrong_is_named(tmp_path: Path, row: str, line: int, says: str) -> None:
    file = written(tmp_path, f"{ROW}\n{row}\n")
    with pytest.raises(Invalid) as refused:
        read_catalogue(file)
    assert f"{file} line {line}: {says}" in str(refused.value)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as refused:
        read_catalogue(
            written(tmp_path, ROW.replace("2.0", "-1").replace('"P"', '"X"').replace('"account"', '"fleet"'))
        )
    assert [re.findall(r"line (\d+)", line)[0] for line in str(refused.value).splitlines()] == ["4", "11", "9"]


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "catalogue.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Invalid, match=f"{re.escape(str(file))}: the catalogue cannot be read"):
        read_catalogue(file)


def test_rows_of_ones_own_take_the_place_of_those_about_the_same_and_add_others(tmp_path: Path) -> None:
    own = ROW.partition("\n\n")[2].replace(
        "value = 2.0", 'value = 0.1\nmethod = "sft"\ntuned = "lora"\nup_to_billions = 16'
    )
    known = catalogue(written(tmp_path, own + MODEL))
    llama = Wanted("together", "meta-llama/Meta-Llama-3.1-8B-Instruct-Reference")
    found = known.figure("usd_per_million_tokens", llama)
    assert found is not None
    assert (found.value, found.source) == (0.1, "its page")
    assert known.offer("together", "llama") is not None
    assert len(known.figures) == len(catalogue().figures)
    assert known.listings == catalogue().listings


def test_a_price_by_size_has_a_lower_bound_too() -> None:
    small, large = (
        catalogue().figure("usd_per_million_tokens", Wanted("nebius", f"meta-llama/{name}"))
        for name in ("Llama-3.1-8B-Instruct", "Llama-3.3-70B-Instruct")
    )
    assert [row.value for row in (small, large) if row is not None] == [0.40, 2.80]
    assert catalogue().figure("usd_per_million_tokens", Wanted("nebius", "of/an-unknown-size")) is None


def test_a_model_is_known_without_its_date_and_as_the_base_of_a_fine_tune() -> None:
    known = catalogue()
    assert known.dated("openai", "gpt-4.1-mini") == "gpt-4.1-mini-2025-04-14"
    assert known.dated("azure", "gpt-4.1-nano") == "gpt-4.1-nano-2025-04-14"
    assert known.dated("openai", "gpt-4o") == "gpt-4o", "there are two of them"
    for model in ("gpt-4o-mini", "ft:gpt-4o-mini-2024-07-18:acme::abc", "gpt-4o-mini-2024-07-18"):
        price = known.figure("usd_per_million_tokens", Wanted("openai", model))
        assert price is not None
        assert price.value == 3.0
        assert [row.on for row in known.closings_of("openai", model, "inference")] == [date(2027, 1, 14)]
        assert known.stranger("openai", model) == ""


@pytest.mark.parametrize(
    ("provider", "model", "says"),
    [
        ("openai", "gpt-4.1-mimi", 'OpenAI tunes no model "gpt-4.1-mimi"; nearest: gpt-4.1-mini-2025-04-14'),
        ("openai", "claude", 'OpenAI tunes no model "claude"; `tuneyard providers show openai` lists them'),
        ("together", "llama-3.3-70b-instruct", "nearest: meta-llama/Llama-3.3-70B-Instruct-Reference"),
        ("fireworks", "qwen3-8b", "nearest: accounts/fireworks/models/qwen3-8b"),
    ],
)
def test_a_model_that_is_not_known_is_said_with_the_nearest(provider: str, model: str, says: str) -> None:
    assert says in catalogue().stranger(provider, model)


def test_the_file_that_comes_along_is_the_one_that_is_read() -> None:
    assert read_catalogue(FILE) == catalogue()
