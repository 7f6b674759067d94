"""Rated rows out of real databases become examples, nothing is written there, and no password comes to light."""

from __future__ import annotations

import json
import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr, ValidationError

from queue_app.errors import Invalid, NotFound
from queue_app.lifecycle import Cause, State
from settings import Settings
from tasks.data.databases import open_database
from tasks.data.exporting import choose_columns, to_record
from tasks.data.reading import read_records
from tasks.data.selecting import only_select
from tasks.export_dataset import ExportDataset
from tests.conftest import RunHere
from tests.data.outcomes import result_of

if TYPE_CHECKING:
    from queue_app.store import Store

SCHEMA = """
create table answers (
  id integer primary key, instruction text, input text, output text,
  rating numeric, owner text, domain text, type text, created timestamp
);
create view gold as select * from answers where rating >= 5;
"""
ROWS = [
    (1, "What is 2 and 2?", None, "4", 5, "ana", "sums", "gold star", "2026-01-05 10:00:00"),
    (2, "What is 3 and 3?", "Think.", "6", 3, "ana", "sums", "draft", "2026-02-05T10:00:00"),
    (3, "Name a river.", None, "The Po.", 4.5, "bo", "rivers", "gold star", "2026-03-05 10:00:00"),
    (4, "Name a lake.", None, "Como.", 5, "bo", "lakes", "gold star", None),
]


@pytest.fixture
def gold(tmp_path: Path) -> Path:
    return database(tmp_path / "gold.db")


def database(file: Path, *more: tuple[Any, ...]) -> Path:
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(SCHEMA)
        connection.executemany("insert into answers values (?,?,?,?,?,?,?,?,?)", [*ROWS, *more])
        connection.commit()
    return file


def with_databases(store: Store, settings: Settings, **urls: str) -> RunHere:
    named = {name: SecretStr(url) for name, url in urls.items()}
    return RunHere(store, settings.model_copy(update={"databases": named}))


def export(run_here: RunHere, source: Path, **spec: Any) -> tuple[dict[str, Any], list[Any]]:
    result = result_of(run_here("dataset.export", database=str(source), **({"table": "answers"} | spec)))
    return result, list(read_records(run_here.artifact(result["dataset"])))


def failure(run_here: RunHere, **spec: Any) -> str:
    job = run_here("dataset.export", **spec)
    assert job.state == State.FAILED
    assert job.failure is not None
    assert job.cause != Cause.BUG, job.failure
    return job.failure


def test_rows_become_examples_that_remember_their_rating(run_here: RunHere, gold: Path):
    result, records = export(run_here, gold)
    assert [message.content for message in records[1].messages] == ["What is 3 and 3?\n\nThink.", "6"]
    assert records[2].category == "rivers"
    assert records[2].metadata == {
        "id": 3,
        "type": "gold star",
        "owner": "bo",
        "rating": 4.5,
        "created": "2026-03-05 10:00:00",
    }
    assert result["ratings"] == {"5": 2, "3": 1, "4.5": 1}
    assert result["domains"] == {"sums": 2, "lakes": 1, "rivers": 1}
    assert (result["examples"], result["read"], result["rejected"]) == (4, 4, {})


@pytest.mark.parametrize(
    ("chosen", "ids"),
    [
        ({"min_rating": 4.5}, [1, 3, 4]),
        ({"owner": ["ana"]}, [1, 2]),
        ({"domain": ["rivers", "lakes"], "type": ["gold star"]}, [3, 4]),
        ({"since": "2026-02-05T10:00:00"}, [2, 3]),
        ({"since": "2026-02-05T12:00:01+02:00"}, [3]),
        ({"limit": 2}, [1, 2]),
        ({"table": "gold"}, [1, 4]),
    ],
)
def test_rows_are_chosen_in_the_database(run_here: RunHere, gold: Path, chosen: dict[str, Any], ids: list[int]):
    _, records = export(run_here, gold, **chosen)
    assert [record.metadata["id"] for record in records] == ids


def test_a_limit_ends_the_reading_without_a_word(run_here: RunHere, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    more = [(n, f"What is {n}?", None, str(n), 5, "ana", "sums", "gold star", None) for n in range(5, 1300)]
    result, _ = export(run_here, database(tmp_path / "gold.db", *more), limit=3)
    assert result["examples"] == 3
    assert [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.WARNING] == []


def test_a_query_keeps_its_order_and_takes_filters_too(run_here: RunHere, gold: Path):
    query = "SELECT id, instruction AS asked, output, rating, ':x 100%' AS owner FROM answers ORDER BY id DESC; -- last"
    _, records = export(run_here, gold, table=None, query=query, columns={"instruction": "asked"})
    assert [record.metadata["id"] for record in records] == [4, 3, 2, 1]
    assert records[0].metadata["owner"] == ":x 100%"
    _, records = export(run_here, gold, table=None, query=query, columns={"instruction": "asked"}, min_rating=5)
    assert sorted(record.metadata["id"] for record in records) == [1, 4]


def test_whole_conversations_come_out_of_a_json_column(run_here: RunHere, tmp_path: Path):
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    with closing(sqlite3.connect(tmp_path / "talks.db")) as connection:
        connection.execute("create table talks (n integer primary key, messages json, stars boolean)")
        rows = [(1, json.dumps(turns), True), (2, json.dumps({"messages": turns, "weight": 0.5}), False)]
        connection.executemany("insert into talks values (?,?,?)", rows)
        connection.commit()
    _, records = export(run_here, tmp_path / "talks.db", table="talks", columns={"rating": "stars"})
    assert [record.weight for record in records] == [None, 0.5]
    _, records = export(run_here, tmp_path / "talks.db", table="talks", columns={"rating": "stars"}, min_rating=1)
    assert [record.metadata["rating"] for record in records] == [1]


BAD = [
    (5, None, None, "x", 5, None, None, None, None),
    (6, "Ask.", None, "  ", 5, None, None, None, None),
    (7, "Ask.", None, 8, 5, None, None, None, None),
    (8, "Ask.", None, b"\xff\xfe", 5, None, None, None, None),
    (9, "Ask.", None, "Yes.", "many stars", None, None, None, None),
]


def test_rows_that_are_no_example_are_set_aside_with_their_reasons(run_here: RunHere, tmp_path: Path):
    source = database(tmp_path / "bad.db", *BAD)
    with closing(sqlite3.connect(source)) as connection:
        connection.execute(
            "insert into answers (id, instruction, output, rating) values (10, 'A', cast(x'ff' as text), 5)"
        )
        connection.commit()
    result, records = export(run_here, source, skip_bad=True, min_rating=1)
    assert [record.metadata["id"] for record in records] == [1, 2, 3, 4, 7]  # a number in a text column is a text
    assert result["rejected"] == {"example": 5}
    lines = run_here.artifact(result["rejects"]).read_text().splitlines()
    told = {json.loads(line)["line"]: json.loads(line) for line in lines}
    assert [(row["field"], row["problem"]) for row in told.values()] == [
        ("instruction", "is missing"),
        ("output", "is blank"),
        ("output", "is not UTF-8 (byte 1)"),
        ("rating", "is no number, so it cannot be compared with min_rating"),
        ("output", "is not UTF-8 (character 1)"),
    ]
    assert json.loads(told[5]["raw"])["output"] == "x"


def test_without_skip_bad_the_first_bad_row_ends_it(run_here: RunHere, tmp_path: Path):
    source = database(tmp_path / "bad.db", *BAD)
    said = failure(run_here, database=str(source), table="answers")
    assert "bad.db table answers row 5: instruction: is missing" in said
    assert "skip_bad" in said


def test_a_database_is_read_again_unless_its_state_has_a_name(run_here: RunHere, gold: Path):
    assert run_here("dataset.export", database=str(gold), table="answers").reused_from is None
    assert run_here("dataset.export", database=str(gold), table="answers").reused_from is None
    named = {"database": str(gold), "table": "answers", "snapshot": "may"}
    first = run_here("dataset.export", **named)
    assert run_here("dataset.export", **named).reused_from == first.id


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"table": "answer"}, 'has no table "answer"; did you mean "answers"?'),
        ({"table": "answers", "columns": {"rating": "ratin"}}, 'no column "ratin" for rating; did you mean "rating"?'),
        ({"query": "select instruction, outptu as output from answers"}, 'no column "outptu"; did you mean "output"?'),
        ({"query": "select * from answer"}, 'no table "answer"; did you mean "answers"?'),
        ({"query": "select id from answers"}, "has no column instruction (columns: id)"),
        ({"query": "select instruction, output from answers", "min_rating": 3}, "no column rating to choose rows by"),
        ({"query": "select *, output from answers"}, 'has two columns "output"'),
        ({"query": "select from"}, "refuses the query"),
        ({"query": "delete from answers"}, "does not begin with SELECT"),
        ({"table": "answers", "columns": {"rating": "owner"}, "min_rating": 1}, "holds texts"),
        ({"table": "answers", "columns": {"created": "rating"}, "since": "2026-01-01"}, "holds numbers"),
        ({"table": "answers", "owner": ["nobody"]}, "no row is an example"),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_message(run_here: RunHere, gold: Path, spec: dict[str, Any], says: str):
    said = failure(run_here, database=str(gold), **spec)
    assert says in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite:////nowhere/gold.db", "there is no file /nowhere/gold.db"),
        ("sqlite:///gold.db", "full path"),
        ("sk-oops", "TUNEYARD_DATABASES__GOLD is no database URL"),
        ("oracel://u:sk-oops@host/x", 'there is no database called "oracel"'),
        ("mysql://u:sk-oops@host/x", "mysql needs the package MySQLdb"),
        ("postgresql+psycopg://u:sk-oops@host:port/x", "is no database URL"),
    ],
)
def test_a_database_that_is_not_there_is_named_without_its_password(
    store: Store, settings: Settings, url: str, says: str
):
    run_here = with_databases(store, settings, gold=url)
    said = failure(run_here, database="gold", table="answers")
    assert says in said
    assert_nowhere("sk-oops", settings.home, said)


def assert_nowhere(secret: str, home: Path, said: str) -> None:
    assert secret not in said
    for file in home.rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes(), file


def test_a_name_that_the_settings_do_not_know_is_told_with_the_nearest(store: Store, settings: Settings):
    run_here = with_databases(store, settings, gold="sqlite:////x.db")
    said = failure(run_here, database="glod", table="answers")
    assert 'no database is called "glod"; did you mean "gold"?' in said
    assert "TUNEYARD_DATABASES__GLOD" in said


def test_a_named_database_is_read(store: Store, settings: Settings, gold: Path):
    run_here = with_databases(store, settings, gold=f"sqlite:///{gold}")
    assert result_of(run_here("dataset.export", database="gold", table="answers"))["examples"] == 4


def test_a_file_that_is_no_database_is_said_to_be_none(run_here: RunHere, tmp_path: Path):
    (tmp_path / "gold.db").write_bytes(b"no database at all " * 100)
    assert "is no usable SQLite database" in failure(run_here, database=str(tmp_path / "gold.db"), table="answers")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:sk-oops@h/d",
        "postgresql://:sk@h/d",
        "mysql://u@h/d?password=sk-oops",
        "host=localhost password=sk-oops dbname=x",
        "host=/run/pg password = 'sk-oops'",
        "Server=h;Database=d;Pwd=sk-oops",
        "PASSWORD=sk-oops",
    ],
)
def test_a_password_in_a_spec_is_refused_and_not_quoted(url: str):
    with pytest.raises(ValidationError) as refused:
        ExportDataset(database=url, table="answers")
    [fault] = refused.value.errors()
    assert fault["loc"] == ()
    assert "TUNEYARD_DATABASES__GOLD" in fault["msg"]
    assert "sk-oops" not in fault["msg"]
    assert ExportDataset(database="postgresql://reader@host:5432/db", table="answers").table == "answers"


@pytest.mark.parametrize("name", ["reader sk-oops", "gold:sk-oops", "gold sk/../oops;x=1"])
def test_what_is_no_name_no_path_and_no_url_is_refused_unseen(name: str):
    with pytest.raises(ValidationError) as refused:
        ExportDataset(database=name, table="answers")
    assert "oops" not in str(refused.value.errors()[0]["msg"])


@pytest.mark.parametrize(
    "name", ["gold", "my-gold_2", "gold.db", "/srv/my data/year=2026/gold.db", "data/gold.sqlite3"]
)
def test_names_and_paths_are_taken_as_they_are(name: str):
    assert ExportDataset(database=name, table="answers").database == name


def test_the_passwords_of_databases_are_among_the_secrets(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TUNEYARD_DATABASES__GOLD", "postgresql://u:pa/ss#1@host/x?sslpassword=two%20words")
    monkeypatch.setenv("TUNEYARD_DATABASES__OTHER", "mssql://?odbc_connect=Driver%3DX%3BPWD%3Dthree%3BUID%3Du")
    settings = Settings()
    assert {"pa/ss#1", "two words", "three"} <= set(settings.secrets)
    assert "pa/ss" not in repr(settings)


def test_a_sqlite_file_is_opened_to_be_read_only(gold: Path):
    before = gold.read_bytes()
    with open_database(str(gold), {}) as opened:
        said = [str(error.value) for error in [pytest.raises(Invalid, opened.query, "select 1; delete from answers")]]
        rows = opened.rows(opened.table("answers"), {"id": "id"}, _anything())
        assert next(rows) == {"id": 1}
        assert sum(1 for _ in rows) == 3
    assert said == ["query: there is more than one statement; an export is one SELECT"]
    assert gold.read_bytes() == before
    assert sorted(path.name for path in gold.parent.glob("gold.db*")) == ["gold.db"]


def _anything() -> Any:
    from tasks.data.databases import Conditions

    return Conditions()


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        ("SELECT 1", "SELECT 1"),
        ("select 1 ;\n", "select 1"),
        ("select 1; -- a;b", "select 1"),
        ("with a as (select 1) select * from a -- ; delete from a", "with a as (select 1) select * from a"),
        ("select ';--', 'it''s' as \"update\" /* into */ from a", "select ';--', 'it''s' as \"update\"   from a"),
        ('(select updated_at, "into" from t) union (select 1)', '(select updated_at, "into" from t) union (select 1)'),
    ],
)
def test_one_select_is_let_through_without_its_comments(query: str, sent: str):
    assert only_select(query, "postgresql") == sent


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("drop table a", "does not begin"),
        ("select 1; select 2", "more than one"),
        ("with a as (delete from b returning *) select * from a", "DELETE"),
        ("select * into c from a", "INTO"),
        ("select * from a for update", "UPDATE"),
        ("select * from a for  key share", "FOR KEY SHARE"),
        ("select 'it", "does not end"),
        ("select 1 /* open", "does not end"),
        (r"select '\'; delete from a; --'", r"\'"),
        ("select $$; delete from a;$$", "$$"),
        ("select 1 /*! ; delete from a */", "/*"),
        ("select 1 /* /* */ ' */ ; delete from a; -- '", "/*"),
        ("explain analyze delete from a", "does not begin"),
        ("", "does not begin"),
    ],
)
def test_what_writes_or_cannot_be_told_is_not_sent(query: str, says: str):
    with pytest.raises(Invalid) as refused:
        only_select(query, "postgresql")
    assert says in str(refused.value)


def test_a_comment_of_mysql_is_not_taken_for_an_operator():
    assert only_select("select data #> '{a}' from t", "postgresql")
    for query in ("select 1 # '\n; delete from a # '", "select 5--1"):
        with pytest.raises(Invalid, match="not the same in every database"):
            only_select(query, "mysql")


def test_messages_are_taken_before_instruction_and_output_unless_these_are_named():
    there = ["messages", "instruction", "output"]
    assert choose_columns("t", there, {}, []) == {"messages": "messages"}
    assert choose_columns("t", there, {"output": "output"}, []) == {"instruction": "instruction", "output": "output"}
    with pytest.raises(NotFound, match="has no column output"):
        choose_columns("t", ["instruction", "answer"], {}, [])


def test_a_row_of_other_types_is_told_as_json_can_hold_it():
    from datetime import UTC, datetime
    from decimal import Decimal
    from uuid import UUID

    cells = {
        "instruction": b"Ask.",
        "output": "Yes.",
        "rating": Decimal("4.0"),
        "created": datetime(2026, 1, 1, tzinfo=UTC),
    }
    record = to_record({**cells, "id": UUID(int=1), "system": "Be kind."})
    assert [message.role for message in record.messages] == ["system", "user", "assistant"]
    assert record.metadata == {"id": str(UUID(int=1)), "rating": 4, "created": "2026-01-01T00:00:00+00:00"}
