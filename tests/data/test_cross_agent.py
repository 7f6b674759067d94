"""The recipe that makes five providers' files out of rows that belong to nobody, run small."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from queue_app.dispatcher import Dispatcher
from queue_app.errors import Invalid
from queue_app.recipe import load_recipe
from queue_app.shipped import find_shipped
from tasks.commands.plan import plan
from tasks.data.compatibility import read_compatibility
from tests.data.outcomes import result_of

if TYPE_CHECKING:
    from tests.conftest import RunHere

RECIPE = find_shipped("recipes") / "cross_agent.yaml"
PROVIDERS = ("openai", "together", "fireworks", "nebius", "mistral")
AGENTS = ("arithmetic", "algebra", "finance", "planning", "support")
ROWS, SIZE = 120, 50
HELD = {"openai": {"messages"}, "together": {"messages", "weight"}}


@pytest.fixture
def overrides(tmp_path: Path) -> dict[str, str]:
    """Rows of our own, and few of them."""
    goods, places = ("pears", "ropes", "lamps", "bolts", "coats"), ("harbour", "market", "station", "mill")
    rows = [
        {
            "question": f"At the {places[n % 4]}, {n + 3} crates hold {n * n + 7} {goods[n % 5]} each: how many?",
            "answer": f"{n + 3} times {n * n + 7} {goods[n % 5]} is {(n + 3) * (n * n + 7)}.",
        }
        for n in range(ROWS)
    ]
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    # several processes are measured elsewhere, and generated rows are alike by design
    small = {"steps.chosen.size": str(SIZE), "steps.audit.processes": "1", "steps.unique.exact_only": "true"}
    return {"steps.raw.source": str(source), **small}


@pytest.fixture
def results(run_here: RunHere, overrides: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The result of every step."""
    recipe = load_recipe(RECIPE, overrides)
    _, ids = Dispatcher(run_here.store, "test").run(recipe)
    return {step.name: result_of(run_here.finish(ids[step.name])) for step in recipe.steps}


def test_every_provider_gets_a_file_of_its_own_that_passes_its_rules(
    run_here: RunHere, results: dict[str, dict[str, Any]]
) -> None:
    assert results["mixed"]["examples"] == ROWS * len(AGENTS)
    assert {name: results[f"chosen[agent={name}]"]["examples"] for name in AGENTS} == dict.fromkeys(AGENTS, SIZE)
    files = [run_here.artifact(results[f"{name}_ready"]["dataset"]) / f"{name}.jsonl" for name in PROVIDERS]
    for name, file in zip(PROVIDERS, files, strict=True):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        assert len(rows) == SIZE
        assert set().union(*rows) == HELD.get(name, {"messages"})
        again = result_of(run_here("dataset.check", source=str(file), target=name, strict=True))
        assert (again["kept"], again["found"], again["dataset"]) == (SIZE, {}, str(file))


def test_the_agents_learn_from_each_other_as_far_as_the_matrix_says(
    run_here: RunHere, results: dict[str, dict[str, Any]]
) -> None:
    matrix = read_compatibility(RECIPE.parent / "matrices" / "five_agents.csv")
    for agent in AGENTS:
        lines = (run_here.artifact(results[f"chosen[agent={agent}]"]["dataset"]) / "examples.jsonl").open()
        with lines:
            records = [json.loads(line) for line in lines]
        assert {record["target_agent"] for record in records} == {agent}
        assert len({record["source_agent"] for record in records}) > 1
        assert all(record.get("weight", 1) == matrix.weights[record["source_agent"]][agent] for record in records)


def test_what_no_provider_can_hold_is_counted_and_the_audit_has_a_report(
    run_here: RunHere, results: dict[str, dict[str, Any]]
) -> None:
    dropped = {name: Counter(results[f"{name}_file"]["dropped"]) for name in PROVIDERS}
    assert all(dropped[name]["target_agent"] == SIZE for name in PROVIDERS)
    assert [name for name in PROVIDERS if "weight" not in dropped[name]] == ["together"]
    assert results["audit"]["passed"] is True
    assert (run_here.artifact(results["audit"]["report"]) / "report.html").is_file()


def test_without_rows_the_plan_says_in_one_line_what_is_missing() -> None:
    with pytest.raises(Invalid, match=r'^cross_agent\.yaml line \d+: step "raw": "source" is missing.*$') as refused:
        load_recipe(RECIPE)
    assert len(str(refused.value).splitlines()) == 1


def test_the_plan_names_every_step_in_full(overrides: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    plan(RECIPE, [f"{name}={value}" for name, value in overrides.items()])
    shown = capsys.readouterr().out
    assert "cross_agent: 19 steps" in shown
    assert all(f" chosen[agent={agent}] " in shown for agent in AGENTS)
    assert all(f" {name}_{part} " in shown for name in PROVIDERS for part in ("file", "ready"))
    assert max(map(len, shown.splitlines())) <= 100


def test_the_matrix_of_fifteen_agents_can_be_read() -> None:
    matrix = read_compatibility(RECIPE.parent / "matrices" / "fifteen_agents.csv")
    assert len(matrix.agents) == 15
    assert all(matrix.weights[agent][agent] == 1 for agent in matrix.agents)
