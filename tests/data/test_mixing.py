"""Examples of agents mixed for agents, and `dataset.mix` as a job."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from queue_app.errors import Permanent
from queue_app.lifecycle import Cause, State
from tasks.data.compatibility import Compatibility
from tasks.data.mixing import Mixture
from tasks.data.reading import Row, read_records
from tasks.data.record import Message, Record, content_hash
from tasks.data.writing import DatasetWriter
from tasks.mix_dataset import MixDataset
from tests.data.outcomes import result_of

if TYPE_CHECKING:
    from tests.conftest import RunHere

MATRIX = Compatibility(
    Path("matrix.csv"),
    ("math", "code", "law"),
    {
        "math": {"math": 1.0, "code": 0.5, "law": 0.0},
        "code": {"math": 0.4, "code": 1.0, "law": 0.3},
        "law": {"math": 0.0, "code": 0.2, "law": 1.0},
    },
)
AGENTS = st.lists(st.sampled_from(MATRIX.agents), min_size=1, max_size=30)


def record(number: int, agent: str | None = None, **more: Any) -> Record:
    asked, answered = Message("user", f"What is {number}?"), Message("assistant", f"{number} it is.")
    return Record([asked, answered], source_agent=agent, **more)


def rows(records: Iterable[Record]) -> Iterator[Row]:
    return (Row(Path("set.jsonl"), line, one) for line, one in enumerate(records, 1))


@given(AGENTS)
def test_every_example_reaches_every_agent_that_is_compatible(agents: list[str]):
    mixture = Mixture(MATRIX)
    mixed = list(mixture.mix(rows(record(number, agent) for number, agent in enumerate(agents))))
    came = Counter((one.source_agent, one.target_agent) for one in mixed)
    went = Counter(agents)
    assert came == {
        (source, target): went[source]
        for source in went
        for target in MATRIX.agents
        if MATRIX.weights[source][target] > 0
    }
    assert mixture.bases == went
    assert mixture.examples.total() == len(mixed)


@given(st.floats(0.01, 10), st.sampled_from(MATRIX.agents))
def test_the_weight_is_the_example_s_own_times_the_compatibility(own: float, agent: str):
    mixed = Mixture(MATRIX).mix(rows([record(1, agent, weight=own)]))
    assert {one.target_agent: one.weight for one in mixed} == {
        target: own * weight for target, weight in MATRIX.targets(agent)
    }


def test_an_example_without_a_weight_counts_one_at_home():
    mixed = Mixture(MATRIX).mix(rows([record(1, "math")]))
    assert [(one.target_agent, one.weight) for one in mixed] == [("math", 1.0), ("code", 0.5)]


def test_a_copy_keeps_what_the_example_had_and_names_it():
    base = record(1, "math", category="sums", metadata={"language": "en"})
    for one in Mixture(MATRIX).mix(rows([base])):
        assert one.metadata == {"language": "en", "base": content_hash(base)}
        assert content_hash(one) == one.metadata["base"]
        assert (one.category, one.messages) == ("sums", base.messages)
    assert base.metadata == {"language": "en"}


def test_copies_below_the_least_weight_are_left_out_and_counted():
    mixture = Mixture(MATRIX, min_weight=0.4)
    mixed = list(mixture.mix(rows([record(1, "math"), record(2, "code"), record(3, "law", weight=0.0)])))
    assert [(one.source_agent, one.target_agent) for one in mixed] == [
        ("math", "math"),
        ("math", "code"),
        ("code", "math"),
        ("code", "code"),
    ]
    assert mixture.light == 1 + 2  # code for law; law, of weight 0, for both


def test_examples_without_agents_are_dealt_out_by_content_whatever_their_order():
    records = [record(number) for number in range(90)]
    dealt, again = (
        {(one.source_agent, one.metadata["base"]) for one in Mixture(MATRIX, assign=True).mix(rows(some))}
        for some in (records, reversed(records))
    )
    assert dealt == again
    sizes = Counter(agent for agent, _ in dealt)
    assert sum(sizes.values()) == 90
    assert all(15 < sizes[agent] < 45 for agent in MATRIX.agents)


@pytest.mark.parametrize(
    ("bad", "agent", "assign", "said"),
    [
        (record(2), None, False, "source_agent: is missing; add it, give a dataset for each agent, or set assign=true"),
        (record(2, "maths"), None, False, 'the agent "maths" is not in matrix.csv; did you mean "math"?'),
        (record(2, "code"), "math", False, 'source_agent: "code" stands in the dataset of "math"'),
        (record(2, "code"), None, True, 'source_agent: the example is of "code" already; take assign=true off'),
        (record(2, "math", weight=-1.0), None, False, "weight: must be 0 or more"),
        (record(2, "math", metadata={"base": "x"}), None, False, "metadata.base: a mixture names here"),
    ],
)
def test_an_example_that_cannot_be_mixed_is_refused_with_its_line(
    bad: Record, agent: str | None, assign: bool, said: str
):
    good = record(1) if assign else record(1, "math")
    with pytest.raises(Permanent) as refusal:
        list(Mixture(MATRIX, assign).mix(rows([good, bad]), agent))
    assert str(refusal.value).startswith("set.jsonl line 2: ")
    assert said in str(refusal.value)


def test_an_agent_without_examples_is_named():
    mixture = Mixture(MATRIX)
    list(mixture.mix(rows([record(1, "math"), record(2, "code")])))
    with pytest.raises(
        Permanent, match=r'no example is of "law"; give some, or take row and column out of matrix\.csv'
    ):
        mixture.check_complete()


def test_an_agent_that_is_left_with_nothing_is_named():
    mixture = Mixture(MATRIX)
    list(mixture.mix(rows([record(1, "math", weight=0.0), record(2, "code", weight=0.0), record(3, "law")])))
    with pytest.raises(Permanent, match='5 copies are too light, and none is left for "math"; lower min_weight'):
        mixture.check_complete()


def test_a_mixture_holds_one_example_at_a_time():
    mixture = Mixture(MATRIX)
    tracemalloc.start()
    try:
        mixed = sum(1 for _ in mixture.mix(rows(record(number, "code") for number in range(5000))))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert mixed == 15_000
    assert peak < 200_000


@pytest.fixture
def matrix(tmp_path: Path) -> str:
    file = tmp_path / "matrix.csv"
    lines = [",".join([source, *map(str, weights.values())]) for source, weights in MATRIX.weights.items()]
    file.write_text("\n".join(["agent,math,code,law", *lines]))
    return str(file)


def written(folder: Path, records: Iterable[Record]) -> str:
    with DatasetWriter(folder) as writer:
        for one in records:
            writer.write(one)
    return str(folder)


def test_a_job_mixes_a_dataset_whose_examples_tell_their_agents(run_here: RunHere, tmp_path: Path, matrix: str):
    source = written(tmp_path / "all", (record(number, MATRIX.agents[number % 3]) for number in range(30)))
    made = result_of(run_here("dataset.mix", source=source, compatibility=matrix))
    mixed = list(read_records(run_here.artifact(made["dataset"])))
    assert len(mixed) == made["examples"] == 70
    assert Counter(one.target_agent for one in mixed) == made["targets"] == {"math": 20, "code": 30, "law": 20}
    assert (made["bases"], made["datasets"]) == ({"math": 10, "code": 10, "law": 10}, {})


def test_a_job_mixes_a_dataset_of_each_agent_into_one_for_each(run_here: RunHere, tmp_path: Path, matrix: str):
    source = {agent: written(tmp_path / agent, map(record, range(5))) for agent in MATRIX.agents}
    made = result_of(run_here("dataset.mix", source=source, compatibility=matrix, per_agent=True))
    assert made["dataset"] is None
    for agent in MATRIX.agents:
        mixed = list(read_records(run_here.artifact(made["datasets"][agent])))
        assert {one.target_agent for one in mixed} == {agent}
        assert len(mixed) == made["targets"][agent]


def test_a_job_deals_out_what_has_no_agents(run_here: RunHere, tmp_path: Path, matrix: str):
    source = written(tmp_path / "all", map(record, range(60)))
    made = result_of(run_here("dataset.mix", source=source, compatibility=matrix, assign=True))
    assert sum(made["bases"].values()) == made["base_examples"] == 60


@pytest.mark.parametrize(
    ("agents", "said"),
    [
        (("math", "code"), 'source has no dataset of "law"'),
        (("math", "code", "law", "lawn"), 'source: the agent "lawn" is not in matrix.csv; did you mean "law"?'),
    ],
)
def test_a_job_without_a_dataset_for_each_agent_is_refused(
    run_here: RunHere, tmp_path: Path, matrix: str, agents: tuple[str, ...], said: str
):
    source = {agent: written(tmp_path / agent, [record(1)]) for agent in agents}
    job = run_here("dataset.mix", source=source, compatibility=matrix)
    assert (job.state, job.cause) == (State.FAILED, Cause.USER)
    assert said in str(job.failure)


def test_a_job_that_fails_leaves_no_file_half_written(run_here: RunHere, tmp_path: Path, matrix: str):
    source = written(tmp_path / "all", [*(record(number, "math") for number in range(20)), record(20, "none")])
    job = run_here("dataset.mix", source=source, compatibility=matrix, per_agent=True)
    assert (job.state, job.cause) == (State.FAILED, Cause.DATA)
    assert "examples.jsonl line 21" in str(job.failure)
    assert not [file for file in (run_here.settings.home / "jobs").rglob("*.jsonl*") if file.is_file()]


def test_a_matrix_with_a_mistake_fails_the_job(run_here: RunHere, tmp_path: Path, matrix: str):
    Path(matrix).write_text("agent,math,code\nmath,1,\ncode,0.5,1\n")
    job = run_here("dataset.mix", source=written(tmp_path / "all", [record(1, "math")]), compatibility=matrix)
    assert (job.state, job.cause) == (State.FAILED, Cause.USER)
    assert 'line 2: row "math", column "code": the weight is missing' in str(job.failure)


def test_assigning_what_is_given_by_agent_is_refused():
    with pytest.raises(ValidationError, match="assign deals out one dataset"):
        MixDataset(source={"math": "d"}, compatibility="m.csv", assign=True)
