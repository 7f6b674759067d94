"""`tuneyard models ls`: the days that a hosted model has left."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from queue_app.cli import context
from queue_app.cli.application import run
from queue_app.lifecycle import Event
from queue_app.store import NewJob, Store
from tests.sandbox.server import SECRET, examples_file, serve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from tests.sandbox.server import Served

OPENAI_ENDS = date(2027, 1, 14)  # by the catalogue


def tuned(store: Store, folder: Path, provider: str, base_model: str) -> str:
    """A hosted model that a job has made; returns its name."""
    new = NewJob(kind="finetune.hosted", queue="api", spec={})
    store.submit([new], actor="user:me")
    name = f"ft:{base_model}:{new.id}"
    (folder / new.id).write_text(name)
    parts: dict[str, Any] = {"kind": "hosted-model", "name": name, "job_id": new.id, "parents": []}
    context.runner("test").artifacts.publish(folder / new.id, **parts)
    assert store.claim(worker="w", lease_seconds=60, job_id=new.id) is not None
    result = {"model": name, "provider": provider, "base_model": base_model}
    store.record(new.id, Event.SUCCEEDED, actor="w", fence=1, result=result)
    return name


def test_a_hosted_model_counts_its_days(
    yard: Store, tmp_path: Path, settle: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    settle(providers__openai__api_key=SECRET, providers__nebius__api_key=SECRET)
    ending = tuned(yard, tmp_path, "openai", "gpt-4o-mini-2024-07-18")
    over = tuned(yard, tmp_path, "openai", "gpt-3.5-turbo-0125")
    staying = tuned(yard, tmp_path, "nebius", "meta-llama/Llama-3.1-8B-Instruct")
    gone = tuned(yard, tmp_path, "closed-down", "x")
    assert run(["models", "ls", "--json"]) == 0
    lives = {row["name"]: row["life"] for row in json.loads(capsys.readouterr().out)}
    assert lives[ending]["days"] == (OPENAI_ENDS - datetime.now(UTC).date()).days
    assert lives[over]["until"] == "2026-10-23"
    assert lives[over]["days"] < 0
    assert lives[staying]["until"] is None
    assert lives[gone]["provider"] == ""
    assert run(["models", "ls"]) == 0
    shown = capsys.readouterr().out
    assert "over since 2026-10-23" in shown
    assert "no end known" in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_a_model_tuned_at_a_provider_is_in_the_table_by_its_name(
    yard: Store, tmp_path: Path, at: Callable[[Served], None], capsys: pytest.CaptureFixture[str]
) -> None:
    examples_file(tmp_path / "examples.jsonl")
    words = ["dataset=examples.jsonl", "provider=acme", "base_model=sandbox-base", "suffix=tone"]
    with serve(tmp_path / "state") as sandbox:
        at(sandbox)
        assert run(["jobs", "submit", "finetune.hosted", *words, "--here", "-q"]) == 0
    [job] = yard.read.ls()
    assert job.result is not None
    capsys.readouterr()
    assert run(["models", "ls", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert (row["name"], row["kind"]) == (job.result["model"], "hosted-model")
    assert run(["models", "ls"]) == 0
    shown = capsys.readouterr().out
    assert "no end known" in shown
    assert "acme" in shown


def test_a_long_name_stands_on_one_line_and_the_rest_of_its_row_under_it(
    yard: Store, tmp_path: Path, settle: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    settle(providers__openai__api_key=SECRET)
    base = "gpt-4o-mini-2024-07-18:an-organisation-with-a-long-name:support-in-three-languages"
    name = tuned(yard, tmp_path, "openai", base)
    assert run(["models", "ls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert name in lines
    assert "openai" in lines[lines.index(name) + 1]
    assert max(map(len, lines)) <= 100


def test_an_export_is_listed_and_only_what_can_talk_here_is_offered_to_chat_with(
    yard: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    publish = context.runner("test").artifacts.publish
    made = publish(tmp_path / "model.gguf", kind="gguf", name=None, job_id=None, parents=[])
    assert run(["models", "ls"]) == 0
    told = capsys.readouterr()
    assert made.id[7:19] in told.out
    assert " gguf " in told.out
    assert "tuneyard chat" not in told.err + told.out
