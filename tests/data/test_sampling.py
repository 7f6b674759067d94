"""Samples drawn from strata, and `dataset.sample` as a job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from queue_app.errors import Permanent
from queue_app.lifecycle import Cause, State
from tasks.data.reading import Row, read_records
from tasks.data.record import Message, Record, encode
from tasks.data.sampling import (
    Lots,
    choose_positions,
    fit_quotas,
    pick,
    share_out,
    take_census,
)
from tasks.data.strata import Strata
from tasks.data.writing import DatasetWriter
from tasks.sample_dataset import SampleDataset
from tests.data.outcomes import result_of

if TYPE_CHECKING:
    from tasks.data.sampling import Shares
    from tests.conftest import RunHere

AGENTS = ("math", "code", "law")
NUMBERS = st.lists(st.integers(0, 10_000), unique=True, min_size=1, max_size=60)


def record(number: int, **more: Any) -> Record:
    agent = more.pop("target_agent", AGENTS[number % 7 % 3])
    asked, answered = Message("user", f"What is {number}?"), Message("assistant", f"{number} it is.")
    return Record([asked, answered], target_agent=agent, **more)


def rows(records: Iterable[Record]) -> Iterator[Row]:
    return (Row(Path("set.jsonl"), line, one) for line, one in enumerate(records, 1))


PLAIN = Lots()


def sample(
    records: list[Record], size: int, lots: Lots = PLAIN, by: str | None = "target_agent", shares: Shares = "count"
) -> list[Record]:
    with take_census(rows(records), Strata(by), lots) as census:
        quotas = fit_quotas(census, share_out(census, size, shares))
        return [row.record for row in pick(rows(records), choose_positions(census, quotas))]


def as_set(records: Iterable[Record]) -> list[bytes]:
    return sorted(map(encode, records))


@given(NUMBERS, st.data())
def test_exactly_as_many_come_out_as_asked_and_each_stratum_keeps_its_share(numbers: list[int], data: st.DataObject):
    records = [record(number) for number in numbers]
    size = data.draw(st.integers(1, len(records)))
    drawn = sample(records, size)
    assert len(drawn) == size
    before, after = (Counter(one.target_agent for one in some) for some in (records, drawn))
    assert all(abs(after[agent] - size * before[agent] / len(records)) < 1 for agent in before)


@given(NUMBERS, st.integers(), st.booleans(), st.randoms())
def test_the_order_of_the_file_does_not_change_the_choice(numbers: list[int], seed: int, weighted: bool, random):
    records = [record(number, weight=1 + number % 5 / 7) for number in numbers]
    lots, size = Lots(seed, weighted=weighted), (len(records) + 1) // 2
    before = as_set(sample(records, size, lots))
    random.shuffle(records)
    assert as_set(sample(records, size, lots)) == before


@given(NUMBERS, st.integers(1, 20))
def test_a_row_more_in_an_undivided_set_displaces_one_at_most(numbers: list[int], size: int):
    records = [record(number) for number in numbers]
    size = min(size, len(records))
    before, after = (sample(some, size, by=None) for some in (records, [*records, record(20_000)]))
    assert len([one for one in before if one not in after]) <= 1


def test_the_sample_stands_in_the_order_of_the_set():
    records = [record(number) for number in range(100)]
    drawn = sample(records, 30)
    assert drawn == [one for one in records if one in drawn]


def test_another_seed_makes_another_choice_and_the_same_seed_the_same():
    records = [record(number) for number in range(100)]
    assert sample(records, 30, Lots(1)) == sample(records, 30, Lots(1))
    assert sample(records, 30, Lots(1)) != sample(records, 30, Lots(2))


def test_copies_for_different_agents_are_drawn_independently():
    records = [record(number, target_agent=agent) for agent in AGENTS for number in range(60)]
    drawn = sample(records, 90)
    bases = [{one.messages[0].content for one in drawn if one.target_agent == agent} for agent in AGENTS]
    assert [len(base) for base in bases] == [30, 30, 30]
    assert bases[0] != bases[1] != bases[2]


@pytest.mark.parametrize(("by", "lots"), [("content", 1), ("position", 9)])
def test_equal_records_draw_one_lot_by_content_and_each_its_own_by_position(by: Any, lots: int):
    assert len({Lots(3, by).draw(record(1), position) for position in range(9)}) == lots


def test_an_example_of_weight_three_is_drawn_three_times_as_often():
    records = [record(number, weight=3 if number % 2 else 1) for number in range(4000)]
    drawn = sample(records, 200, Lots(5, weighted=True), by=None)
    heavy = sum(one.weight == 3 for one in drawn)
    assert 130 < heavy < 170  # 150 are to be expected, give or take 6


def test_shares_by_weight_give_the_heavier_stratum_more():
    records = [record(number, target_agent="math", weight=1.0) for number in range(50)]
    records += [record(number, target_agent="code", weight=0.25) for number in range(50)]
    drawn = Counter(one.target_agent for one in sample(records, 20, shares="weight"))
    assert drawn == {"math": 16, "code": 4}


def test_equal_shares_give_each_stratum_the_same():
    records = [
        record(n, target_agent=agent) for agent, size in zip(AGENTS, (90, 30, 10), strict=True) for n in range(size)
    ]
    drawn = Counter(one.target_agent for one in sample(records, 30, shares="equal"))
    assert drawn == {"math": 10, "code": 10, "law": 10}


def test_a_sample_larger_than_the_set_is_refused():
    with pytest.raises(Permanent, match=r"101 examples cannot be drawn from 100; ask for 100 at most"):
        sample([record(number) for number in range(100)], 101)


def test_a_stratum_that_cannot_give_its_share_is_named_with_its_numbers():
    records = [record(number, target_agent="math") for number in range(97)]
    records += [record(number, target_agent="code") for number in range(3)]
    with pytest.raises(Permanent, match=r'"code" has 3 of 10; ask for fewer'):
        sample(records, 20, shares="equal")


def test_a_weighted_choice_never_draws_weight_zero():
    records = [record(number, weight=0.0 if number < 50 else 1.0) for number in range(100)]
    assert all(one.weight for one in sample(records, 50, Lots(weighted=True), by=None))
    with pytest.raises(Permanent, match=r"51 examples cannot be drawn from 50 \(50 of weight 0 left out\)"):
        sample(records, 51, Lots(weighted=True), by=None)


def test_shares_by_weight_need_a_weight():
    with pytest.raises(Permanent, match="every example has the weight 0"):
        sample([record(number, weight=0.0) for number in range(4)], 2, shares="weight")


def test_a_weight_below_zero_is_refused_with_its_line():
    with pytest.raises(Permanent, match=r"set\.jsonl line 3: weight: must be 0 or more"):
        sample([record(1), record(2), record(3, weight=-1.0)], 2)


def test_a_field_that_no_example_has_is_refused():
    with pytest.raises(Permanent, match="none of 10 examples has category"):
        sample([record(number) for number in range(10)], 2, by="category")


def test_a_field_with_a_value_for_each_example_is_refused():
    records = [record(number, metadata={"id": number}) for number in range(1001)]
    with pytest.raises(Permanent, match=r"line 1001: metadata\.id: has more than 1,000 values"):
        sample(records, 2, by="metadata.id")


def test_a_condition_that_nothing_meets_is_answered_with_what_there_is():
    where = {"target_agent": "maths"}
    with (
        pytest.raises(Permanent, match='no example has target_agent="maths"; target_agent is code, law, math'),
        take_census(rows(record(number) for number in range(10)), Strata(), Lots(), where),
    ):
        pass


def test_the_second_pass_ends_behind_the_last_that_is_wanted():
    numbers = count()
    assert [row.record.messages[0].content for row in pick(rows(map(record, numbers)), [1, 3])] == [
        "What is 1?",
        "What is 3?",
    ]
    assert next(numbers) < 10


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """300 examples of three agents, one in three of weight 0.5."""
    with DatasetWriter(tmp_path / "dataset") as writer:
        for number in range(300):
            writer.write(record(number, weight=0.5 if number % 3 == 0 else None))
    return tmp_path / "dataset"


def test_a_job_draws_a_sample_and_tells_its_strata(run_here: RunHere, dataset: Path):
    made = result_of(run_here("dataset.sample", source=str(dataset), size=50, by="target_agent"))
    drawn = list(read_records(run_here.artifact(made["dataset"])))
    assert len(drawn) == made["examples"] == 50
    told = {name: stratum["drawn"] for name, stratum in made["strata"].items()}
    assert Counter(one.target_agent for one in drawn) == told
    assert (made["missing"], made["source_examples"]) == (0, 300)


def test_a_job_draws_from_one_agent_by_bands_of_weight(run_here: RunHere, dataset: Path):
    where = {"target_agent": "math"}
    made = result_of(run_here("dataset.sample", source=str(dataset), size=30, by="weight", bands=[0.8], where=where))
    assert {one.target_agent for one in read_records(run_here.artifact(made["dataset"]))} == {"math"}
    assert set(made["strata"]) == {"below 0.8", "0.8 and above"}
    assert made["outside"] + sum(stratum["have"] for stratum in made["strata"].values()) == 300


def test_a_job_that_may_take_fewer_counts_what_is_missing(run_here: RunHere, dataset: Path):
    refused = run_here("dataset.sample", source=str(dataset), size=301)
    assert (refused.state, refused.cause) == (State.FAILED, Cause.DATA)
    assert "ask for 300 at most" in str(refused.failure)
    made = result_of(run_here("dataset.sample", source=str(dataset), size=301, allow_fewer=True))
    assert (made["examples"], made["missing"]) == (300, 1)


def test_no_stratum_shows_whose_it_is(run_here: RunHere, tmp_path: Path):
    owners = ["ana.canary@firm-nord.de", "bob.canary@firm-nord.de", "rail"]
    with DatasetWriter(tmp_path / "owned") as writer:
        for number in range(30):
            writer.write(record(number, metadata={"owner": owners[number % 3]}))
    made = result_of(run_here("dataset.sample", source=str(tmp_path / "owned"), size=9, by="metadata.owner"))
    assert made["strata"] == {
        "a….de": {"have": 10, "wanted": 3, "drawn": 3},
        "b….de": {"have": 10, "wanted": 3, "drawn": 3},
        "rail": {"have": 10, "wanted": 3, "drawn": 3},
    }
    assert b"canary" not in (run_here.artifact(made["dataset"]) / "statistics.json").read_bytes()
    job = run_here("dataset.sample", source=str(tmp_path / "owned"), size=9, where={"metadata.owner": "carla"})
    assert "metadata.owner is a….de, b….de, rail" in (job.failure or "")


def test_a_bad_line_fails_the_job_with_its_place(run_here: RunHere, dataset: Path):
    with (dataset / "examples.jsonl").open("ab") as file:
        file.write(b'{"messages": [}\n')
    job = run_here("dataset.sample", source=str(dataset), size=3)
    assert (job.state, job.cause) == (State.FAILED, Cause.DATA)
    assert "examples.jsonl line 301: " in str(job.failure)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"size": 0}, "greater than or equal to 1"),
        ({"by": "target_agents"}, 'did you mean "target_agent"'),
        ({"by": "weight", "bands": [0.8, 0.4]}, "numbers that rise"),
        ({"by": "weight", "bands": ["nan"]}, "numbers that rise"),
        ({"bands": [0.5]}, "bands need a field"),
        ({"where": {"agent": "math"}}, "an example has no field"),
    ],
)
def test_a_spec_that_cannot_be_meant_is_refused(spec: dict[str, Any], said: str):
    with pytest.raises(ValidationError, match=said):
        SampleDataset.model_validate({"source": "d", "size": 5} | spec)
