"""What becomes of a job by what its body does, on the real store and runner."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, SecretStr

from queue_app.errors import Invalid, Paused, Permanent, Released, Transient
from queue_app.job_type import ArtifactRef, Attempt, InputPath, JobType, PollAgain, Result, Spec, TakenBack, job
from queue_app.lifecycle import Cause, Event, Reason, Request, State
from queue_app.runner import Runner
from queue_app.store import NewJob
from settings import ProviderSettings, Settings
from tests.conftest import RunHere, eventually


class Number(Spec):
    """A number, and what to do with it."""

    number: int = Field(1, description="the number")


class Doubled(Result):
    """Twice the number."""

    number: int


class Text(Spec):
    """A file."""

    source: InputPath


class Kept(Result):
    """The file as an artifact."""

    text: str


class Chained(Spec):
    """An artifact of another job."""

    text: ArtifactRef
    times: int = 1


def declare(body: Any, **options: Any) -> JobType[Any, Any]:
    return job("number.double", queues=("cpu",), **options)(body)


def history(run_here: RunHere, job_id: str) -> list[str]:
    return [str(event.name) for event in run_here.store.read.history(job_id)]


def test_a_result_makes_the_job_succeed(run_here: RunHere):
    def body(spec: Number, attempt: Attempt) -> Doubled:
        return Doubled(number=2 * spec.number)

    done = run_here.declaring(declare(body))("number.double", number=21)
    assert (done.state, done.result, done.attempt) == (State.SUCCEEDED, {"number": 42}, 1)
    assert history(run_here, done.id) == ["submitted", "started", "succeeded"]


def test_a_permanent_error_fails_the_job_with_its_cause(run_here: RunHere):
    def body(spec: Number, attempt: Attempt) -> Doubled:
        raise Permanent("support.jsonl line 17: no answer", cause=Cause.DATA)

    failed = run_here.declaring(declare(body))("number.double")
    assert (failed.state, failed.cause, failed.failure) == (
        State.FAILED,
        Cause.DATA,
        "support.jsonl line 17: no answer",
    )


def test_a_bug_fails_the_job_at_once_and_keeps_the_traceback_without_secrets(run_here: RunHere):
    def body(spec: Number, attempt: Attempt) -> Doubled:
        raise ZeroDivisionError("the key is canary-5521")

    account = ProviderSettings(api_key=SecretStr("canary-5521"))
    buggy = run_here.with_provider("openai", account).declaring(declare(body))
    failed = buggy("number.double")
    assert (failed.state, failed.cause, failed.attempt) == (State.FAILED, Cause.BUG, 1)
    [last] = [event for event in run_here.store.read.history(failed.id) if event.name == Event.FAILED]
    log = (run_here.settings.home / "jobs" / failed.id / "logs" / "job.log").read_text()
    assert "ZeroDivisionError" in last.detail["traceback"]
    assert "ZeroDivisionError" in log
    assert "canary-5521" not in str(failed) + str(last.detail) + log


def test_a_transient_error_is_tried_again_after_a_pause_and_counted(run_here: RunHere):
    tries = []

    def body(spec: Number, attempt: Attempt) -> Doubled:
        tries.append(attempt.number)
        if len(tries) < 3:
            raise Transient("the provider is busy", retry_after=0.01)
        return Doubled(number=0)

    done = run_here.declaring(declare(body))("number.double")
    assert (done.state, done.failures, tries, done.failure) == (State.SUCCEEDED, 2, [1, 2, 3], None)
    assert history(run_here, done.id)[1:4] == ["started", "retry_scheduled", "started"]


def test_the_retry_budget_ends_a_job_that_never_succeeds(run_here: RunHere):
    def body(spec: Number, attempt: Attempt) -> Doubled:
        raise Transient("the provider is busy", retry_after=0.01)

    failed = run_here.declaring(declare(body))("number.double")
    assert (failed.state, failed.attempt) == (State.FAILED, run_here.settings.queue.max_failures)
    assert failed.failure is not None
    assert f"tuneyard jobs retry {failed.id}" in failed.failure


def test_a_poll_holds_no_worker_and_counts_no_failure(run_here: RunHere):
    polls = []

    def body(spec: Number, attempt: Attempt) -> Doubled | PollAgain:
        polls.append(attempt.number)
        return Doubled(number=0) if len(polls) == 5 else PollAgain(0.01)

    polling = run_here.declaring(declare(body))
    job_id = polling.submit("number.double")
    polling.runner.run(job_id=job_id)
    waiting = run_here.store.read.job(job_id)
    assert (waiting.state, waiting.reason, waiting.worker) == (State.WAITING, Reason.REMOTE, None)
    assert polling.finish(job_id).failures == 0
    assert polls == [1, 2, 3, 4, 5]


def test_the_same_work_is_done_once(run_here: RunHere, tmp_path: Path):
    source = tmp_path / "in.txt"
    source.write_text("one")
    runs = []

    def keep(spec: Text, attempt: Attempt) -> Kept:
        runs.append(spec.source)
        made = attempt.workdir / "out.txt"
        made.write_text(Path(spec.source).read_text() * 2)
        return Kept(text=attempt.artifacts.publish(made, kind="text"))

    keeping = run_here.declaring(job("text.keep", queues=("cpu",))(keep))
    first, second = (keeping("text.keep", source=str(source)) for _ in range(2))
    assert (second.result, second.reused_from, len(runs)) == (first.result, first.id, 1)
    assert history(run_here, second.id)[-1] == "reused"
    source.write_text("two")
    assert keeping("text.keep", source=str(source)).reused_from is None
    assert keeping.finish(keeping.submit("text.keep", source=str(source), reuse=False)).reused_from is None
    assert len(runs) == 3


def test_a_retry_on_a_mended_input_does_not_pass_for_the_work_on_the_broken_one(run_here: RunHere, tmp_path: Path):
    source = tmp_path / "in.txt"

    def keep(spec: Text, attempt: Attempt) -> Kept:
        text = Path(spec.source).read_text()
        if text == "broken":
            raise Permanent("mend it")
        return Kept(text=text)

    keeping = run_here.declaring(job("text.keep", queues=("cpu",))(keep))
    source.write_text("broken")
    failed = keeping("text.keep", source=str(source))
    source.write_text("mended")
    keeping.store.retry(failed.id, actor="test")
    assert (keeping.finish(failed.id).result or {})["text"] == "mended"
    source.write_text("broken")
    again = keeping("text.keep", source=str(source))
    assert (again.state, again.reused_from) == (State.FAILED, None)


def test_work_whose_input_was_edited_meanwhile_is_not_reused(run_here: RunHere, tmp_path: Path):
    source = tmp_path / "in.txt"

    def keep(spec: Text, attempt: Attempt) -> Kept:
        text = Path(spec.source).read_text()
        source.write_text("edited while the job ran")
        return Kept(text=text)

    keeping = run_here.declaring(job("text.keep", queues=("cpu",))(keep))
    for _ in range(2):
        source.write_text("as it was")
        assert keeping("text.keep", source=str(source)).reused_from is None


class Listed(Spec):
    """A file that names another one."""

    source: InputPath

    def also_reads(self) -> list[str]:
        named = Path(self.source).read_text()
        if named == "broken":
            raise Invalid("no file is called so")
        return [named]

    def done_at(self, settings: Settings) -> str:
        return "".join(self.also_reads())


def test_work_is_done_anew_when_what_an_input_names_in_its_turn_has_changed(run_here: RunHere, tmp_path: Path):
    source, named = tmp_path / "in.txt", tmp_path / "named.txt"
    source.write_text(str(named))

    def keep(spec: Listed, attempt: Attempt) -> Kept:
        return Kept(text=Path(spec.also_reads()[0]).read_text())

    keeping = run_here.declaring(job("text.keep", queues=("cpu",))(keep))
    named.write_text("one")
    first, second = (keeping("text.keep", source=str(source)) for _ in range(2))
    assert second.reused_from == first.id
    named.write_text("two")
    assert (keeping("text.keep", source=str(source)).result or {})["text"] == "two"


def test_an_input_that_is_broken_while_the_job_runs_loses_no_result(run_here: RunHere, tmp_path: Path):
    source = tmp_path / "in.txt"

    def keep(spec: Listed, attempt: Attempt) -> Kept:
        source.write_text("broken")
        return Kept(text="hours of work")

    keeping = run_here.declaring(job("text.keep", queues=("cpu",))(keep))
    source.write_text(str(tmp_path / "named.txt"))
    done = keeping("text.keep", source=str(source))
    assert (done.state, (done.result or {})["text"]) == (State.SUCCEEDED, "hours of work")


def test_a_job_takes_up_the_results_of_those_it_needs(run_here: RunHere, tmp_path: Path):
    def keep(spec: Text, attempt: Attempt) -> Kept:
        made = attempt.workdir / "out.txt"
        made.write_text("yard ")
        return Kept(text=attempt.artifacts.publish(made, kind="text"))

    def chain(spec: Chained, attempt: Attempt) -> Kept:
        made = attempt.workdir / "out.txt"
        made.write_text(attempt.artifacts.resolve(spec.text).read_text() * spec.times)
        return Kept(text=attempt.artifacts.publish(made, kind="text"))

    here = run_here.declaring(job("text.keep", queues=("cpu",))(keep), job("text.chain", queues=("cpu",))(chain))
    (tmp_path / "x").touch()
    first = NewJob(kind="text.keep", queue="cpu", spec={"source": str(tmp_path / "x")}, step="first")
    second = NewJob(kind="text.chain", queue="cpu", spec={"text": "$first.text", "times": 3}, needs=(first.id,))
    run_here.store.submit([first, second], actor="test")
    assert not here.runner.run(job_id=second.id)
    made = here.finish(first.id).result, here.finish(second.id).result
    assert run_here.artifact(made[1]["text"]).read_text() == "yard yard yard "  # type: ignore[index]
    assert run_here.store.artifacts.parents(made[1]["text"]) == [made[0]["text"]]  # type: ignore[index]


def test_what_failed_takes_its_dependents_along_and_a_retry_brings_them_back(run_here: RunHere):
    broken = [True]

    def body(spec: Number, attempt: Attempt) -> Doubled:
        if broken[0]:
            raise Permanent("not yet")
        return Doubled(number=1)

    here = run_here.declaring(declare(body))
    a = NewJob(kind="number.double", queue="cpu", spec={}, step="a")
    b = NewJob(kind="number.double", queue="cpu", spec={"number": "$a.number"}, step="b", needs=(a.id,))
    c = NewJob(kind="number.double", queue="cpu", spec={"number": "$b.number"}, step="c", needs=(b.id,))
    run_here.store.submit([a, b, c], actor="test")
    here.finish(a.id)
    lost = run_here.store.read.job(c.id)
    assert (lost.state, lost.failure) == (State.CANCELLED, "it needs b, which was cancelled")
    broken[0] = False
    run_here.store.retry(a.id, actor="test")
    assert run_here.store.read.job(c.id).state == State.WAITING
    assert [here.finish(each.id).state for each in (a, b, c)] == [State.SUCCEEDED] * 3


def run_until_reporting(here: RunHere, job_id: str, reporting: threading.Event) -> threading.Thread:
    thread = threading.Thread(target=here.runner.run, kwargs={"job_id": job_id})
    thread.start()
    assert reporting.wait(10)
    return thread


@pytest.mark.parametrize(("request_", "state"), [(Request.CANCEL, State.CANCELLED), (Request.PAUSE, State.PAUSED)])
def test_a_body_that_reports_learns_what_was_asked(run_here: RunHere, request_: Request, state: State):
    reporting, taken_back = threading.Event(), []

    def take_back(spec: Number, attempt: Attempt) -> TakenBack:
        taken_back.append(1)
        return TakenBack(("start",))

    def body(spec: Number, attempt: Attempt) -> Doubled:
        while True:
            attempt.report(phase="counting")
            reporting.set()

    cancelling = request_ == Request.CANCEL
    options = {"on_cancel": take_back} if cancelling else {"pausable": True}
    here = run_here.declaring(declare(body, **options))
    job_id = here.submit("number.double")
    thread = run_until_reporting(here, job_id, reporting)
    (run_here.store.cancel if cancelling else run_here.store.pause)(job_id, actor="user")
    thread.join(10)
    assert run_here.store.read.job(job_id).state == state
    assert taken_back == ([1] if cancelling else [])


def test_a_phase_is_shown_however_soon_it_follows_another(run_here: RunHere):
    shown = []

    def body(spec: Number, attempt: Attempt) -> Doubled:
        for phase in ("loading", "counting", "writing"):
            attempt.report(phase=phase)
            shown.append(run_here.store.read.job(attempt.job_id).progress)
        return Doubled(number=2)

    here = run_here.declaring(declare(body))
    here.finish(here.submit("number.double"))
    assert shown == [{"phase": "loading"}, {"phase": "counting"}, {"phase": "writing"}]


def test_a_worker_that_shuts_down_hands_its_job_back(run_here: RunHere):
    reporting = threading.Event()
    released = []

    def body(spec: Number, attempt: Attempt) -> Doubled:
        try:
            while True:
                attempt.report()
                reporting.set()
        except Released:
            released.append(1)
            raise

    here = run_here.declaring(declare(body))
    job_id = here.submit("number.double")
    thread = run_until_reporting(here, job_id, reporting)
    here.runner.stopping.set()
    thread.join(10)
    job_ = run_here.store.read.job(job_id)
    assert (job_.state, job_.failures, released) == (State.QUEUED, 0, [1])
    assert not here.runner.run(job_id=job_id)


@pytest.mark.parametrize(
    "end", [None, Permanent("no luck"), Transient("later"), Paused("the user paused"), Released("the worker goes")]
)
def test_however_an_attempt_ends_who_waits_for_its_card_is_rung_for(run_here: RunHere, end: BaseException | None):
    def body(spec: Number, attempt: Attempt) -> Doubled:
        if end is not None:
            raise end
        return Doubled(number=2)

    here = run_here.declaring(job("number.double", queues=("gpu",))(body))
    small = here.submit("number.double", queue="gpu")
    large = NewJob(kind="number.double", queue="gpu", spec={}, cards=2)
    here.store.submit([large], actor="test")
    rung: list[Any] = []
    assert replace(here.runner, ring=rung.append).run(job_id=small)
    assert rung == [{"gpu": [large.id]}]


def test_a_job_past_its_deadline_fails_and_is_taken_back(run_here: RunHere):
    taken_back = []

    def take_back(spec: Number, attempt: Attempt) -> TakenBack:
        taken_back.append(1)
        return TakenBack()

    def body(spec: Number, attempt: Attempt) -> Doubled:
        while True:
            attempt.report()

    here = run_here.declaring(declare(body, on_cancel=take_back))
    new = NewJob(kind="number.double", queue="cpu", spec={}, timeout_seconds=0.2)
    run_here.store.submit([new], actor="test")
    late = here.finish(new.id)
    assert (late.state, late.cause, taken_back) == (State.FAILED, Cause.DEADLINE, [1])


def test_an_attempt_that_lost_its_lease_changes_nothing(run_here: RunHere):
    reporting, go_on = threading.Event(), threading.Event()

    def body(spec: Number, attempt: Attempt) -> Doubled:
        reporting.set()
        go_on.wait(10)
        return Doubled(number=attempt.number)

    here = run_here.declaring(declare(body))
    job_id = here.submit("number.double")
    ghost = run_until_reporting(here, job_id, reporting)
    with run_here.store.database.writing() as connection:
        connection.exec_driver_sql("UPDATE job SET lease_until = '2000-01-01 00:00:00.000000'")
    run_here.store.expire_leases(max_failures=3, actor="sweeper")
    second = Runner(run_here.store, run_here.settings, "second", find=here.find)
    other = threading.Thread(target=second.run, kwargs={"job_id": job_id})
    other.start()
    eventually(lambda: run_here.store.read.job(job_id).attempt == 2)
    go_on.set()
    ghost.join(10)
    other.join(10)
    assert run_here.store.read.job(job_id).result == {"number": 2}
    assert history(run_here, job_id) == ["submitted", "started", "lease_expired", "started", "succeeded"]
    assert run_here.store.read.tally()["stale_transitions"] == 1


def test_a_lease_is_kept_for_as_long_as_the_body_takes(run_here: RunHere):
    quick = run_here.settings.model_copy(
        update={"queue": run_here.settings.queue.model_copy(update={"lease_seconds": 0.3})}
    )
    stop = threading.Event()

    def body(spec: Number, attempt: Attempt) -> Doubled:
        stop.wait(1.5)
        return Doubled(number=1)

    here = RunHere(run_here.store, quick, {"number.double": declare(body)}.__getitem__)
    job_id = here.submit("number.double")
    thread = threading.Thread(target=here.runner.run, kwargs={"job_id": job_id})
    thread.start()
    while thread.is_alive():
        assert run_here.store.expire_leases(max_failures=3, actor="sweeper") == []
        thread.join(0.05)
    assert run_here.store.read.job(job_id).state == State.SUCCEEDED


def test_a_spec_that_does_not_fit_is_the_users_error(run_here: RunHere):
    def body(spec: Number, attempt: Attempt) -> Doubled:
        raise AssertionError("must not be called")

    failed = run_here.declaring(declare(body))("number.double", number="many")
    assert (failed.cause, failed.attempt) == (Cause.USER, 1)
    assert "number" in (failed.failure or "")


def test_a_body_without_a_result_is_a_bug(run_here: RunHere):
    def body(spec: Number, attempt: Attempt) -> Doubled:
        return None  # type: ignore[return-value]

    assert run_here.declaring(declare(body))("number.double").cause == Cause.BUG


def test_a_pattern_stands_for_the_content_it_finds(run_here: RunHere, tmp_path: Path):
    runs = []

    def keep(spec: Text, attempt: Attempt) -> Doubled:
        runs.append(spec.source)
        return Doubled(number=len(runs))

    keeping = run_here.declaring(job("text.keep", queues=("cpu",))(keep))
    (tmp_path / "a.txt").write_text("one")
    pattern = str(tmp_path / "*.txt")
    assert keeping("text.keep", source=pattern).result == keeping("text.keep", source=pattern).result == {"number": 1}
    (tmp_path / "a.txt").write_text("two")
    assert keeping("text.keep", source=pattern).result == {"number": 2}


def test_a_full_disk_is_said_and_not_taken_for_a_bug(run_here: RunHere):
    def body(spec: Number, attempt: Attempt) -> Doubled:
        raise OSError(28, "No space left on device", "/data/checkpoint-20")

    failed = run_here.declaring(declare(body))("number.double")
    assert failed.cause == Cause.USER
    assert "/data/checkpoint-20: no room left on the disk" in (failed.failure or "")


def test_a_job_whose_log_cannot_be_opened_ends_with_the_reason_and_can_be_retried(run_here: RunHere):
    def body(spec: Number, attempt: Attempt) -> Doubled:
        return Doubled(number=1)

    here = run_here.declaring(declare(body))
    in_the_way = here.settings.home / "jobs"
    in_the_way.write_text("no folder")
    failed = here("number.double")
    assert (failed.state, failed.cause) == (State.FAILED, Cause.USER)
    assert "the job's log cannot be written (Not a directory)" in (failed.failure or "")
    assert str(in_the_way) in (failed.failure or "")
    in_the_way.unlink()
    here.store.retry(failed.id, actor="test")
    assert here.finish(failed.id).state == State.SUCCEEDED


def test_a_poll_that_goes_well_clears_the_failures_before_it(run_here: RunHere):
    troubles = [True, False] * 4

    def body(spec: Number, attempt: Attempt) -> Doubled | PollAgain:
        if troubles and troubles.pop(0):
            raise Transient("busy", retry_after=0.01)
        return PollAgain(0.01) if troubles else Doubled(number=1)

    done = run_here.declaring(declare(body))("number.double")
    assert (done.state, done.attempt, done.failures) == (State.SUCCEEDED, 8, 1)


def test_what_a_job_keeps_for_other_hosts_goes_once_it_has_succeeded(run_here: RunHere):
    def keep(spec: Number, attempt: Attempt) -> Doubled:
        attempt.artifacts.shelf.write("half", b"a half")
        if attempt.number == 1:
            raise Permanent("no luck")
        return Doubled(number=2 * spec.number)

    here = run_here.declaring(declare(keep))
    job_id = here.submit("number.double")
    assert here.finish(job_id).state == State.FAILED
    [kept] = here.runner.artifacts.shelves()
    assert (kept.job_id, kept.read("half")) == (job_id, b"a half"), "a retry may go on from it"
    here.store.retry(job_id, actor="user")
    assert here.finish(job_id).state == State.SUCCEEDED
    assert here.runner.artifacts.shelves() == []


def test_a_store_that_lets_nothing_go_undoes_no_success(run_here: RunHere, settings: Settings):
    def keep(spec: Number, attempt: Attempt) -> Doubled:
        attempt.artifacts.shelf.write("half", b"a half")
        Path(attempt.artifacts.shelf.path).rename(Path(attempt.artifacts.shelf.path).with_name("moved"))
        Path(attempt.artifacts.shelf.path).parent.rename(settings.home / "elsewhere")
        Path(attempt.artifacts.shelf.path).parent.symlink_to("checkpoints")  # leads in a circle
        return Doubled(number=2 * spec.number)

    here = run_here.declaring(declare(keep))
    job_id = here.submit("number.double")
    assert here.finish(job_id).state == State.SUCCEEDED
    log = (settings.home / "jobs" / job_id / "logs" / "job.log").read_text()
    assert "its checkpoints stay in the artifact store until `tuneyard gc --delete`" in log
