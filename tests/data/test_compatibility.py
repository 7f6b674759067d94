"""Compatibility matrices as they are read, and as they are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML as Writer

from queue_app.errors import Invalid, NotFound
from tasks.data.compatibility import read_compatibility

WHOLE = "agent,math,code,law\nmath,1,0.5,0\ncode,0.4,1,0.3\nlaw,0,0.2,1\n"
WEIGHTS = {
    "math": {"math": 1.0, "code": 0.5, "law": 0.0},
    "code": {"math": 0.4, "code": 1.0, "law": 0.3},
    "law": {"math": 0.0, "code": 0.2, "law": 1.0},
}
WHOLE_YAML = (
    "math: {math: 1, code: 0.5, law: 0}\ncode: {math: 0.4, code: 1, law: 0.3}\nlaw: {math: 0, code: 0.2, law: 1.0}\n"
)
SPREADSHEET = "\ufeff" + WHOLE.replace(",", ";").replace("\n", "\r\n")
DISORDERED = "agent,math,code,law\nlaw,0,0.2,1\n\nmath,1,0.5,0\ncode,0.4,1,0.3\n"


def written(folder: Path, text: str | bytes, name: str = "matrix.csv") -> Path:
    file = folder / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", WHOLE),
        ("a.csv", SPREADSHEET),
        ("a.CSV", DISORDERED),
        ("a.tsv", WHOLE.replace(",", "\t")),
        ("a.yaml", WHOLE_YAML),
        ("a.yml", "\ufeff" + WHOLE_YAML),
    ],
)
def test_a_matrix_reads_the_same_from_every_format(tmp_path: Path, name: str, text: str):
    matrix = read_compatibility(written(tmp_path, text, name))
    assert matrix.agents == ("math", "code", "law")
    assert matrix.weights == WEIGHTS
    assert matrix.targets("math") == [("math", 1.0), ("code", 0.5)]


@settings(deadline=None)  # it writes a file
@given(
    st.lists(
        st.text("ab ,;\"'é\n", min_size=1, max_size=4).map(str.strip).filter(bool), unique=True, min_size=1, max_size=5
    )
)
def test_any_names_survive_yaml(tmp_path_factory: pytest.TempPathFactory, names: list[str]):
    file = tmp_path_factory.mktemp("matrix") / "matrix.yaml"
    Writer().dump({source: {target: float(source == target) for target in names} for source in names}, file)
    assert read_compatibility(file).agents == tuple(names)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("law,0,0.2,1\n", ""), 'line 1: column "law": there is no such row; a matrix is square, this one has 2 rows'),
        (("law,0", "lawn,0"), 'line 4: row "lawn": there is no such column; did you mean "law"?'),
        (("0.4,1,0.3", "0.4,1"), 'line 3: row "code", column "law": the weight is missing; write 0 for never'),
        (("0.4,1,0.3", "0.4,1,"), 'line 3: row "code", column "law": the weight is missing'),
        (("0.4,1,0.3", "-0.4,1,0.3"), 'line 3: row "code", column "math": -0.4 is no weight'),
        (("0.4,1,0.3", "nan,1,0.3"), 'line 3: row "code", column "math": nan is no weight'),
        (("0.4,1,0.3", "inf,1,0.3"), 'line 3: row "code", column "math": inf is no weight'),
        (("0.4,1,0.3", "4,1,0.3"), 'line 3: row "code", column "math": 4 is no weight; write a number from 0'),
        (("0.4,1,0.3", "some,1,0.3"), 'line 3: row "code", column "math": "some" is no number; write one from 0 to 1'),
        (("0.4,1,0.3", '"0,4",1,0.3'), 'line 3: row "code", column "math": "0,4" is no number; write it with a point'),
        (("0.4,1,0.3", "0,4,1,0.3"), 'line 3: row "code": 4 cells, but 3 columns have a name; decimals take a point'),
        (("0.4,1,0.3", "0.4,0.9,0.3"), 'line 3: row "code", column "code": 0.9 on the diagonal'),
        (("agent,math,code", "agent,math,math"), 'line 1: two columns are named "math"; keep one'),
        (("agent,math,code", "agent,math,"), "line 1: a column has no name; give it one"),
        (("law,0,0.2,1", "code,0,0.2,1"), 'line 4: "code" has a row already, on line 3; keep one'),
        (("law,0,0.2,1", ",0,0.2,1"), "line 4: the row has no name"),
        (("code,0.4", '"code,0.4'), "this is not CSV"),
        ((WHOLE, ""), "there is no matrix in it"),
        ((WHOLE, "agent\nmath\n"), "there is no matrix in it"),
    ],
)
def test_a_csv_matrix_with_a_mistake_is_refused_with_row_and_column(tmp_path: Path, change: tuple[str, str], said: str):
    file = written(tmp_path, WHOLE.replace(*change))
    with pytest.raises(Invalid) as refusal:
        read_compatibility(file)
    assert said in str(refusal.value)
    assert str(file) in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("law: {math: 0, code: 0.2, law: 1.0}\n", ""), 'column "law": there is no such row'),
        (("law: 0.3", "law: .nan"), 'line 2: row "code", column "law": nan is no weight'),
        (("law: 0.3", "law: true"), 'line 2: row "code", column "law": "True" is no number'),
        (("law: 0.3", "law: "), 'line 2: row "code", column "law": the weight is missing'),
        (("law: 0.3", "law: [1]"), 'line 2: row "code", column "law": "[1]" is no number'),
        ((", law: 0.3", ""), 'line 2: row "code", column "law": the weight is missing'),
        (("code: {math: 0.4, code: 1, law: 0.3}", "code: 3"), 'line 2: row "code": must be a mapping'),
        (("law: {", "math: {"), "line 3: this is not YAML"),
        (("law: 0.3}", "law: 0.3"), "this is not YAML"),
        ((WHOLE_YAML, "- math\n"), "a matrix is a mapping of source agents"),
        ((WHOLE_YAML, ""), "there is no matrix in it"),
        ((WHOLE_YAML, "math: {}\n"), "there is no matrix in it"),
    ],
)
def test_a_yaml_matrix_with_a_mistake_is_refused_with_its_line(tmp_path: Path, change: tuple[str, str], said: str):
    with pytest.raises(Invalid) as refusal:
        read_compatibility(written(tmp_path, WHOLE_YAML.replace(*change), "matrix.yaml"))
    assert said in str(refusal.value)


def test_every_mistake_is_named_at_once(tmp_path: Path):
    with pytest.raises(Invalid) as refusal:
        read_compatibility(written(tmp_path, WHOLE.replace("0.4,1,0.3", "x,0.5,-1")))
    assert len(str(refusal.value).splitlines()) == 3


def test_what_is_no_utf_8_is_refused_with_its_line(tmp_path: Path):
    with pytest.raises(Invalid, match="line 2: byte 23 is not UTF-8"):
        read_compatibility(written(tmp_path, "agent,math,code,law\nma\xe9th,1".encode("latin-1")))


def test_a_file_that_is_not_there_or_no_matrix_is_refused(tmp_path: Path):
    with pytest.raises(NotFound, match="does not exist"):
        read_compatibility(tmp_path / "none.csv")
    with pytest.raises(Invalid, match="a compatibility matrix is a .csv"):
        read_compatibility(written(tmp_path, WHOLE, "matrix.xlsx"))


def test_more_agents_than_files_can_be_open_are_refused(tmp_path: Path):
    names = [f"a{number}" for number in range(201)]
    lines = [",".join([one, *("1" if one == other else "0" for other in names)]) for one in names]
    with pytest.raises(Invalid, match="201 agents, and 200 is the limit"):
        read_compatibility(written(tmp_path, "\n".join([",".join(["agent", *names]), *lines])))
