"""Quotes: what they add up to, and what makes a piece of work impossible."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_worker.catalogue import Wanted, catalogue
from api_worker.provider import Method, Tuned
from api_worker.providers.hf_jobs import FLAVOR
from api_worker.quotes import Need, machine_of, over, price_of, quote, said

LLAMA = "meta-llama/Meta-Llama-3.1-8B-Instruct-Reference"
TODAY = date(2026, 11, 21)


def need(provider: str, model: str, **more: object) -> Need:
    wanted = {name: more.pop(name) for name in ("method", "tuned") if name in more}
    plain = {"tokens": 10_000_000, "epochs": 3, "exact": True, **more}
    return Need(Wanted(provider, model, **wanted), **plain)  # type: ignore[arg-type]


def test_tokens_times_epochs_times_price() -> None:
    found = quote(catalogue(), need("together", LLAMA), TODAY)
    assert [found.low, found.high] == pytest.approx([14.4, 14.4])
    assert found.tokens == 30_000_000
    assert found.impossible == ""


def test_a_small_job_costs_the_minimum_at_the_most() -> None:
    found = quote(catalogue(), need("together", LLAMA, tokens=1000), TODAY)
    assert found.high == 4.0
    assert found.low == pytest.approx(3000 * 0.48 / 1e6)  # some models are exempt of it


def test_the_holdout_and_a_count_by_another_vocabulary_widen_the_price() -> None:
    plain = quote(catalogue(), need("fireworks", "accounts/fireworks/models/qwen3-8b"), TODAY)
    wide = quote(
        catalogue(),
        need("fireworks", "accounts/fireworks/models/qwen3-8b", exact=False, holdout_tokens=1_000_000),
        TODAY,
    )
    assert wide.low is not None
    assert wide.high is not None
    assert plain.high is not None
    assert wide.low < plain.high < wide.high
    assert wide.high == pytest.approx(33_000_000 * 1.05 * 0.5 / 1e6)


def test_what_is_sure_to_be_billed_for_the_holdout_is_in_the_low_end_too() -> None:
    found = quote(catalogue(), need("together", LLAMA, holdout_tokens=10_000_000), TODAY)
    assert [found.low, found.high] == pytest.approx([28.8, 28.8])


def test_an_unknown_price_is_none_and_said() -> None:
    found = quote(catalogue(), need("openai", "gpt-4.1-2025-04-14"), TODAY)
    assert (found.low, found.high) == (None, None)
    assert "no price of gpt-4.1-2025-04-14 is known" in found.notes


@pytest.mark.parametrize(
    ("asked", "today", "words"),
    [
        (need("mistral", "open-mistral-7b"), TODAY, "training ended on 2026-07-13; instead: together"),
        (need("openai", "gpt-4.1-2025-04-14"), date(2027, 1, 6), "training ended on 2027-01-06"),
        (need("openai", "gpt-3.5-turbo-0125"), TODAY, "the use of its fine-tunes ended on 2026-10-23"),
        (need("nebius", "meta-llama/Llama-3.1-8B-Instruct", epochs=21), TODAY, "at most 20 epochs"),
        (
            need("nebius", "meta-llama/Llama-3.1-8B-Instruct", method=Method.DPO),
            TODAY,
            "learns by sft there, not by dpo",
        ),
        (need("fireworks", "accounts/fireworks/models/llama-v3p1-8b-instruct", tuned=Tuned.FULL), TODAY, "not full"),
    ],
)
def test_what_stands_in_the_way_is_said_with_what_to_use_instead(asked: Need, today: date, words: str) -> None:
    assert words in quote(catalogue(), asked, today).impossible


def test_what_ends_soon_or_for_some_is_a_note() -> None:
    notes = quote(catalogue(), need("openai", "gpt-4.1-2025-04-14"), TODAY).notes
    assert any("training ends on 2027-01-06 (46 days)" in note for note in notes)
    assert any("ended on 2026-05-07 for organisations that have never" in note for note in notes)
    assert any("use of its fine-tunes ends on 2027-01-14 (54 days)" in note for note in notes)


@given(st.integers(0, 10**12), st.integers(1, 50), st.integers(0, 10**10), st.booleans())
def test_low_is_never_above_high(tokens: int, epochs: int, holdout: int, exact: bool) -> None:
    work = need("together", LLAMA, tokens=tokens, epochs=epochs, holdout_tokens=holdout, exact=exact)
    found = quote(catalogue(), work, TODAY)
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.high


def test_a_model_that_stops_answering_before_the_job_is_done_is_refused() -> None:
    wanted = Wanted("openai", "gpt-4o-2024-08-06")
    day = date(2027, 1, 5)
    assert over(catalogue(), wanted, day) == []
    [closing] = over(catalogue(), wanted, day, done=date(2027, 1, 14))
    assert "use of its fine-tunes ends on 2027-01-14 (9 days)" in said(closing, day)


def test_where_hours_are_billed_the_price_is_that_of_the_hours() -> None:
    asked = need("hf_jobs", "Qwen/Qwen3-8B", machine="a100-large", seconds=(3600.0, 7200.0))
    found = quote(catalogue(), asked, TODAY)
    assert found.usd_per_hour is not None
    assert found.usd_per_hour.value == 2.5
    assert [found.low, found.high] == pytest.approx([2.5 * 0.75, 5.0 * 1.25])


def test_hours_that_nobody_knows_cost_an_unknown_sum_and_never_nothing() -> None:
    found = quote(catalogue(), need("hf_jobs", "Qwen/Qwen3-8B", machine="a100-large"), TODAY)
    assert (found.low, found.high) == (None, None)
    assert found.usd_per_hour is not None
    assert "how long it runs there is not known" in found.notes


def test_the_machine_is_the_tier_s_or_the_usual_one_and_only_where_hours_are_billed() -> None:
    assert machine_of(catalogue(), "hf_jobs", None) == FLAVOR
    assert machine_of(catalogue(), "hf_jobs", "l4x1") == "l4x1"
    assert machine_of(catalogue(), "azure", "developerTier") is None


def test_billed_tokens_have_the_price_of_the_catalogue() -> None:
    wanted = Wanted("together", LLAMA)
    assert price_of(catalogue(), wanted, 100_000_000) == pytest.approx(48.0)
    assert price_of(catalogue(), wanted, 1000) == 4.0  # the minimum
    assert price_of(catalogue(), Wanted("openai", "gpt-4.1-2025-04-14"), 1000) is None
