"""Artifacts: whole or absent, found by content, kept apart from garbage."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
from sqlalchemy.exc import IntegrityError

from queue_app.artifacts import ArtifactStore, Content, JobArtifacts, _keep
from queue_app.errors import Invalid, NotFound
from queue_app.garbage import collect
from queue_app.lifecycle import Event
from queue_app.shelf import Shelf
from queue_app.store import NewJob, Store
from queue_app.store.artifact_index import _insert_once
from queue_app.store.tables import lineage


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


def test_a_job_leaves_nothing_of_what_it_published_in_its_own_folder(
    artifacts: ArtifactStore, store: Store, tmp_path: Path
):
    jobs = [NewJob(kind="test.make", queue="cpu", spec={}, reuse=False) for _ in range(2)]
    store.submit(jobs, actor="test")
    ids = set()
    for new in jobs:
        own = tmp_path / new.id
        ids.add(JobArtifacts(artifacts, new.id, own).publish(make(own / "out", one="1"), kind="dataset"))
        assert list(own.iterdir()) == []
    assert len(ids) == 1
    assert (artifacts.fetch(ids.pop()) / "one").read_text() == "1"


def test_what_lies_elsewhere_stays_where_the_store_has_it_already(artifacts: ArtifactStore, tmp_path: Path):
    publish(artifacts, make(tmp_path / "a", one="1"))
    theirs = make(tmp_path / "theirs", one="1")
    JobArtifacts(artifacts, "job", tmp_path / "job").publish(theirs, kind="dataset")
    assert (theirs / "one").read_text() == "1"


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
    filesystem, root = fsspec.url_to_fs(artifacts.url)
    filesystem.rm(f"{root}/{artifact_id[7:]}/manifest.json")
    assert not artifacts.has(artifact_id)
    with pytest.raises(NotFound, match="no longer in"):
        artifacts.fetch(artifact_id)


def test_what_a_removal_left_half_way_does_not_stand_in_the_way(artifacts: ArtifactStore, tmp_path: Path):
    artifact_id = publish(artifacts, make(tmp_path / "a", one="1"))
    filesystem, root = fsspec.url_to_fs(artifacts.url)
    filesystem.rm(f"{root}/{artifact_id[7:]}/manifest.json")
    assert publish(artifacts, make(tmp_path / "b", one="1")) == artifact_id
    assert (artifacts.fetch(artifact_id) / "one").read_text() == "1"
    assert artifacts.strays(older_than_seconds=0) == []


def test_many_publishers_and_readers_of_the_same_content_agree(artifacts: ArtifactStore, tmp_path: Path):
    folders = [make(tmp_path / str(number), one="1", two="2") for number in range(8)]
    parent = publish(artifacts, make(tmp_path / "parent", zero="0"))
    with ThreadPoolExecutor(8) as threads:
        ids = set(threads.map(lambda folder: publish(artifacts, folder, "twins", (parent,)), folders))
        [artifact_id] = ids
        paths = set(threads.map(lambda _: artifacts.fetch(artifact_id), range(8)))
    [path] = paths
    assert sorted(file.name for file in path.iterdir()) == ["one", "two"]
    assert artifacts.index.parents(artifact_id) == [parent]
    assert artifacts.strays(older_than_seconds=0) == []
    assert list(artifacts.cache.glob(".incoming*")) == []


def test_a_second_reader_takes_what_the_first_one_brought(store: Store, tmp_path: Path):
    artifacts = ArtifactStore(f"memory://{tmp_path.name}", store.artifacts, tmp_path / "cache")
    artifact_id = publish(artifacts, make(tmp_path / "a", one="1"))
    kept = artifacts.fetch(artifact_id)
    coming = make(tmp_path / "cache" / "coming", one="1")
    _keep(coming, kept)
    assert (kept / "one").read_text() == "1"


def test_a_row_that_another_publisher_was_quicker_with_is_known(store: Store, tmp_path: Path):
    artifacts = ArtifactStore(str(tmp_path / "artifacts"), store.artifacts, tmp_path / "cache")
    parent, child = (publish(artifacts, make(tmp_path / name, one=name)) for name in "ab")
    row = {"child_id": child, "parent_id": parent}
    with store.database.writing() as connection:
        assert [_insert_once(connection, lineage, row) for _ in range(2)] == [True, False]
    unknown = {"child_id": child, "parent_id": "sha256:nothing"}
    with pytest.raises(IntegrityError), store.database.writing() as connection:
        _insert_once(connection, lineage, unknown)
    assert artifacts.index.parents(child) == [parent]


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
    gone = NewJob(kind="a.b", queue="cpu", spec={})
    store.submit([gone], actor="user")
    store.cancel(gone.id, actor="user")
    make(home / "jobs" / gone.id, checkpoint="c")
    assert [piece.what for piece in collect(store, artifacts, home, delete=False)] == ["workdir"], "strays are young"
    garbage = collect(store, artifacts, home, delete=True, older_than_seconds=0)
    assert [piece.what for piece in garbage] == ["stray", "stray", "workdir"]
    assert artifacts.has(kept)
    assert (home / "jobs" / failed.id / "checkpoint").exists()
    assert (home / "jobs" / gone.id / "checkpoint").exists(), "a cancelled job may be retried"
    assert [path.name for path in (home / "jobs" / done.id).iterdir()] == ["logs"]
    assert collect(store, artifacts, home, delete=False, older_than_seconds=0) == []


def test_what_is_kept_for_a_job_goes_when_it_has_succeeded_or_nobody_knows_it(
    artifacts: ArtifactStore, store: Store, tmp_path: Path
):
    jobs = {event: NewJob(kind="a.b", queue="cpu", spec={}) for event in (Event.SUCCEEDED, Event.FAILED)}
    queued = NewJob(kind="a.b", queue="cpu", spec={})
    store.submit([*jobs.values(), queued], actor="user")
    for event, job in jobs.items():
        store.claim(worker="w", lease_seconds=60, job_id=job.id)
        store.record(job.id, event, actor="w")
    ids = {name: job.id for name, job in (*jobs.items(), ("queued", queued))} | {"unknown": "nobodys"}
    for job_id in ids.values():
        Shelf(artifacts.url, job_id).write("attempt-1/checkpoint-3/manifest.json", b"{}")
    assert artifacts.strays(older_than_seconds=0) == []

    found = collect(store, artifacts, tmp_path / "home", delete=False)
    assert [(piece.what, piece.size_bytes) for piece in found] == [("checkpoints", 2)], "nobody's is young"
    found = collect(store, artifacts, tmp_path / "home", delete=True, older_than_seconds=0)
    assert sorted(Path(piece.path).name for piece in found) == sorted([ids[Event.SUCCEEDED], "nobodys"])
    assert [shelf.job_id for shelf in artifacts.shelves()] == sorted([ids[Event.FAILED], ids["queued"]])
    assert collect(store, artifacts, tmp_path / "home", delete=False, older_than_seconds=0) == []


def test_a_shelf_gives_back_what_was_put_there(artifacts: ArtifactStore, tmp_path: Path):
    shelf = Shelf(artifacts.url, "job")
    assert shelf.ls() == []
    large = bytes(range(256)) * 2**16
    (tmp_path / "large").write_bytes(large)
    beats: list[int] = []
    with (tmp_path / "large").open("rb") as file:
        for _ in range(2):  # what lies there already is replaced
            shelf.put(file, "deep/large", lambda: beats.append(1))
    shelf.write("small", b"1")
    shelf.write("small", b"22")
    assert shelf.ls() == ["deep/large", "small"]
    assert shelf.size_bytes == len(large) + 2
    shelf.get("deep/large", tmp_path / "came" / "large", lambda: beats.append(1))
    assert (tmp_path / "came" / "large").read_bytes() == large
    assert len(beats) in (0, 6), "three times two parts, or a second name for the file"
    assert shelf.read("small") == b"22"
    shelf.remove("deep")
    shelf.remove("deep")
    assert shelf.ls() == ["small"]
    shelf.remove()
    assert shelf.ls() == []


def test_a_stray_that_has_become_an_artifact_stays(artifacts: ArtifactStore, tmp_path: Path):
    content = Content.of(make(tmp_path / "a", one="1"))
    filesystem, root = fsspec.url_to_fs(artifacts.url)
    filesystem.makedirs(f"{root}/{content.digest}")
    filesystem.pipe_file(f"{root}/{content.digest}/half", b"h")
    [stray] = artifacts.strays(older_than_seconds=0)
    assert artifacts.strays(older_than_seconds=3600) == []
    artifact_id = publish(artifacts, tmp_path / "a")
    assert artifacts.remove_stray(stray) is False
    assert artifacts.has(artifact_id)


def test_while_a_job_runs_nothing_in_the_artifact_store_is_garbage(store: Store, tmp_path: Path):
    artifacts = ArtifactStore(str(tmp_path / "artifacts"), store.artifacts, tmp_path / "cache")
    make(tmp_path / "artifacts" / ".incoming" / "x", half="h")
    store.submit([NewJob(kind="a.b", queue="cpu", spec={})], actor="user")
    store.claim(worker="w", lease_seconds=60, queue="cpu")
    assert collect(store, artifacts, tmp_path / "home", delete=True, older_than_seconds=0) == []
