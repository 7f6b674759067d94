"""Strata by a field, and numbers divided over them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.data.record import Message, Origin, Record
from tasks.data.strata import Strata, apportion, known_field, weight_of, whole_shares, whole_weight

SHARES = st.dictionaries(st.text(max_size=3), st.integers(0, 10**6), min_size=1).filter(lambda s: sum(s.values()))
WEIGHTS = st.floats(0, 1e300)


def record(**more: object) -> Record:
    return Record([Message("user", "Where?"), Message("assistant", "Here.")], **more)  # type: ignore[arg-type]


@given(SHARES, st.integers(0, 10**6))
def test_the_parts_sum_up_exactly_and_each_is_within_one_of_its_share(shares: dict[str, int], size: int):
    parts = apportion(size, shares)
    total = sum(shares.values())
    assert sum(parts.values()) == size
    assert all(abs(parts[name] * total - size * share) < total for name, share in shares.items())


@given(SHARES, st.integers(0, 10**6))
def test_a_stratum_gives_no_more_than_it_has_as_long_as_the_whole_does_not(shares: dict[str, int], size: int):
    size = min(size, sum(shares.values()))
    assert all(part <= shares[name] for name, part in apportion(size, shares).items())


@given(SHARES, st.integers(0, 1000), st.randoms())
def test_the_order_of_the_strata_changes_no_part(shares: dict[str, int], size: int, random):
    names = list(shares)
    random.shuffle(names)
    assert apportion(size, {name: shares[name] for name in names}) == apportion(size, shares)


def test_tenths_are_tenths():
    assert whole_shares({"a": 0.1, "b": 0.2, "c": 0.7}) == {"a": 1, "b": 2, "c": 7}
    assert apportion(10, whole_shares({"a": 0.1, "b": 0.2, "c": 0.7})) == {"a": 1, "b": 2, "c": 7}


@given(st.lists(WEIGHTS, min_size=1, max_size=20), st.randoms())
def test_a_sum_of_weights_does_not_depend_on_their_order(weights: list[float], random):
    before = sum(map(whole_weight, weights))
    random.shuffle(weights)
    assert sum(map(whole_weight, weights)) == before


@given(WEIGHTS, WEIGHTS)
def test_whole_weights_order_as_the_weights_do(one: float, other: float):
    assert (whole_weight(one) < whole_weight(other)) == (one < other)


@pytest.mark.parametrize(
    ("field", "label"),
    [
        (None, "(all)"),
        ("target_agent", "math"),
        ("category", "(none)"),
        ("weight", "0.56"),
        ("origin.document", "a.txt"),
        ("metadata.language", "en"),
        ("metadata.level.of", "3"),
        ("metadata.checked", "true"),
        ("metadata.missing.too", "(none)"),
        ("metadata.tags", '["a"]'),
    ],
)
def test_every_field_of_a_record_can_divide(field: str | None, label: str):
    metadata = {"language": "en", "level": {"of": 3}, "checked": True, "tags": ["a"]}
    one = record(target_agent="math", weight=0.7 * 0.8, origin=Origin("a.txt", 1, 1, 9), metadata=metadata)
    assert Strata(field).label(one) == label


def test_a_border_belongs_to_the_band_above_it():
    strata = Strata("weight", (0.4, 0.8))
    labels = [strata.label(record(weight=weight)) for weight in (0.1, 0.4, 0.79, 0.8, None)]
    assert labels == ["below 0.4", "0.4 to below 0.8", "0.4 to below 0.8", "0.8 and above", "0.8 and above"]


def test_bands_of_what_is_no_number_are_refused_and_of_nothing_are_none():
    strata = Strata("metadata.score", (1.0,))
    assert strata.label(record()) == "(none)"
    with pytest.raises(ValueError, match="metadata.score: bands are of numbers, found 'high'"):
        strata.label(record(metadata={"score": "high"}))


@pytest.mark.parametrize("name", ["target_agents", "messages", "metadata", "metadata.", "metadata..x", ""])
def test_a_field_that_no_example_can_have_is_refused(name: str):
    with pytest.raises(ValueError, match="an example has no field"):
        known_field(name)


def test_a_misspelt_field_is_met_with_the_nearest():
    with pytest.raises(ValueError, match='did you mean "target_agent"'):
        known_field("target_agents")


def test_a_weight_below_zero_is_refused():
    with pytest.raises(ValueError, match=r"weight: must be 0 or more, found -0\.5"):
        weight_of(record(weight=-0.5))
