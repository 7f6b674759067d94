"""Target shares reached by leaving out or asked for, and `dataset.rebalance` as a job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from queue_app.lifecycle import Cause, State
from tasks.data.reading import read_records
from tasks.data.rebalancing import GAPS, raise_to, reduce_to
from tasks.data.record import Message, Record, content_hash
from tasks.data.writing import DatasetWriter
from tasks.rebalance_dataset import RebalanceDataset
from tests.data.outcomes import result_of

if TYPE_CHECKING:
    from tests.conftest import RunHere

HAVE = {"easy": 60, "medium": 30, "hard": 10}
NAMES = st.sampled_from("abcd")
SIZES = st.dictionaries(NAMES, st.integers(1, 60), min_size=1)
PARTS = st.dictionaries(NAMES, st.integers(1, 20), min_size=1)


def within_one(wanted: dict[str, int], parts: dict[str, float]) -> bool:
    size, total = sum(wanted.values()), sum(parts.values())
    return all(abs(wanted[name] * total - size * part) < total for name, part in parts.items())


@given(SIZES, st.data())
def test_what_is_left_has_the_shares_and_one_more_would_be_too_many(sizes: dict[str, int], data: st.DataObject):
    parts = {name: float(data.draw(st.integers(1, 20))) for name in sizes}
    left = reduce_to(sizes, parts)
    assert within_one(left, parts)
    assert all(left[name] <= sizes[name] for name in sizes)
    one_more = sum(left.values()) + 1
    assert any(one_more * parts[name] > sizes[name] * sum(parts.values()) for name in sizes)


@given(SIZES, PARTS)
def test_what_is_wanted_has_the_shares_and_one_less_would_be_too_few(sizes: dict[str, int], parts: dict[str, int]):
    shares = {name: float(parts.get(name, 1)) for name in sizes | parts}
    wanted = raise_to(sizes, shares)
    assert within_one(wanted, shares)
    assert all(wanted[name] >= have for name, have in sizes.items())
    one_less = sum(wanted.values()) - 1
    assert any(one_less * shares[name] < have * sum(shares.values()) for name, have in sizes.items())


def test_a_share_of_zero_leaves_a_stratum_out():
    assert reduce_to({"a": 10, "b": 4, "c": 9}, {"a": 0.5, "b": 0.5, "c": 0}) == {"a": 4, "b": 4, "c": 0}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    with DatasetWriter(tmp_path / "dataset") as writer:
        for difficulty, size in HAVE.items():
            for number in range(size):
                messages = [Message("user", f"A {difficulty} one, {number}?"), Message("assistant", "Yes.")]
                writer.write(Record(messages, difficulty=difficulty))
    return tmp_path / "dataset"


def test_a_job_leaves_out_what_is_too_much(run_here: RunHere, dataset: Path):
    targets = {"easy": 0.4, "medium": 0.4, "hard": 0.2}
    made = result_of(run_here("dataset.rebalance", source=str(dataset), by="difficulty", targets=targets))
    left = [one.difficulty for one in read_records(run_here.artifact(made["dataset"]))]
    assert {name: left.count(name) for name in targets} == {"easy": 20, "medium": 20, "hard": 10}
    assert made["dropped"] == {"easy": 40, "medium": 10}
    assert (made["gaps"], made["missing"]) == (None, {})


def test_without_targets_the_shares_become_even(run_here: RunHere, dataset: Path):
    made = result_of(run_here("dataset.rebalance", source=str(dataset), by="difficulty"))
    left = [one.difficulty for one in read_records(run_here.artifact(made["dataset"]))]
    assert {name: left.count(name) for name in HAVE} == dict.fromkeys(HAVE, 10)


def test_asked_to_drop_nothing_a_job_lists_the_gaps(run_here: RunHere, dataset: Path):
    targets = {"easy": 1, "medium": 1, "hard": 1, "odd": 1}
    made = result_of(run_here("dataset.rebalance", source=str(dataset), by="difficulty", targets=targets, fill="ask"))
    kept = list(read_records(run_here.artifact(made["dataset"])))
    assert kept == list(read_records(dataset))
    told = msgspec.json.decode((run_here.artifact(made["gaps"]) / GAPS).read_bytes())
    assert told["field"] == "difficulty"
    assert [(gap["stratum"], gap["have"], gap["want"], gap["missing"]) for gap in told["gaps"]] == [
        ("odd", 0, 60, 60),
        ("hard", 10, 60, 50),
        ("medium", 30, 60, 30),
    ]
    assert told["missing"] == sum(made["missing"].values())
    assert made["dropped"] == {}


def test_a_gap_names_examples_of_its_stratum(run_here: RunHere, dataset: Path):
    made = result_of(run_here("dataset.rebalance", source=str(dataset), by="difficulty", fill="ask"))
    ids = {content_hash(one): one.difficulty for one in read_records(dataset)}
    gaps = msgspec.json.decode((run_here.artifact(made["gaps"]) / GAPS).read_bytes())["gaps"]
    assert {gap["stratum"] for gap in gaps} == {"medium", "hard"}
    assert all([ids[example] for example in gap["examples"]] == [gap["stratum"]] * 3 for gap in gaps)


@pytest.mark.parametrize(
    ("targets", "fill", "said"),
    [
        ({"easy": 1, "medium": 1}, "drop", 'no share for difficulty = "hard" (10 examples); give it one, 0 drops it'),
        ({"easy": 1, "medium": 1}, "ask", 'no share for difficulty = "hard" (10 examples); give it one'),
        (HAVE | {"hards": 1}, "drop", 'no example has difficulty = "hards"; did you mean "hard"?'),
        (HAVE | {"hard": 0}, "ask", '"hard" has 10 examples and the share 0, but fill=ask drops none'),
    ],
)
def test_targets_that_do_not_fit_the_data_are_refused(
    run_here: RunHere, dataset: Path, targets: dict[str, float], fill: str, said: str
):
    job = run_here("dataset.rebalance", source=str(dataset), by="difficulty", targets=targets, fill=fill)
    assert (job.state, job.cause) == (State.FAILED, Cause.DATA)
    assert said in str(job.failure)


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ({"easy": -1}, 'the share of "easy" is -1'),
        ({"easy": float("nan")}, 'the share of "easy" is nan'),
        ({"easy": 0}, "at least one share"),
        ({}, "at least one share"),
        ({"easy": float("inf")}, 'the share of "easy" is inf'),
    ],
)
def test_targets_that_are_no_shares_are_refused(targets: dict[str, Any], said: str):
    with pytest.raises(ValidationError, match=said):
        RebalanceDataset.model_validate({"source": "d", "by": "difficulty", "targets": targets})
