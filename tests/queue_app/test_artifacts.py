"""Artifacts: whole or absent, found by content, kept apart from garbage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from queue_app.artifacts import ArtifactStore, Content
from queue_app.errors import Invalid, NotFound
from queue_app.garbage import collect
from queue_app.lifecycle import Event
from queue_app.store import NewJob, Store


@pytest.fixture(params=["folder", "memory"])
def artifacts(request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> ArtifactStore:
    """Every artifact store must pass: a folder, and one that is no file system of ours (fsspec's in memory)."""
    url = str(tmp_path / "artifacts") if request.param == "folder" else f"memory://{tmp_path.name}"
    return ArtifactStore(url, store.artifacts, tmp_path / "cache")


def make(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def publish(artifacts: ArtifactStore, path: Path, name: str | None = None, parents: tuple[str, ...] = ()) -> str:
    return artifacts.publish(path, kind="dataset", name=name, job_id=None, parents=parents).id


def test_a_folder_comes_back_as_it_was(artifacts: ArtifactStore, tmp_path: Path):
    artifact_id = publish(artifacts, make(tmp_path / "a", one="1", deep__two="2"))
    found = artifacts.fetch(artifact_id)
    assert {p.relative_to(found).as_posix(): p.read_text() for p in found.rglob("*") if p.is_file()} == {
        "one": "1",
        "deep/two": "2",
    }


def test_a_file_comes_back_as_it_was(artifacts: ArtifactStore, tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("text")
    assert artifacts.fetch(publish(artifacts, path)).read_text() == "text"


def test_the_same_content_is_the_same_artifact(artifacts: ArtifactStore, tmp_path: Path):
    first = publish(artifacts, make(tmp_path / "a", one="1"))
    assert publish(artifacts, make(tmp_path / "b", one="1")) == first
    assert publish(artifacts, make(tmp_path / "c", one="2")) != first
    assert publish(artifacts, make(tmp_path / "d", uno="1")) != first
    assert len(artifacts.index.ls()) == 3


def test_an_artifact_is_found_by_prefix_and_by_name(artifacts: ArtifactStore, tmp_path: Path):
    first = publish(artifacts, make(tmp_path / "a", one="1"), "small")
    second = publish(artifacts, make(tmp_path / "b", one="2"), "small")
    assert artifacts.index.find(first[7:19]).id == first
    assert artifacts.index.find("small").id == second
    with pytest.raises(NotFound):
        artifacts.index.find("smal")
    with pytest.raises(Invalid, match="fits 2 artifacts"):
        artifacts.index.find("sha256:")


def test_lineage_names_the_parents(artifacts: ArtifactStore, tmp_path: Path):
    parent = publish(artifacts, make(tmp_path / "a", one="1"))
    child = publish(artifacts, make(tmp_path / "b", one="2"), parents=(parent,))
    assert artifacts.index.parents(child) == [parent]


def test_without_its_manifest_there_is_nothing(artifacts: ArtifactStore, tmp_path: Path):
    artifact_id = publish(artifacts, make(tmp_path / "a", one="1"))
    artifacts.delete(artifact_id)
    assert not artifacts.has(artifact_id)
    with pytest.raises(NotFound, match="no longer in"):
        artifacts.fetch(artifact_id)


def test_the_manifest_lists_every_file(store: Store, tmp_path: Path):
    artifacts = ArtifactStore(str(tmp_path / "artifacts"), store.artifacts, tmp_path / "cache")
    folder = make(tmp_path / "a", one="1", two="22")
    content = Content.of(folder)
    publish(artifacts, folder)
    manifest = json.loads((tmp_path / "artifacts" / content.digest / "manifest.json").read_text())
    assert [(entry["path"], entry["bytes"]) for entry in manifest["files"]] == [("one", 1), ("two", 2)]


def test_only_what_nothing_needs_is_garbage(store: Store, tmp_path: Path):
    home = tmp_path / "home"
    artifacts = ArtifactStore(str(home / "artifacts"), store.artifacts, tmp_path / "cache")
    kept = publish(artifacts, make(tmp_path / "a", one="1"))
    make(home / "artifacts" / ".incoming" / "x", half="h")
    make(home / "artifacts" / "unknown", content="u")
    done, failed = (NewJob(kind="a.b", queue="cpu", spec={}) for _ in range(2))
    store.submit([done, failed], actor="user")
    for job, event in ((done, Event.SUCCEEDED), (failed, Event.FAILED)):
        make(home / "jobs" / job.id, checkpoint="c", logs__log="l")
        store.claim(worker="w", lease_seconds=60, job_id=job.id)
        store.record(job.id, event, actor="w")
    garbage = collect(store, artifacts, home, delete=True)
    assert [piece.what for piece in garbage] == ["stray", "stray", "workdir"]
    assert artifacts.has(kept)
    assert (home / "jobs" / failed.id / "checkpoint").exists()
    assert [path.name for path in (home / "jobs" / done.id).iterdir()] == ["logs"]
    assert collect(store, artifacts, home, delete=False) == []


def test_while_a_job_runs_nothing_in_the_artifact_store_is_garbage(store: Store, tmp_path: Path):
    artifacts = ArtifactStore(str(tmp_path / "artifacts"), store.artifacts, tmp_path / "cache")
    make(tmp_path / "artifacts" / ".incoming" / "x", half="h")
    store.submit([NewJob(kind="a.b", queue="cpu", spec={})], actor="user")
    store.claim(worker="w", lease_seconds=60, queue="cpu")
    assert collect(store, artifacts, tmp_path / "home", delete=True) == []
