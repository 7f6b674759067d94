"""The store: claims, leases, requests, migrations."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlmodel import SQLModel

import queue_app.migrations
from queue_app.errors import Invalid, NotFound, Permanent, StaleTransition, Transient
from queue_app.lifecycle import Cause, Event, Reason, Request, State
from queue_app.store import Database, NewJob, Readings, Store
from queue_app.store.database import SCHEMA_REVISION

if TYPE_CHECKING:
    from collections.abc import Callable

    from queue_app.store import Job


def submit(store: Store, *, queue: str = "cpu", priority: int = 0, needs: tuple[str, ...] = ()) -> str:
    new = NewJob(kind="a.b", queue=queue, spec={}, priority=priority, needs=needs)
    store.submit([new], actor="user")
    return new.id


def claim(store: Store, *, lease_seconds: float = 60) -> Job | None:
    return store.claim(worker="w", lease_seconds=lease_seconds, queue="cpu")


def test_migrations_lead_to_the_declared_tables(store: Store):
    with store.database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []


def test_the_declared_revision_is_the_newest_migration():
    config = Config()
    config.set_main_option("script_location", str(Path(queue_app.migrations.__path__[0])))
    assert ScriptDirectory.from_config(config).get_current_head() == SCHEMA_REVISION


def test_several_processes_may_migrate_at_once(tmp_path: Path):
    databases = [Database(f"sqlite:///{tmp_path / 'new' / 'yard.db'}") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(Database.migrate, databases))
    assert {database.revision() for database in databases} == {SCHEMA_REVISION}
    for database in databases:
        database.engine.dispose()


def test_many_may_open_a_new_store_at_once(tmp_path: Path):
    together = threading.Barrier(8)

    def opened(database: Database) -> str:
        together.wait()
        with database.engine.connect() as connection:
            return str(connection.exec_driver_sql("PRAGMA journal_mode").scalar())

    for number in range(20):
        databases = [Database(f"sqlite:///{tmp_path / str(number)}.db") for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(opened, databases)) == {"wal"}
        for database in databases:
            database.engine.dispose()


def test_higher_priority_goes_first_then_who_came_first(store: Store):
    low, first, second = submit(store), submit(store, priority=5), submit(store, priority=5)
    assert [getattr(claim(store), "id", None) for _ in range(4)] == [first, second, low, None]


def test_many_claimers_get_every_job_once(store: Store):
    ids = {submit(store) for _ in range(60)}
    claimed: list[str] = []
    lock = threading.Lock()

    def work(_: int) -> None:
        while (job := claim(store)) is not None:
            with lock:
                claimed.append(job.id)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert len(claimed) == 60
    assert set(claimed) == ids


def test_an_old_attempt_can_write_nothing(store: Store):
    job_id = submit(store)
    claim(store, lease_seconds=-1)
    store.expire_leases(max_failures=3, actor="sweeper")
    claim(store)
    for write in (
        lambda: store.record(job_id, Event.SUCCEEDED, fence=1, actor="ghost", result={}),
        lambda: store.renew(job_id, fence=1, lease_seconds=60),
        lambda: store.report(job_id, fence=1, progress={"step": 1}),
        lambda: store.memos.intend(job_id, "start", fence=1),
    ):
        with pytest.raises(StaleTransition):
            write()
    assert store.read.job(job_id).state == State.RUNNING


def test_a_job_that_kills_its_worker_is_parked_not_looped(store: Store):
    job_id = submit(store)
    for _ in range(3):
        claim(store, lease_seconds=-1)
        store.expire_leases(max_failures=3, actor="sweeper")
    parked = store.read.job(job_id)
    assert (parked.state, parked.cause, parked.failures, claim(store)) == (State.FAILED, Cause.LOST, 3, None)
    assert store.read.tally()["expired_leases"] == 3


def test_a_lease_that_was_renewed_meanwhile_does_not_expire(store: Store):
    job_id = submit(store)
    claim(store, lease_seconds=-1)
    store.renew(job_id, fence=1, lease_seconds=60)
    assert store.expire_leases(max_failures=3, actor="sweeper") == []


def test_a_job_wakes_when_all_it_needs_has_succeeded(store: Store):
    a, b = submit(store), submit(store)
    both = submit(store, needs=(a, b))
    assert store.read.job(both).reason == Reason.DEPENDENCY
    for need in (a, b):
        assert store.read.job(both).state == State.WAITING
        claim(store)
        store.record(need, Event.SUCCEEDED, actor="w", result={})
    assert store.read.job(both).state == State.QUEUED


def test_a_job_whose_needs_are_met_already_is_queued_at_once(store: Store):
    a = submit(store)
    claim(store)
    store.record(a, Event.SUCCEEDED, actor="w", result={})
    assert store.read.job(submit(store, needs=(a,))).state == State.QUEUED


def test_a_pause_does_not_take_a_cancel_back(store: Store):
    job_id = submit(store)
    claim(store)
    store.cancel(job_id, actor="user")
    with pytest.raises(Invalid, match="is being cancelled, and cannot stand still"):
        store.pause(job_id, actor="user")
    assert store.read.job(job_id).request == Request.CANCEL


def test_cancelling_asks_whoever_may_hold_something(store: Store):
    fresh, held, remote = submit(store), submit(store, priority=2), submit(store, priority=1)
    assert store.cancel(fresh, actor="user").state == State.CANCELLED
    claim(store)
    running = store.cancel(held, actor="user")
    assert (running.state, running.request) == (State.RUNNING, Request.CANCEL)
    claim(store)
    store.record(remote, Event.POLL_SCHEDULED, actor="w", reason=Reason.REMOTE)
    polling = store.cancel(remote, actor="user")
    assert (polling.state, polling.request, polling.due_at is not None) == (State.WAITING, Request.CANCEL, True)


def test_pausing_what_nobody_holds_takes_it_off_the_queue(store: Store):
    job_id = submit(store)
    store.pause(job_id, actor="user")
    assert claim(store) is None
    store.resume(job_id, actor="user")
    assert claim(store) is not None


def test_a_submission_is_all_or_nothing(store: Store):
    good = NewJob(kind="a.b", queue="cpu", spec={})
    bad = NewJob(kind="a.b", queue="cpu", spec={}, needs=("nobody",))
    with pytest.raises(Exception, match="FOREIGN KEY"):
        store.submit([good, bad], actor="user")
    assert store.read.ls() == []


def test_ids_are_found_by_unique_prefix(store: Store):
    job_id = submit(store)
    assert store.read.find(job_id[:6]).id == job_id
    with pytest.raises(NotFound, match="there is no job"):
        store.read.find("0000")
    for _ in range(200):
        submit(store)
    several = next(c for c in "abcdefghijklmnopqrstuvwxyz" if sum(j.id[0] == c for j in store.read.ls(limit=500)) > 1)
    with pytest.raises(Invalid, match="fits several"):
        store.read.find(several)


def test_what_a_job_reports_at_steps_is_a_series(store: Store):
    job_id = submit(store)
    claim(store)
    for step in (1, 2):
        store.report(job_id, fence=1, progress={"step": step, "loss": 3.0 - step})
    store.report(job_id, fence=1, progress={"phase": "saving"})
    assert [(row["step"], row["loss"]) for row in store.read.series(job_id)] == [(1, 2.0), (2, 1.0)]


def test_a_state_that_is_none_cannot_be_written(store: Store):
    job_id = submit(store)
    with pytest.raises(Exception, match="state_is_known"), store.database.writing() as connection:
        connection.exec_driver_sql(f"UPDATE job SET state = 'nonsense' WHERE id = '{job_id}'")


def test_a_file_that_is_no_store_is_named(tmp_path: Path):
    path = tmp_path / "notes.db"
    path.write_bytes(b"these are my notes, not a database" * 100)
    with pytest.raises(Permanent, match=r"notes\.db: this is no usable store"):
        Database(f"sqlite:///{path}").migrate()


def test_a_store_of_a_newer_tuneyard_is_left_alone(store: Store):
    with store.database.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0099'")
    said = rf"written by a newer Tuneyard \(revision 0099; this one knows {SCHEMA_REVISION}\); upgrade"
    with pytest.raises(Permanent, match=said):
        store.database.migrate()
    assert store.database.revision() == "0099"


def test_the_jobs_of_a_store_of_the_revision_before_need_one_card(store: Store):
    job_id = submit(store)
    before = ["ALTER TABLE job DROP COLUMN cards", "ALTER TABLE job DROP COLUMN holds"]
    before += ["ALTER TABLE worker DROP COLUMN card_lost", "UPDATE alembic_version SET version_num = '0002'"]
    with store.database.writing() as connection:
        for statement in before:
            connection.exec_driver_sql(statement)
    store.database.migrate()
    claimed = claim(store)
    assert claimed is not None
    assert (claimed.id, claimed.cards, claimed.holds) == (job_id, 1, None)


def test_a_store_with_other_tables_than_its_revision_is_left_alone(store: Store):
    with store.database.writing() as connection:
        connection.exec_driver_sql("DROP TABLE worker")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0002'")
    with pytest.raises(Permanent, match=r"not those of revision 0002.*Nothing was changed; move this store away"):
        store.database.migrate()
    assert store.database.revision() == "0002"


def test_a_locked_store_is_waited_for(store: Store, tmp_path: Path):
    job_id = submit(store)
    blocker = sqlite3.connect(str(store.database.url.database), isolation_level=None, check_same_thread=False)
    blocker.execute("BEGIN IMMEDIATE")
    threading.Timer(0.5, lambda: blocker.execute("COMMIT")).start()
    claimed = claim(store)
    blocker.close()
    assert claimed is not None
    assert claimed.id == job_id


def test_a_question_has_one_answer_whichever_way_it_goes(store: Store):
    plain = str(store.database.url)
    other = Readings(Database(f"{plain}?timeout=5"))  # with an option it is SQLAlchemy's to read
    store.submit([new := NewJob(kind="a.b", queue="cpu", spec={"n": [1, None, "ü"]})], actor="user")
    later, waiting, odd = submit(store, priority=-1), submit(store, needs=(new.id,)), submit(store, queue="50%_/")
    claimed = claim(store)
    assert claimed is not None
    store.report(new.id, fence=1, progress={"step": 1, "loss": 0.5})
    both = (store.read, other)
    questions: tuple[Callable[[Readings], object], ...] = (
        lambda read: read.job(new.id),
        lambda read: read.find(later[:9]),
        lambda read: read.ls(),
        lambda read: read.ls(states=(State.WAITING, State.QUEUED), kind="a.b", limit=1),
        lambda read: (read.ids([new.id, odd, "gone"]), read.ids([])),
        lambda read: read.needs(waiting),
        lambda read: read.history(new.id),
        lambda read: read.series(new.id),
        lambda read: (read.due("cpu", limit=9), read.due("50%_/", limit=9)),
        lambda read: (read.census(), read.tally()),
    )
    for question in questions:
        assert question(store.read) == question(other)
    assert {read.find(new.id).submitted_at for read in both} == {claimed.submitted_at}
    assert {read.find(new.id).submitted_at.tzinfo for read in both} == {UTC}
    assert {read.due("cpu", limit=9)[0] for read in both} == {later}
    assert abs(store.read.clock() - other.clock()) < 5
    other.database.engine.dispose()


def test_both_ways_lead_to_the_same_file(tmp_path: Path):
    database = Database(f"sqlite:///{quote(str(tmp_path / 'my yard #1, 50%?' / 'ü.db'))}")
    assert database.revision() is None
    database.migrate()
    assert database.revision() == SCHEMA_REVISION
    assert (tmp_path / "my yard #1, 50%?" / "ü.db").is_file()
    database.engine.dispose()


def test_a_question_changes_nothing(store: Store):
    submit(store)
    with pytest.raises(Transient, match="readonly"):
        store.database.ask("DELETE FROM event")


def test_jobs_submitted_together_are_served_in_their_order(store: Store):
    new = [NewJob(kind="a.b", queue="cpu", spec={}) for _ in range(20)]
    store.submit(new, actor="user")
    assert [getattr(claim(store), "id", None) for _ in new] == [job.id for job in new]
