"""`tuneyard providers …`, with real clients at the sandbox."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from api_worker.sandbox.rules import Rules
from queue_app.cli.application import run
from queue_app.lifecycle import Event, Reason, State
from queue_app.store import NewJob, Store
from queue_app.store.slots import Refused
from tests.sandbox.server import ENDLESS, SECRET, examples_file, serve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from openai import OpenAI

    from tests.sandbox.server import Served

WITHOUT_END = Rules(pace=ENDLESS)


def started(client: OpenAI, folder: Path, key: str | None) -> str:
    """A remote job under a key, or under none, that somebody has started."""
    with examples_file(folder / "examples.jsonl").open("rb") as content:
        file = client.files.create(file=content, purpose="fine-tune").id
    metadata: Any = {"metadata": {"tuneyard": key}} if key else {}
    return client.fine_tuning.jobs.create(model="sandbox-base", training_file=file, **metadata).id


def submitted(store: Store, provider: str = "acme") -> str:
    new = NewJob(kind="finetune.hosted", queue="api", spec={"provider": provider})
    store.submit([new], actor="user:me")
    return new.id


def told(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert run(["providers", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_accounts_and_providers_are_listed_with_days_slots_and_no_key(
    yard: Store, settle: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    settle(providers__openai__api_key=SECRET, providers__openai__max_jobs="5", providers__odd__api_key=SECRET)
    yard.accounts.pause("openai", "openai: out of money", datetime.now(UTC) + timedelta(hours=1), Reason.BUDGET)
    rows = {row["name"]: row for row in told(capsys, "ls")}
    assert (rows["openai"]["key"], rows["openai"]["slots"], rows["openai"]["stands"]) == (
        "yes",
        "0/5 a model",
        "paused",
    )
    assert "out of money" in rows["openai"]["why"]
    yard.accounts.pause("openai", "openai: a job ended so", None, Reason.BUDGET)
    [row] = [row for row in told(capsys, "ls") if row["name"] == "openai"]
    assert row["why"] == "left alone until `tuneyard providers resume openai`: openai: a job ended so"
    assert (rows["together"]["key"], rows["together"]["slots"]) == ("no", "0/unknown")
    assert rows["mistral"]["new_jobs"] == "closed 2026-07-13"
    assert rows["odd"]["stands"] == "wrong"
    assert 'no provider goes by the name "odd"' in rows["odd"]["why"]
    assert run(["providers", "ls"]) == 0
    shown = capsys.readouterr().out
    assert SECRET not in shown
    assert max(len(line) for line in shown.splitlines() if not line.startswith("odd:")) <= 100


@pytest.mark.parametrize("name", ["openai", "azure", "together", "fireworks", "nebius", "mistral"])
def test_every_figure_has_its_source_and_what_is_unknown_says_so(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = told(capsys, "show", name)
    assert all(row["source"] and row["grade"] in "PSM" and row["seen"] for row in rows["figures"] + rows["closings"])
    assert run(["providers", "show", name]) == 0
    shown = capsys.readouterr().out
    assert all(model["name"] in shown for model in rows["models"])
    assert shown.count("unknown") >= len(rows["unknown"])
    assert max(map(len, shown.splitlines())) <= 100


def test_the_setting_of_an_unknown_limit_is_named(
    settle: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(capsys, "show", "together")["unknown"]["jobs_at_once"] == "TUNEYARD_PROVIDERS__TOGETHER__MAX_JOBS"
    settle(providers__together__max_jobs="4")
    assert "jobs_at_once" not in told(capsys, "show", "together")["unknown"]
    assert run(["providers", "show", "together"]) == 0
    assert "your TUNEYARD_PROVIDERS__TOGETHER__MAX_JOBS" in capsys.readouterr().out


def test_a_provider_that_is_not_there_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["providers", "show", "togehter"]) == 4
    assert 'did you mean "together"?' in capsys.readouterr().err
    assert run(["providers", "orphans", "together"]) == 3
    assert "set TUNEYARD_PROVIDERS__TOGETHER__API_KEY" in capsys.readouterr().err


def test_every_account_at_the_sandbox_can_be_handled(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "slots", "sandbox-mistral")[0]["pool"] == "sandbox-mistral"
    assert told(capsys, "resume", "sandbox-together")["account"] == "sandbox-together"
    assert run(["providers", "show", "sandbox-together"]) == 0
    assert "MAX_JOBS (a line of the file .env, as no shell can set it)" in " ".join(capsys.readouterr().out.split())


def test_slots_tell_foreign_jobs_from_ours(
    yard: Store, tmp_path: Path, at: Callable[[Served], None], capsys: pytest.CaptureFixture[str]
) -> None:
    ours = submitted(yard)
    job = yard.claim(worker="w", lease_seconds=60, job_id=ours)
    assert job is not None
    yard.slots.resize("acme/sandbox-base", 3, "acme itself")
    assert yard.slots.take(ours, "acme/sandbox-base", fence=1)
    with serve(tmp_path / "state", rules=WITHOUT_END) as sandbox, sandbox.client() as client:
        at(sandbox)
        started(client, tmp_path, f"ty-{ours}")
        started(client, tmp_path, None)
        started(client, tmp_path, "ty-aaaaaaaaaa")
        [row] = told(capsys, "slots", "acme")
    assert (row["pool"], row["size"], row["used"], row["free"]) == ("acme/sandbox-base", 3, 1, 2)
    assert (row["waiting"], row["believed"], row["foreign"]) == (0, None, 2)


def test_slots_tell_which_limit_holds_who_says_so_and_what_changes_it(
    yard: Store, tmp_path: Path, at: Callable[[Served], None], settle: Callable[..., None], capsys: Any
) -> None:
    pool, setting = "acme/sandbox-base", "TUNEYARD_PROVIDERS__ACME__MAX_JOBS"
    rules = Rules(pace=ENDLESS, max_concurrent=3, max_jobs_a_day=8)
    with serve(tmp_path / "state", rules=rules) as sandbox, sandbox.client():
        at(sandbox)
        assert told(capsys, "slots", "acme")[0]["limited_by"] == f"nobody; {setting} sets a limit"
        assert told(capsys, "refresh", "acme")[0]["limits"] > 0
        kept = yard.slots.get(pool)
        assert (kept.told, kept.told_a_day, kept.size) == (3, 8, None)
        yard.slots.resize(pool, 3, "acme itself")
        assert told(capsys, "slots", "acme")[0]["limited_by"] == "acme itself"
        settle(providers__acme__max_jobs="5")
        [row] = told(capsys, "slots", "acme")
        assert (row["size"], row["limited_by"]) == (3, f"{setting}: 5 from the next look of a worker that knows it")
        job = yard.claim(worker="w", lease_seconds=60, job_id=submitted(yard))
        assert job is not None
        yard.slots.resize(pool, 5, setting)
        assert yard.slots.take(job.id, pool, fence=1)
        changes: dict[str, Any] = {"reason": Reason.SLOT, "due_at": None, "has_slot": False}
        yard.record(job.id, Event.POLL_SCHEDULED, actor="w", fence=1, refused=Refused(3600.0), **changes)
        [row] = told(capsys, "slots", "acme")
        assert (row["size"], row["free"], row["believed"]) == (5, 0, 0)
        assert "a refusal lowered it, and `tuneyard providers resume acme` forgets that" in row["limited_by"]
        assert run(["jobs", "explain", job.id]) == 0
        assert "acme refused more than 0, which holds for now" in " ".join(capsys.readouterr().out.split())


def test_an_account_that_does_not_answer_still_shows_its_slots(
    yard: Store, tmp_path: Path, at: Callable[[Served], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(tmp_path / "state") as sandbox:
        at(sandbox)
    assert yard.slots.ls() == []
    [row] = told(capsys, "slots", "acme")
    assert (row["used"], row["foreign"], "no answer from" in row["note"]) == (0, None, True)
    assert run(["providers", "orphans", "acme"]) == 1
    said = capsys.readouterr()
    assert "no answer from" in said.err
    assert "no orphans at the 0 accounts that answered" in said.err


def test_an_orphan_is_adopted_by_its_job_and_collected_by_a_retry(
    yard: Store, tmp_path: Path, at: Callable[[Served], None], capsys: pytest.CaptureFixture[str]
) -> None:
    job_id = submitted(yard)
    assert yard.claim(worker="w", lease_seconds=60, job_id=job_id) is not None
    yard.record(job_id, Event.FAILED, actor="w", fence=1, failure="the worker burned")
    with serve(tmp_path / "state", rules=WITHOUT_END) as sandbox, sandbox.client() as client:
        at(sandbox)
        remote = started(client, tmp_path, f"ty-{job_id}")
        assert run(["providers", "orphans", "acme"]) == 0
        said = capsys.readouterr()
        assert f"job {job_id} (failed) knows of none" in " ".join(said.out.split())
        assert f"tuneyard providers adopt acme {remote}" in said.err
        assert run(["providers", "adopt", "acme", remote]) == 0
        assert f"tuneyard jobs retry {job_id}" in capsys.readouterr().err
        memo = yard.memos.get(job_id, "start")
        assert memo is not None
        assert (memo.done, memo.value) == (True, remote)
        assert run(["providers", "orphans", "acme"]) == 0  # until the retry nobody looks after it
        said = capsys.readouterr()
        assert f"job {job_id} is failed and looks after it no more" in " ".join(said.out.split())
        assert f"tuneyard jobs retry {job_id}" in said.err
        yard.retry(job_id, actor="test")
        assert told(capsys, "orphans", "acme") == []
        second = started(client, tmp_path, f"ty-{job_id}")
        assert run(["providers", "adopt", "acme", second]) == 3
        assert f"job {job_id} has a remote job already: {remote}" in capsys.readouterr().err
        [orphan] = told(capsys, "orphans", "acme")
        assert (orphan["remote_job"], remote in orphan["why"]) == (second, True)


def test_what_nobody_here_knows_can_be_cancelled_and_what_is_not_ours_cannot(
    yard: Store, tmp_path: Path, at: Callable[[Served], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert yard.read.ls() == []
    with serve(tmp_path / "state", rules=WITHOUT_END) as sandbox, sandbox.client() as client:
        at(sandbox)
        lost, foreign = started(client, tmp_path, "ty-aaaaaaaaaa"), started(client, tmp_path, None)
        [orphan] = told(capsys, "orphans", "acme")
        assert (orphan["remote_job"], orphan["key"]) == (lost, "ty-aaaaaaaaaa")
        assert run(["providers", "adopt", "acme", lost]) == 4
        assert run(["providers", "cancel", "acme", foreign]) == 3
        assert "carries no key of ours" in capsys.readouterr().err
        assert run(["providers", "cancel", "acme", lost]) == 0
        assert capsys.readouterr().out == f"{lost}  cancelled\n"
        assert [client.fine_tuning.jobs.retrieve(job).status for job in (lost, foreign)] == ["cancelled", "running"]


def test_what_a_job_looks_after_is_cancelled_with_the_job(
    yard: Store, tmp_path: Path, at: Callable[[Served], None], capsys: pytest.CaptureFixture[str]
) -> None:
    job_id = submitted(yard)
    with serve(tmp_path / "state", rules=WITHOUT_END) as sandbox, sandbox.client() as client:
        at(sandbox)
        remote = started(client, tmp_path, f"ty-{job_id}")
        assert yard.bills.adopt(yard.read.job(job_id), "acme", f"ty-{job_id}", remote)
        assert told(capsys, "orphans", "acme") == []
        assert run(["providers", "cancel", "acme", remote]) == 3
        assert f"tuneyard jobs cancel {job_id}" in capsys.readouterr().err


def test_an_account_is_resumed_with_the_jobs_that_wait_for_it(
    yard: Store, settle: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    settle(providers__together__api_key=SECRET)
    job_id, later = submitted(yard, "together"), datetime.now(UTC) + timedelta(hours=1)
    assert yard.claim(worker="w", lease_seconds=60, job_id=job_id) is not None
    changes: dict[str, Any] = {"reason": Reason.BUDGET, "due_at": later, "account": "together"}
    yard.record(job_id, Event.POLL_SCHEDULED, actor="w", fence=1, **changes)
    yard.accounts.pause("together", "out of money", later, Reason.BUDGET)
    assert told(capsys, "resume", "together") == {"account": "together", "jobs": 1}
    assert yard.accounts.get("together").paused_until is None
    again = yard.claim(worker="w", lease_seconds=60, queue="api")
    assert again is not None
    assert (again.id, again.state) == (job_id, State.RUNNING)


def test_what_the_api_tells_stands_beside_the_catalogue(
    tmp_path: Path, settle: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(tmp_path / "state") as sandbox:
        settle(
            providers__openai__base_url=sandbox.url,
            providers__openai__api_key=SECRET,
        )
        [found] = told(capsys, "refresh", "openai")
        assert run(["providers", "refresh", "openai"]) == 0
        shown = capsys.readouterr().out
    assert {row["what"] for row in found["differences"]} >= {"is offered"}
    assert "sandbox-base" in found["more"]
    assert "gpt-4.1-2025-04-14" in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_two_accounts_at_one_provider_count_its_models_once(
    tmp_path: Path, settle: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(tmp_path / "state") as sandbox:
        for name in ("OPENAI", "SECOND"):
            settle(**{f"providers__{name}__base_url": sandbox.url, f"providers__{name}__api_key": SECRET})
        settle(providers__second__api="openai", sandbox__port=sandbox.url.rpartition(":")[2].removesuffix("/v1"))
        found = told(capsys, "refresh")
        assert run(["providers", "refresh"]) == 0
        said = capsys.readouterr().err
    assert [each["account"] for each in found] == ["openai", "sandbox", "second"]
    assert {each["at"] for each in found} == {"openai"}
    differ = {row["model"] for each in found for row in each["differences"]}
    assert f"0 models are as the catalogue says, {len(differ)} are not" in said
    more = {model for each in found for model in each["more"]}
    assert f"{len(more)} more are offered" in said


@pytest.mark.parametrize("words", [["providers", "ls"], ["providers", "show", "openai"], ["models", "ls"]])
def test_a_catalogue_with_a_bad_row_is_refused_with_its_line(
    tmp_path: Path, settle: Callable[..., None], capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    file = tmp_path / "own.toml"
    file.write_text('# ours\n[[figure]]\nprovider = "openai"\nvalue = inf\nwhat = "jobs_at_once"\n')
    settle(catalogue=str(file))
    if words == ["models", "ls"]:
        assert run(words) == 0, "there is no hosted model, so nothing is asked of the catalogue"
        return
    assert run(words) == 3
    said = capsys.readouterr().err
    assert f"{file} line 4: value: " in said
    assert f"{file} line 2: source: is missing" in said


def test_rows_of_ones_own_are_shown(
    tmp_path: Path, settle: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.toml").write_text(
        '[[figure]]\nprovider = "together"\nwhat = "jobs_at_once"\nvalue = 7\n'
        'source = "our contract"\ngrade = "P"\nseen = 2026-11-21\n'
    )
    settle(catalogue=str(tmp_path / "own.toml"))
    assert "jobs_at_once" not in told(capsys, "show", "together")["unknown"]
    assert {row["slots"] for row in told(capsys, "ls") if row["name"] == "together"} == {"0/7"}


def test_limits_of_files_are_shown_with_their_source(capsys: pytest.CaptureFixture[str]) -> None:
    limits = told(capsys, "show", "nebius")["limits"]
    assert [(row["measure"], row["maximum"], row["severity"]) for row in limits] == [
        ("file_bytes", 5_000_000_000, "warning"),
        ("example_tokens", 8192, "warning"),
        ("example_tokens", 131_072, "blocking"),
    ]
    assert run(["providers", "show", "nebius"]) == 0
    assert "to 5,000,000,000, a warning" in capsys.readouterr().out
