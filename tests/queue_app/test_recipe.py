"""Recipes: what they say, how they fan out, and how they tell what is wrong with them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, model_validator

from queue_app.errors import Invalid, NotFound
from queue_app.job_type import ArtifactRef, Attempt, InputPath, JobType, Result, Spec, job, nearest
from queue_app.recipe import (
    Recipe,
    Reference,
    Step,
    duration_seconds,
    fingerprint,
    load_recipe,
    parse_recipe,
    references,
    resolve_references,
)


class PullModel(Spec):
    model: str


class Model(Result):
    model: str
    parameters: int = 0


@job("model.pull", queues=("cpu",))
def pull_model(spec: PullModel, attempt: Attempt) -> Model:
    return Model(model=spec.model)


class TrainAdapter(Spec):
    dataset: ArtifactRef = Field(description="the examples to learn")
    base_model: ArtifactRef
    seed: int = Field(0, ge=0)
    extra_files: list[InputPath] = []
    notes: str | None = None
    options: dict[str, float] = {}


class Adapter(Result):
    adapter: str
    loss: float


@job("adapter.train", queues=("gpu", "cpu"))
def train_adapter(spec: TrainAdapter, attempt: Attempt) -> Adapter:
    return Adapter(adapter=spec.dataset, loss=0.0)


class CompareAdapters(Spec):
    adapters: list[ArtifactRef]
    first: int = 0
    last: int = 0

    @model_validator(mode="after")
    def _in_order(self) -> CompareAdapters:
        if self.last < self.first:
            raise ValueError("last must not be below first")
        if len(self.adapters) == 1:
            raise ValueError("adapters must be none or several")
        return self


@job("adapter.compare", queues=("cpu",))
def compare_adapters(spec: CompareAdapters, attempt: Attempt) -> Result:
    return Result()


KINDS: dict[str, JobType[Any, Any]] = {
    "model.pull": pull_model,
    "adapter.train": train_adapter,
    "adapter.compare": compare_adapters,
}


def find(kind: str) -> JobType[Any, Any]:
    if kind not in KINDS:
        raise Invalid(f'there is no job type "{kind}"{nearest(kind, KINDS)}')
    return KINDS[kind]


def read(steps: str, base: Path = Path("/recipes"), /, **overrides: str) -> Recipe:
    """A recipe of these steps; they start on line 3."""
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return parse_recipe(f"name: demo\nsteps:\n{steps}", base / "demo.yaml", overrides=dotted, find=find)


def step(recipe: Recipe, name: str) -> Step:
    return next(step for step in recipe.steps if step.name == name)


def complaints(steps: str, /, **overrides: str) -> list[str]:
    with pytest.raises(Invalid) as caught:
        read(steps, **overrides)
    return str(caught.value).splitlines()


def complaints_of_text(text: str) -> list[str]:
    with pytest.raises(Invalid) as caught:
        parse_recipe(text, Path("/recipes/demo.yaml"), find=find)
    return str(caught.value).splitlines()


CHAIN = """\
  base: {job: model.pull, model: tiny}
  train:
    job: adapter.train
    dataset: sha256:12
    base_model: $base.model
"""


WITHOUT_CLOCK = settings(deadline=None, database=None)  # neither a timed test nor a folder of its own


# What a recipe says


def test_a_step_waits_for_what_it_refers_to_and_what_it_needs() -> None:
    recipe = read(
        CHAIN + "  other: {job: model.pull, model: x}\n  last: {job: model.pull, model: y, needs: [other, train]}\n"
    )
    assert step(recipe, "train").needs == ("base",)
    assert step(recipe, "train").spec == {"dataset": "sha256:12", "base_model": "$base.model"}
    assert step(recipe, "last").needs == ("other", "train")


def test_the_reserved_keys_become_the_options_of_a_step() -> None:
    made = read(CHAIN + "    queue: cpu\n    priority: 5\n    timeout: 8h\n    reuse: false\n").steps[1]
    assert (made.queue, made.priority, made.timeout_seconds, made.reuse, made.line) == ("cpu", 5, 28800.0, False, 4)


def test_without_options_a_step_takes_the_first_queue_of_its_job_type_and_is_reused() -> None:
    made = read(CHAIN).steps[1]
    assert (made.queue, made.priority, made.timeout_seconds, made.reuse) == ("gpu", 0, None, True)


def test_steps_come_behind_what_they_need_and_otherwise_in_the_order_of_the_file() -> None:
    recipe = read(
        "  z: {job: model.pull, model: $base.model}\n"
        "  a: {job: model.pull, model: x}\n"
        "  base: {job: model.pull, model: x}\n"
        "  b: {job: model.pull, model: x}\n"
    )
    assert [made.name for made in recipe.steps] == ["a", "base", "z", "b"]


def test_a_chain_longer_than_the_call_stack_is_no_problem() -> None:
    chain = "".join(f"  s{n}: {{job: model.pull, model: $s{n + 1}.model}}\n" for n in range(900))
    recipe = read(chain + "  s900: {job: model.pull, model: x}\n")
    assert recipe.steps[0].name == "s900"


def test_the_text_is_kept_as_read_and_the_spec_is_json() -> None:
    recipe = read(CHAIN + "    options: {rate: 2e-4}\n", steps__train__notes="2026-11-21")
    assert "notes" not in recipe.text
    assert json.loads(json.dumps(step(recipe, "train").spec))["options"] == {"rate": 2e-4}
    assert step(recipe, "train").spec["notes"] == "2026-11-21"


def test_an_anchor_can_be_merged_and_what_a_step_says_itself_wins() -> None:
    recipe = read(
        "  one: &one {job: adapter.train, dataset: sha256:1, base_model: sha256:2, seed: 1}\n"
        "  two: {seed: 2, <<: *one}\n"
    )
    assert [made.spec["seed"] for made in recipe.steps] == [1, 2]


# Paths


def test_relative_paths_start_at_the_recipe_and_those_of_overrides_where_the_user_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "rows.jsonl").touch()
    (tmp_path / "here").mkdir()
    (tmp_path / "recipes" / "demo.yaml").touch()
    (tmp_path / "a.txt").touch()
    monkeypatch.chdir(tmp_path / "here")
    extra = "    extra_files: [$base.model, ../a.txt, builtin:x]\n"
    recipe = read(
        CHAIN.replace("sha256:12", "rows.jsonl") + extra,
        tmp_path / "recipes",
        steps__train__base_model="..",
    )
    spec = step(recipe, "train").spec
    assert spec["dataset"] == str(tmp_path / "recipes" / "rows.jsonl")
    assert spec["extra_files"] == ["$base.model", str(tmp_path / "a.txt"), "builtin:x"]
    assert spec["base_model"] == str(tmp_path)


def test_a_path_that_comes_from_an_overridden_axis_starts_where_the_user_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.txt").touch()
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "a.txt").touch()
    steps = CHAIN + "    matrix: {file: [a.txt], other: [b.txt]}\n    extra_files: [$matrix.file]\n"
    recipe = read(steps, tmp_path / "recipes", steps__train__matrix__file="[c.txt]")
    assert recipe.steps[1].spec["extra_files"] == [str(tmp_path / "c.txt")]
    assert read(steps, tmp_path / "recipes").steps[1].spec["extra_files"] == [str(tmp_path / "recipes" / "a.txt")]


# The matrix


def test_a_matrix_fans_a_step_out_and_its_values_keep_their_type() -> None:
    recipe = read(CHAIN + '    matrix: {seed: [1, 2]}\n    seed: $matrix.seed\n    notes: "seed ${matrix.seed}"\n')
    assert [made.name for made in recipe.steps] == ["base", "train[seed=1]", "train[seed=2]"]
    assert [made.spec["seed"] for made in recipe.steps[1:]] == [1, 2]
    assert [made.spec["notes"] for made in recipe.steps[1:]] == ["seed 1", "seed 2"]


def test_several_axes_make_their_product_named_in_the_order_of_the_axes() -> None:
    recipe = read(CHAIN + "    matrix: {agent: [a, b], fast: [true, null]}\n")
    names = [made.name for made in recipe.steps[1:]]
    assert names == [f"train[agent={agent},fast={fast}]" for agent in "ab" for fast in ("true", "null")]


FANNED = CHAIN + "    matrix: {seed: [1, 2]}\n"


def test_a_step_with_the_same_axis_is_matched_value_by_value() -> None:
    recipe = read(
        FANNED
        + "  next: {job: adapter.train, dataset: x:1, base_model: $train.adapter, matrix: {rate: [9], seed: [2, 1]}}\n"
        + "  then: {job: model.pull, model: x, needs: [train], matrix: {seed: [2]}}\n"
    )
    assert step(recipe, "next[rate=9,seed=2]").spec["base_model"] == "$train[seed=2].adapter"
    assert step(recipe, "next[rate=9,seed=1]").needs == ("train[seed=1]",)
    assert step(recipe, "then[seed=2]").needs == ("train[seed=2]",)


def test_a_step_without_the_axis_gets_the_list_of_all_outputs() -> None:
    recipe = read(
        FANNED
        + "  all: {job: adapter.compare, adapters: $train.adapter}\n"
        + "  more: {job: adapter.compare, adapters: [sha256:0, $train.adapter]}\n"
    )
    every = ["$train[seed=1].adapter", "$train[seed=2].adapter"]
    assert step(recipe, "all").spec["adapters"] == every
    assert step(recipe, "more").spec["adapters"] == ["sha256:0", *every]
    assert step(recipe, "all").needs == ("train[seed=1]", "train[seed=2]")


def test_a_step_that_has_one_of_two_axes_gets_the_list_along_the_other() -> None:
    recipe = read(
        CHAIN
        + "    matrix: {seed: [1, 2], rate: [8, 9]}\n"
        + "  all: {job: adapter.compare, adapters: $train.adapter, matrix: {seed: [2]}}\n"
    )
    expected = ["$train[seed=2,rate=8].adapter", "$train[seed=2,rate=9].adapter"]
    assert step(recipe, "all[seed=2]").spec["adapters"] == expected


def test_one_of_a_matrix_can_be_named() -> None:
    recipe = read(
        FANNED
        + '  next: {job: adapter.train, dataset: x:1, base_model: "$train[seed=2].adapter", needs: ["train[seed=1]"]}\n'
    )
    assert step(recipe, "next").needs == ("train[seed=1]", "train[seed=2]")


def test_an_axis_may_hold_references() -> None:
    recipe = read(CHAIN + "    matrix: {start: [$base.model, sha256:9]}\n    notes: $matrix.start\n")
    assert step(recipe, "train[start=$base.model]").spec["notes"] == "$base.model"
    assert step(recipe, "train[start=$base.model]").needs == ("base",)


def test_a_list_for_a_field_of_one_value_is_refused() -> None:
    (line,) = complaints(FANNED + "  next: {job: adapter.train, dataset: x:1, base_model: $train.adapter}\n")
    assert line.startswith(
        'demo.yaml line 9: step "next": "base_model" takes a text, but $train.adapter is a list of 2'
    )


@pytest.mark.parametrize(
    ("matrix", "told"),
    [
        ("{}", "a matrix is a mapping of lists"),
        ("[1, 2]", "a matrix is a mapping of lists"),
        ("{seed: []}", 'the axis "seed" must be a list'),
        ("{seed: 1}", 'the axis "seed" must be a list'),
        ("{seed: [[1]]}", "must be single texts"),
        ("{seed: [1, '1']}", "has the value 1 twice"),
        ("{seed: ['a]']}", "no brackets"),
        ("{'a b': [1]}", "must be named with letters"),
    ],
)
def test_a_matrix_that_is_none_is_refused(matrix: str, told: str) -> None:
    (line,) = complaints(CHAIN + f"    matrix: {matrix}\n")
    assert line.startswith('demo.yaml line 8: step "train": ')
    assert told in line


def test_an_axis_that_is_not_there_is_refused_with_the_nearest() -> None:
    assert complaints(FANNED + "    seed: $matrix.sed\n") == [
        'demo.yaml line 9: step "train": it uses the axis "sed", which its matrix does not have; did you mean "seed"?'
    ]
    (line,) = complaints(CHAIN + '    notes: "${matrix.seed} and more"\n')
    assert line.endswith("add `matrix: {seed: [...]}`")


def test_a_value_of_the_axis_that_the_other_step_lacks_is_refused() -> None:
    (line,) = complaints(FANNED + "  then: {job: model.pull, model: x, needs: [train], matrix: {seed: [1, 3]}}\n")
    assert '"train" has no seed=3' in line


def test_a_matrix_that_grows_without_limit_is_refused() -> None:
    axes = ", ".join(f"a{n}: [{', '.join(map(str, range(10)))}]" for n in range(9))
    (line,) = complaints(CHAIN + f"    matrix: {{{axes}}}\n")
    assert "1,000,000,001 steps" in line


# What is wrong with a recipe


@pytest.mark.parametrize(
    ("steps", "line"),
    [
        (
            "  a: {job: model.pul, model: x}\n",
            'demo.yaml line 3: step "a": there is no job type "model.pul"; did you mean "model.pull"?',
        ),
        (
            "  a:\n    job: model.pull\n    modle: x\n",
            'demo.yaml line 5: step "a": unknown key "modle"; did you mean "model"?',
        ),
        (
            "  a: {jobs: model.pull}\n",
            'step "a": it has no job type; name one, such as `job: model.pull`; did you mean "jobs"?',
        ),
        ("  a: {job: model.pull, model: 5}\n", 'step "a": "model" is 5: input should be a valid string'),
        ("  a:\n    job: model.pull\n", 'demo.yaml line 3: step "a": "model" is missing; add it'),
        (
            CHAIN + "    seed: -1\n",
            'demo.yaml line 8: step "train": "seed" is -1: input should be greater than or equal to 0',
        ),
        (
            CHAIN + "    options:\n      rate: fast\n",
            'demo.yaml line 9: step "train": "options.rate" is "fast": input should be a valid number, '
            "unable to parse string as a number",
        ),
        (
            CHAIN.replace("$base.model", "$bas.model"),
            'demo.yaml line 7: step "train": there is no step "bas"; did you mean "base"?',
        ),
        (
            CHAIN.replace("$base.model", "$base.modl"),
            'demo.yaml line 7: step "train": the result of "base" (model.pull) has no "modl"; did you mean "model"?',
        ),
        (CHAIN.replace("$base.model", "$base"), '"$base" is no reference; write "$step.field", such as "$base.model"'),
        (
            CHAIN.replace("$base.model", "a-${base.model}"),
            '"${base.model}" stands inside a text; a result can only be a whole',
        ),
        (CHAIN + "    seed: $base.model\n", '"seed" takes a number, but $base.model is a text'),
        (CHAIN + "    notes: $base.parameters\n", '"notes" takes a text, but $base.parameters is a number'),
        (
            CHAIN + "    needs: [bass]\n",
            'demo.yaml line 8: step "train": there is no step "bass"; did you mean "base"?',
        ),
        (CHAIN + "    needs: base\n", '"needs" is "base": it is a list of steps; write [base]'),
        (CHAIN + "    needs: [train]\n", 'it refers to itself ("train")'),
        (CHAIN.replace("$base.model", "$train.adapter"), 'it refers to itself ("train")'),
        (CHAIN + "    queue: api\n", 'adapter.train runs on gpu or cpu, not on "api"'),
        (CHAIN + "    timeout: 8x\n", '"timeout" is "8x": a duration is a number with the unit s, m, h or d'),
        (CHAIN + "    timeout: 0\n", '"timeout" is 0: a duration must be above zero and at most a year'),
        (CHAIN + "    timeout: 999d\n", "at most a year"),
        (CHAIN + "    priority: 9999999999999999999\n", "less than or equal to 1000"),
        (CHAIN + "    notes: $matrix.a.b\n", '"$matrix.a.b" is no reference'),
        (CHAIN + "    needs:\n    - base\n    - bass\n", 'demo.yaml line 10: step "train": there is no step "bass"'),
        (CHAIN + '    notes: "\\ud800"\n', "the text holds a NUL or half a character"),
        (CHAIN + '    options: {"\\ud800": 1}\n', "a key must be a text, not one with NUL or half a character"),
        (CHAIN + "    priority: true\n", '"priority" is true: input should be a valid integer'),
        (CHAIN + "    reuse: no\n", '"reuse" is "no": input should be a valid boolean'),
        ("  a: model.pull\n", "a step is a mapping with a `job`"),
        ("  a b: {job: model.pull, model: x}\n", "the name of a step is letters"),
        ("  matrix: {job: model.pull, model: x}\n", "the name of a step is letters"),
        (
            "  a: {job: adapter.compare, adapters: [], first: 2}\n",
            'demo.yaml line 3: step "a": last must not be below first',
        ),
        (CHAIN + '    extra_files: ["\\0"]\n', "the text holds a NUL or half a character"),
    ],
)
def test_one_mistake_is_one_line_that_says_where_and_what_to_do(steps: str, line: str) -> None:
    (told,) = complaints(steps)
    assert told.startswith("demo.yaml line ")
    assert line in told


def test_a_value_that_is_still_to_be_made_is_not_judged_but_those_beside_it_are() -> None:
    assert (
        len(complaints(CHAIN + "    extra_files: [$base.model, 5]\n    options: {rate: $base.parameters, other: x}\n"))
        == 2
    )
    assert read(CHAIN + "    options: {rate: $base.parameters}\n").steps[1].needs == ("base",)


def test_a_rule_over_fields_is_checked_early_unless_it_is_about_what_is_still_to_be_made() -> None:
    (line,) = complaints(CHAIN + "  c: {job: adapter.compare, adapters: [$train.adapter, sha256:1], first: 2}\n")
    assert line.endswith("last must not be below first")
    assert read(CHAIN + "  c: {job: adapter.compare, adapters: [$train.adapter]}\n").steps[-1].name == "c"
    assert len(complaints("  c: {job: adapter.compare, adapters: [sha256:1]}\n")) == 1


def test_a_cycle_is_named() -> None:
    steps = (
        "  c: {job: model.pull, model: $b.model}\n"
        "  a: {job: model.pull, model: $c.model}\n"
        "  b: {job: model.pull, model: x, needs: [a]}\n"
        "  x: {job: model.pull, model: $y.model}\n"
        "  y: {job: model.pull, model: $x.model}\n"
    )
    first, second = complaints(steps)
    assert first.startswith('demo.yaml line 3: step "c": the steps wait for each other: c → a → b → c;')
    assert "x → y → x" in second


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    lines = complaints(
        CHAIN
        + "    sed: 1\n    queue: api\n    options: {a: 1, a: 2}\n  b: {job: nothing.here}\n  c: {job: model.pull}\n"
    )
    assert [int(re.findall(r"line (\d+)", line)[0]) for line in lines] == [8, 9, 10, 11, 12]


def test_a_mistake_in_a_matrix_step_is_told_once() -> None:
    assert len(complaints(FANNED + "    queue: api\n    options: {a: x}\n")) == 2


def test_a_missing_field_that_was_mistyped_is_not_told_twice() -> None:
    (line,) = complaints("  a: {job: model.pull, modell: x}\n")
    assert "did you mean" in line


def test_a_key_given_twice_is_told_with_both_lines() -> None:
    lines = complaints("  a:\n    job: model.pull\n    model: x\n    model: y\n  a: {job: model.pull, model: z}\n")
    assert any('line 6: step "a": "model" is given twice, first on line 5' in line for line in lines)
    assert any('line 7: step "a": "a" is given twice, first on line 3' in line for line in lines)


# YAML


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "demo.yaml line 1: the file is empty"),
        ("# only a comment\n", "demo.yaml line 1: the file is empty"),
        ("- a\n- b\n", "demo.yaml line 1: a recipe is a mapping with `name` and `steps`, not a list"),
        ("hello", "not a text"),
        ("name: x\nsteps: [1,", "demo.yaml line 2 column 11: this is not YAML"),
        ("name: x\n\tsteps:", "line 2 column 1: this is not YAML: found character '\\t'"),
        ("name: a: b", "demo.yaml line 1 column 8: this is not YAML"),
        ("name: *x", "undefined alias"),
        ("name: x\nsteps: \x07", "demo.yaml line 2 column 8: the control character '\\x07'"),
        ("name: x\n---\nname: y\n", "a recipe is one document"),
        ("[" * 50_000, "nested too deeply"),
        ("a" * 300_000, "demo.yaml line 1: longer than 262,144 characters; a recipe is a mapping"),
        ("&a [*a]", "not a list"),
    ],
)
def test_what_is_no_recipe_at_all_is_refused_with_line_and_column(text: str, told: str) -> None:
    (line,) = complaints_of_text(text)
    assert line.startswith("demo.yaml line ")
    assert told in line


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("steps: &a [*a]", "the alias stands inside the very thing it repeats"),
        ("name: !!python/object:os.system x", "the tag !!python/object:os.system has no meaning here"),
        ("name: .nan", ".nan is not a number that can be used"),
        ("name: " + "9" * 5000, "is not a number that can be used"),
        ("? [1]\n: 2", "a key must be a text, not a list"),
        ("<<: 3", "`<<` (line 1) takes a mapping"),
        ("nam: x", 'unknown key "nam"; did you mean "name"?'),
        ("steps: []", "`steps` must be a mapping of at least one step"),
        ("steps:", "a recipe needs a name"),
    ],
)
def test_a_value_that_cannot_be_used_is_told_with_its_line(text: str, told: str) -> None:
    assert any(told in line and line.startswith("demo.yaml line 1: ") for line in complaints_of_text(text))


@pytest.mark.parametrize("inner", ["[{}]", "{{<<: [{}]}}"])
def test_a_bomb_of_aliases_is_refused_before_it_bursts(inner: str) -> None:
    rows = ["a0: &a0 {x: 1}"]
    rows += [f"a{n}: &a{n} " + inner.format(", ".join([f"*a{n - 1}"] * 9)) for n in range(1, 12)]
    (line,) = complaints_of_text("\n".join(rows))
    assert "more than 20,000 values; use fewer aliases" in line


@WITHOUT_CLOCK
@given(st.text(max_size=200) | st.text(alphabet="{}[]:,&*!-\n \"'$.ab|>#?<", max_size=60))
def test_random_text_is_refused_in_words(text: str) -> None:
    assert all(line.startswith("demo.yaml line ") for line in complaints_of_text(text))


WORDS = st.sampled_from(
    ["name", "steps", "a", "b", "job", "needs", "matrix", "queue", "timeout", "priority", "reuse", "model", "dataset"]
    + ["model.pull", "adapter.train", "adapter.compare", "adapters", "base_model", "seed", "options", "cpu", "8h", ""]
    + ["$a.model", "$b.adapter", "$a", "$matrix.seed", "${matrix.seed}", "${a.model}", "$matrix", "$a.model.x"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=12,
)
NAMES = st.sampled_from(["a", "b", "c", "d"])
STEPS = st.fixed_dictionaries(
    {
        "job": st.just("adapter.train"),
        "dataset": st.just("sha256:1"),
        "base_model": st.just("sha256:2") | NAMES.map("${}.adapter".format),
    },
    optional={
        "needs": st.lists(NAMES, max_size=2),
        "matrix": st.dictionaries(
            st.sampled_from(["seed", "rate"]), st.lists(st.integers(1, 3), min_size=1, unique=True), min_size=1
        ),
    },
)


@WITHOUT_CLOCK
@given(st.dictionaries(NAMES, STEPS, min_size=1) | st.dictionaries(NAMES, STEPS | VALUES) | VALUES)
def test_any_structure_is_a_recipe_in_order_or_refused_in_words(steps: Any) -> None:
    text = json.dumps({"name": "demo", "steps": steps})
    try:
        recipe = parse_recipe(text, Path("/recipes/demo.yaml"), find=find)
    except Invalid as error:
        refused = str(error).splitlines()
    else:
        refused = []
        names = [made.name for made in recipe.steps]
        assert all(names.index(need) < index for index, made in enumerate(recipe.steps) for need in made.needs)
        assert all({wait.step for wait in references(made.spec)} <= set(made.needs) for made in recipe.steps)
    assert all(line.startswith("demo.yaml line ") for line in refused)


# Overrides


def test_overrides_set_fields_and_axes_by_their_yaml_value() -> None:
    recipe = read(
        FANNED + "    seed: $matrix.seed\n",
        steps__train__matrix__seed="[7]",
        steps__train__notes="*.txt",
        steps__train__options='{"a": 1}',
        steps__base__model='"5"',
        name="other",
    )
    assert recipe.name == "other"
    assert recipe.steps[0].spec == {"model": "5"}
    made = step(recipe, "train[seed=7]").spec
    assert (made["seed"], made["notes"], made["options"]) == (7, "*.txt", {"a": 1})


@pytest.mark.parametrize(
    ("dotted", "value", "told"),
    [
        ("steps.trian.seed", "1", '--set steps.trian.seed: step "trian": there is no such step; did you mean "train"?'),
        ("steps.train.sed", "1", '--set steps.train.sed: step "train": unknown key "sed"; did you mean "seed"?'),
        ("steps.train.seed", "-1", '--set steps.train.seed: step "train": "seed" is -1: input should be greater than'),
        ("steps.train.seed", "[1", "--set steps.train.seed: step \"train\": '[1' is not a YAML value"),
        ("steps.train.seed.deep", "1", "what can be set is `name`, `cap_usd`, `steps.STEP.KEY` and"),
        ("steps", "1", "what can be set is"),
        ("seed", "1", "what can be set is"),
        ("", "1", "what can be set is"),
    ],
)
def test_an_override_that_cannot_be_is_named_by_its_key(dotted: str, value: str, told: str) -> None:
    (line,) = complaints(CHAIN, **{dotted: value})
    assert line.startswith("--set")
    assert told in line


# Caps


def test_a_recipe_may_have_a_cap() -> None:
    assert read(CHAIN).cap_usd is None
    assert read(f"{CHAIN}cap_usd: 25\n").cap_usd == 25.0
    assert read(f"{CHAIN}cap_usd: 25\n", cap_usd="0").cap_usd == 0.0


@pytest.mark.parametrize("given", ["-1", "lots", "[1]", "true"])
def test_a_cap_that_is_no_amount_is_refused_with_its_line(given: str) -> None:
    (line,) = complaints(f"{CHAIN}cap_usd: {given}\n")
    assert line.startswith("demo.yaml line 8: `cap_usd` is a number of US dollars")


# Files


def test_a_recipe_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "demo.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: demo\r\nsteps: 5\r\n")
    with pytest.raises(Invalid, match=r"^demo\.yaml line 2: `steps` must be a mapping"):
        load_recipe(path)


def test_a_missing_file_is_not_found_and_the_nearest_is_named(tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").touch()
    with pytest.raises(NotFound, match=r'there is no recipe ".*dmo\.yaml"; did you mean "demo\.yaml"\?'):
        load_recipe(tmp_path / "dmo.yaml")


def test_a_folder_is_refused_with_the_recipes_in_it(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="is a folder; it holds no recipe"):
        load_recipe(tmp_path)
    (tmp_path / "demo.yaml").touch()
    with pytest.raises(Invalid, match=r"is a folder; name a recipe in it: demo\.yaml"):
        load_recipe(tmp_path)


def test_a_file_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: demo\n# größer\n".encode("latin-1"))
    with pytest.raises(Invalid, match=r"^latin\.yaml line 2: the byte 0xf6 is not UTF-8; save the file as UTF-8"):
        load_recipe(path)


def test_a_file_that_is_far_too_long_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    with path.open("wb") as file:
        file.truncate(10**11)
    with pytest.raises(Invalid, match=r"^long\.yaml line 1: longer than"):
        load_recipe(path)


NEEDED = {  # what only the user can give; any file is one
    "cross_agent": {"steps.raw.source": __file__},
    "style_transfer": {"steps.chunks.source": __file__},
}


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml")), ids=lambda path: path.name
)
def test_every_recipe_that_comes_with_us_is_valid(path: Path) -> None:
    assert load_recipe(path, NEEDED.get(path.stem, {})).name == path.stem


def test_the_demo_is_seven_jobs_on_three_queues() -> None:
    steps = load_recipe(Path(__file__).parents[2] / "recipes" / "demo.yaml").steps
    assert [made.name for made in steps] == ["base", "chunks", "parts", "train", "merged", "score", "hosted"]
    assert {made.queue for made in steps} == {"cpu", "gpu", "api"}


# References


def test_references_are_found_wherever_they_stand_and_only_as_whole_values() -> None:
    spec = {"a": "$x.y", "b": ["$x.y", {"c": "$m[k=a b].z"}], "d": "see $x.y", "e": "$5.00", "f": 3}
    assert references(spec) == [Reference("x", "y"), Reference("m[k=a b]", "z")]


def test_references_are_filled_from_results_once() -> None:
    spec = {"a": "$x.y", "b": ["$x.y", {"c": "$m[k=1].z"}], "d": "see $x.y"}
    results: dict[str, dict[str, Any]] = {"x": {"y": "$x.y"}, "m[k=1]": {"z": [1, None]}}
    assert resolve_references(spec, results) == {"a": "$x.y", "b": ["$x.y", {"c": [1, None]}], "d": "see $x.y"}


def test_a_result_that_is_not_there_is_named() -> None:
    with pytest.raises(Invalid, match=r'\$x\.y: the step "x" has no result yet'):
        resolve_references({"a": "$x.y"}, {})
    with pytest.raises(Invalid, match=r'has no "modle"; did you mean "model"\?'):
        resolve_references({"a": "$x.modle"}, {"x": {"model": 1}})


@pytest.mark.parametrize(
    ("written", "seconds"), [(90, 90.0), ("90", 90.0), ("1.5h", 5400.0), ("15 m", 900.0), ("2d", 172800.0), (0.5, 0.5)]
)
def test_durations_have_units(written: object, seconds: float) -> None:
    assert duration_seconds(written) == seconds


@pytest.mark.parametrize("written", ["", "h", "8x", "-1s", "1h30m", True, None, [1], float("inf"), "9" * 400])
def test_what_is_no_duration_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="a duration"):
        duration_seconds(written)


# Fingerprints


class Inner(Spec):
    file: InputPath
    name: str = ""


class Everything(Spec):
    one: InputPath
    maybe: ArtifactRef | None = None
    many: list[InputPath] = []
    bounded: Annotated[list[ArtifactRef], Field(max_length=9)] = []
    pair: tuple[InputPath, str] | None = None
    named: dict[str, ArtifactRef] = {}
    inner: Inner | None = None
    mixed: Literal["none"] | ArtifactRef | list[ArtifactRef] = "none"
    words: frozenset[str] = frozenset()
    plain: str = ""


def seen(**values: Any) -> list[str]:
    asked: list[str] = []

    def content(value: str) -> str:
        asked.append(value)
        return "same"

    fingerprint("a.b", 1, Everything(**values), content)
    return asked


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, ["/one"]),
        ({"maybe": "m"}, ["/one", "m"]),
        ({"many": ["/a", "/b"], "bounded": ["c"]}, ["/one", "/a", "/b", "c"]),
        ({"pair": ("/a", "/b")}, ["/one", "/a"]),
        ({"named": {"/key": "v"}}, ["/one", "v"]),
        ({"inner": Inner(file="/f", name="/n")}, ["/one", "/f"]),
        ({"mixed": "none"}, ["/one"]),
        ({"mixed": "id"}, ["/one", "id"]),
        ({"mixed": ["id", "none"]}, ["/one", "id", "none"]),
        ({"plain": "/p", "words": ["/w"]}, ["/one"]),
    ],
)
def test_content_is_asked_for_every_path_and_artifact_and_nothing_else(
    values: dict[str, Any], expected: list[str]
) -> None:
    assert seen(one="/one", **values) == expected


def test_the_same_content_under_another_name_is_the_same_work() -> None:
    def by_content(value: str) -> str:
        return {"/a": "1", "/b": "1", "/c": "2"}[value]

    def of(kind: str = "k.v", version: int = 1, **values: Any) -> str:
        return fingerprint(kind, version, Everything(**values), by_content)

    assert of(one="/a") == of(one="/b") == of(one="/b", plain="")
    different = [of(one="/a"), of(one="/c"), of(one="/a", plain="x"), of("k.w", one="/a"), of(version=2, one="/a")]
    assert len(set(different)) == len(different)


@WITHOUT_CLOCK
@given(st.permutations(["a", "b", "c", "dd", "e1"]))
def test_the_order_of_a_set_does_not_count(words: list[str]) -> None:
    def as_is(value: str) -> str:
        return value

    made = fingerprint("k.v", 1, Everything(one="/a", words=frozenset(words)), as_is)
    assert made == fingerprint("k.v", 1, Everything(one="/a", words=frozenset(["e1", "dd", "c", "b", "a"])), as_is)


def test_a_fingerprint_is_the_same_in_every_process() -> None:
    spec = Everything(one="/a", words=frozenset(["x", "y", "z"]))
    assert fingerprint("k.v", 1, spec, str.upper) == "eb64d937e1f203e3ff37c9cb54555a80ccda7ec87f68d97cfea111077148200a"
