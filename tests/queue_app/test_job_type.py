"""Job types: how they are declared, found by listing a folder, and checked against the rules of the house."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from queue_app.errors import Invalid
from queue_app.job_type import (
    ArtifactRef,
    Attempt,
    InputPath,
    PollAgain,
    Result,
    Spec,
    find_job_type,
    job,
    kinds,
    module_name,
    nearest,
)
from queue_app.recipe import RESERVED

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "peft", "trl", "unsloth", "openai", "together", "mistralai", "celery", "sqlalchemy")


class Given(Spec):
    path: InputPath = ""
    artifact: ArtifactRef = ""


class Made(Result):
    value: int = 0


# Every job type there is


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_is_declared_in_the_module_of_its_name(kind: str) -> None:
    found = find_job_type(kind)
    assert found.kind == kind
    assert found.body.__module__ == module_name(kind)
    assert found.queues
    assert found.summary


@pytest.mark.parametrize("kind", kinds())
def test_no_field_of_a_spec_has_the_name_of_a_key_that_recipes_reserve(kind: str) -> None:
    assert not set(find_job_type(kind).spec.model_fields) & set(RESERVED)


@pytest.mark.parametrize("kind", kinds())
def test_every_field_of_a_spec_says_what_it_means(kind: str) -> None:
    fields = find_job_type(kind).spec.model_fields
    assert [name for name, field in fields.items() if not field.description] == []


@pytest.mark.parametrize("kind", kinds())
def test_every_spec_is_frozen_and_refuses_keys_it_does_not_know(kind: str) -> None:
    config = find_job_type(kind).spec.model_config
    assert config.get("frozen") is True
    assert config.get("extra") == "forbid"


def test_importing_every_job_type_loads_no_heavy_library() -> None:
    program = (
        "import sys; from queue_app.job_type import find_job_type, kinds; "
        "[find_job_type(kind) for kind in kinds()]; "
        f"print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    )
    assert run(program, ROOT).split() == []


# Discovery, in a folder of its own

DECLARATION = """
from queue_app.job_type import Attempt, Result, Spec, job
class Given(Spec): ...
class Made(Result): ...
@job("{kind}", queues=("cpu",))
def body(spec: Given, attempt: Attempt) -> Made:
    "Says what it does."
"""


def run(program: str, folder: Path) -> str:
    """What the program prints, with the folder in front of the path."""
    code = f"import sys; sys.path[:0] = [{str(folder)!r}, {str(ROOT)!r}]; {program}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    return done.stdout.strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder `tasks` with one good job type, one module that breaks, and one that declares another kind."""
    tasks = tmp_path / "tasks"
    (tasks / "library").mkdir(parents=True)
    (tasks / "__init__.py").touch()
    (tasks / "library" / "__init__.py").touch()
    (tasks / "boil_water.py").write_text(DECLARATION.format(kind="water.boil"))
    (tasks / "burn_down_house.py").write_text("raise SystemExit('imported')\n")
    (tasks / "freeze_water.py").write_text(DECLARATION.format(kind="water.thaw"))
    return tmp_path


def test_kinds_are_listed_without_importing_any_and_packages_are_no_kinds(folder: Path) -> None:
    listed = run("from queue_app.job_type import kinds; print(*kinds())", folder)
    assert listed.split() == ["house.burn_down", "water.boil", "water.freeze"]


def test_a_kind_is_found_without_importing_the_others(folder: Path) -> None:
    program = "from queue_app.job_type import find_job_type; print(find_job_type('water.boil').summary)"
    assert run(program, folder) == "Says what it does."


def test_a_module_that_declares_another_kind_is_named(folder: Path) -> None:
    program = (
        "from queue_app.job_type import find_job_type\n"
        "try:\n    find_job_type('water.freeze')\n"
        "except Exception as error:\n    print(type(error).__name__, error)"
    )
    assert run(program, folder) == 'Invalid tasks/freeze_water.py declares no job type "water.freeze"'


def test_an_unknown_kind_is_refused_with_the_way_to_list_them() -> None:
    with pytest.raises(Invalid, match=r'^there is no job type "no\.such\.thing"; `tuneyard kinds` lists them$'):
        find_job_type("no.such.thing")


def test_a_kind_is_mapped_to_the_module_that_reads_as_a_sentence() -> None:
    assert module_name("dataset.prepare") == "tasks.prepare_dataset"


@pytest.mark.parametrize(
    ("word", "end"),
    [
        ("dataset.prepar", '; did you mean "dataset.prepare"?'),
        ("modelpull", '; did you mean "model.pull"?'),
        ("xyz", ""),
        ("", ""),
    ],
)
def test_the_nearest_word_ends_a_message_and_a_far_one_does_not(word: str, end: str) -> None:
    assert nearest(word, ["dataset.prepare", "model.pull"]) == end


# Declaring


def test_a_body_that_may_ask_to_be_called_again_declares_its_result_all_the_same() -> None:
    @job("water.boil", queues=("api", "cpu"), version=3)
    def boil(spec: Given, attempt: Attempt) -> Made | PollAgain:
        """Boil it.

        Slowly.
        """
        return PollAgain(1.0)

    assert (boil.spec, boil.result, boil.summary, boil.version) == (Given, Made, "Boil it.", 3)


def test_an_unknown_key_of_a_spec_is_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Given.model_validate({"pat": "x"})


@pytest.mark.parametrize(
    ("value", "path", "artifact"),
    [
        ("there", "{base}/there", "{base}/there"),
        ("../beside", "{parent}/beside", "{parent}/beside"),
        ("ther?", "{base}/ther?", "ther?"),
        ("s3://bucket/key", "s3://bucket/key", "s3://bucket/key"),
        ("builtin:x", "builtin:x", "builtin:x"),
        ("notes:2026.txt", "{base}/notes:2026.txt", "{base}/notes:2026.txt"),
        ("$base.model", "$base.model", "$base.model"),
        ("/", "/", "/"),
    ],
)
def test_paths_of_the_user_become_absolute_and_everything_else_stays(
    tmp_path: Path, value: str, path: str, artifact: str
) -> None:
    (tmp_path / "there").touch()
    (tmp_path / "notes:2026.txt").touch()
    (tmp_path.parent / "beside").touch()
    spec = Given.model_validate({"path": value, "artifact": value}, context={"base": tmp_path})
    places = {"base": tmp_path, "parent": tmp_path.parent}
    assert spec == Given(path=path.format(**places), artifact=artifact.format(**places))


def test_a_path_that_is_not_there_is_said_before_anything_is_submitted(tmp_path: Path) -> None:
    for value in ("not-there", "*.txt", "notes:2026.txt", "C:notes"):
        with pytest.raises(ValidationError, match="there is no file or folder"):
            Given.model_validate({"path": value}, context={"base": tmp_path})


def test_a_pipe_is_refused_before_it_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("path", "artifact"):
        with pytest.raises(ValidationError, match="pipe is neither a file nor a folder"):
            Given.model_validate({name: "pipe"}, context={"base": tmp_path})


def test_an_artifact_is_named_by_its_id_without_a_look_at_the_disk(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    given = {"path": "there", "artifact": "sha256:12"}
    assert Given.model_validate(given, context={"base": tmp_path}).artifact == "sha256:12"


def test_without_a_folder_to_start_from_paths_stay_as_they_are() -> None:
    assert Given.model_validate({"path": "x"}).path == "x"
