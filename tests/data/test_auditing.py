"""An audit measures a dataset whole, says no where it must, and publishes its report either way."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from queue_app.errors import Cancelled, Permanent, Transient
from queue_app.lifecycle import Cause, State
from tasks.data.auditing import processes
from tasks.data.auditing.piece import Crashed, Tick
from tasks.data.auditing.planning import AuditPlan, plan_parts
from tasks.data.auditing.processes import run_side_by_side
from tasks.data.gates import Thresholds
from tasks.data.scratch.rows import Rows

if TYPE_CHECKING:
    from tests.conftest import RunHere

CANARY = "<script>alert('canary')</script>"
E_MAIL = "margarete.mustermann@stadtwerke-nordheim.de"


def chat(question: str, answer: str, **fields: Any) -> str:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages, **fields})


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    rows = [chat(f"What is {n} plus {n}?", f"It is {2 * n}, of course.", category="sums") for n in range(40)]
    rows.insert(3, "{broken")
    rows.append(chat("Who is it?", f"Write to {E_MAIL}, please."))
    rows.append(chat("Empty?", "", category=E_MAIL, source_agent=E_MAIL, metadata={E_MAIL: E_MAIL}))
    rows.append(chat(f"{CANARY} Broken?", "It costs â‚¬ 5 at the cafÃ©.", category=CANARY))
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def report_of(run_here: RunHere, text: str) -> Path:
    found = re.search(r"sha256:[0-9a-f]+", text)
    assert found is not None
    return run_here.artifact(found[0])


def test_an_audit_publishes_its_report(run_here: RunHere, dataset: Path) -> None:
    job = run_here("dataset.audit", source=str(dataset))
    assert job.state == State.SUCCEEDED, job.failure
    assert job.result is not None
    folder = run_here.artifact(job.result["report"])
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json", "report.md"]
    assert job.result["examples"] == 43
    assert job.result["bad_rows"] == 1
    assert job.result["empty_answers"] == 1
    assert job.result["mojibake"] == 1
    assert job.result["pii"] == 2
    assert job.result["passed"] is None
    assert job.result["tokens"]["o200k_base"] > 43


def test_no_form_of_the_report_shows_what_is_personal_or_runs(run_here: RunHere, dataset: Path) -> None:
    job = run_here("dataset.audit", source=str(dataset))
    assert job.result is not None
    for path in run_here.artifact(job.result["report"]).iterdir():
        text = path.read_text(encoding="utf-8")
        assert E_MAIL not in text
        assert "mustermann" not in text
        if path.suffix == ".html":
            assert "<script" not in text
            assert "&lt;script&gt;" in text
            assert "://" not in text.replace(str(dataset), "")


def test_the_report_names_the_lines(run_here: RunHere, dataset: Path) -> None:
    job = run_here("dataset.audit", source=str(dataset))
    assert job.result is not None
    report = json.loads((run_here.artifact(job.result["report"]) / "report.json").read_bytes())
    assert report["schema"] == 1
    assert report["data"]["rows"]["first_bad"][0]["line"] == 4
    assert report["data"]["personal"]["types"]["email"]["lines"] == [42, 43]
    assert report["data"]["profile"]["answers"]["empty"]["lines"] == [43]
    assert report["data"]["profile"]["mojibake"]["lines"] == [44]


def test_a_threshold_that_is_passed_says_no_and_still_publishes(run_here: RunHere, dataset: Path) -> None:
    job = run_here("dataset.audit", source=str(dataset), max_pii=0, max_mojibake=0.5, min_examples=100, max_bad_rows=1)
    assert (job.state, job.cause) == (State.FAILED, Cause.GATE)
    assert job.failure is not None
    assert "max_pii=0: 2" in job.failure
    assert "min_examples=100: 43" in job.failure
    assert "max_mojibake" not in job.failure
    assert f"tuneyard data show {report_of(run_here, job.failure).parent.name[:12]}" in job.failure
    checks = json.loads((report_of(run_here, job.failure) / "report.json").read_bytes())["checks"]
    assert {check["name"]: check["passed"] for check in checks} == {
        "min_examples": False,
        "max_bad_rows": True,
        "max_pii": False,
        "max_mojibake": True,
    }


def test_a_threshold_that_holds_says_yes(run_here: RunHere, dataset: Path) -> None:
    job = run_here("dataset.audit", source=str(dataset), max_pii=0.1, max_secrets=0, max_bad_rows=1)
    assert job.state == State.SUCCEEDED, job.failure
    assert job.result is not None
    assert job.result["passed"] is True


@pytest.mark.parametrize(("lines", "failed"), [("", "min_examples=1: 0"), ("{broken\n" * 2, "max_bad_rows=0: 2")])
def test_a_file_that_was_not_read_passes_no_gate(run_here: RunHere, tmp_path: Path, lines: str, failed: str) -> None:
    path = tmp_path / "unread.jsonl"
    path.write_text(lines, encoding="utf-8")
    job = run_here("dataset.audit", source=str(path), max_secrets=0)
    assert job.cause == Cause.GATE
    assert failed in str(job.failure)


def test_findings_below_the_confidence_asked_for_are_told_apart(run_here: RunHere, tmp_path: Path) -> None:
    path = tmp_path / "unsure.jsonl"
    path.write_text(chat("Where is the router?", "At 192.168.0.17.") + "\n", encoding="utf-8")
    usual = run_here("dataset.audit", source=str(path))
    assert usual.result is not None
    assert (usual.result["pii"], usual.result["less_sure"]) == (0, {"ip": 1})
    assert "Less sure" in (run_here.artifact(usual.result["report"]) / "report.md").read_text(encoding="utf-8")
    low = run_here("dataset.audit", source=str(path), least="low")
    assert low.result is not None
    assert (low.result["pii"], low.result["less_sure"]) == (1, {})


def test_phone_numbers_are_looked_for_as_the_regions_say(run_here: RunHere, tmp_path: Path) -> None:
    path = tmp_path / "phones.jsonl"
    path.write_text(chat("Where can I call?", "Call 01 42 68 53 00 by day.") + "\n", encoding="utf-8")
    found = [
        (run_here("dataset.audit", source=str(path), least="low", regions=[region]).result or {})["pii"]
        for region in ("US", "FR")
    ]
    assert found == [0, 1]


@pytest.mark.parametrize(
    ("spec", "needed"),
    [({"max_leaks": 0}, "a holdout or a benchmark"), ({"max_pii": 0, "personal": False}, "personal=true")],
)
def test_a_threshold_on_what_is_not_measured_is_refused(
    run_here: RunHere, dataset: Path, spec: dict[str, Any], needed: str
) -> None:
    job = run_here("dataset.audit", source=str(dataset), **spec)
    assert job.state == State.FAILED
    assert needed in str(job.failure)


def test_nothing_is_audited_too(run_here: RunHere, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    job = run_here("dataset.audit", source=str(empty))
    assert job.state == State.SUCCEEDED, job.failure
    assert job.result is not None
    assert job.result["examples"] == 0
    refused = run_here("dataset.audit", source=str(empty), min_examples=1, max_pii=0.1)
    assert refused.cause == Cause.GATE


def test_parts_that_are_off_are_reported_as_not_done(run_here: RunHere, dataset: Path) -> None:
    off = dict.fromkeys(("personal", "languages", "balance", "duplicates", "contradictions"), False)
    job = run_here("dataset.audit", source=str(dataset), **off)
    assert job.result is not None
    report = json.loads((run_here.artifact(job.result["report"]) / "report.json").read_bytes())
    skipped = {section["key"]: section["skipped"] for section in report["sections"] if section["skipped"]}
    assert {"personal", "languages", "balance"} <= set(skipped)
    assert job.result["pii"] is None
    assert job.result["languages_sampled"] == 0


@pytest.mark.parametrize("spec", [{"tokenizers": ["no-such-model"]}, {"personal_types": ["emial"]}])
def test_an_unknown_name_is_refused(run_here: RunHere, dataset: Path, spec: dict[str, Any]) -> None:
    job = run_here("dataset.audit", source=str(dataset), **spec)
    assert (job.state, job.cause) == (State.FAILED, Cause.USER)


def count_to(limit: int, tick: Tick) -> int:
    tick(limit)
    return limit


def refuse(tick: Tick) -> None:
    raise Permanent(f"no {tick}", cause=Cause.DATA)


def stumble(tick: Tick) -> None:
    raise ZeroDivisionError(str(tick))


def die(tick: Tick) -> None:
    tick(1)
    os._exit(7)


def fill_a_disk(folder: Path, tick: Tick) -> None:
    tick(1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    with Rows(folder, number="Q") as rows:
        while True:
            rows.append(1)


def knock(folder: Path, tick: Tick) -> None:
    tick(1)
    raise PermissionError(errno.EACCES, "Permission denied", str(folder))


def hang(tick: Tick) -> None:
    tick(os.getpid())
    threading.Event().wait()


def end_late(tick: Tick) -> int:
    threading.Thread(target=threading.Event().wait).start()  # keeps its process after the work is done
    tick(os.getpid())
    return 8


def go_on(tick: Tick) -> None:
    while True:
        tick(os.getpid())


def interrupt_itself(tick: Tick) -> int:
    tick(1)
    os.kill(os.getpid(), signal.SIGINT)
    return 9


def never_ready() -> NoReturn:
    while True:
        threading.Event().wait()


class SlowToLoad:
    """Work that its process never has in hand."""

    def __reduce__(self) -> tuple[Any, ...]:
        return never_ready, ()

    def __call__(self, tick: Tick) -> None:
        tick(1)


def nowhere(examples: Mapping[str, int]) -> None:
    del examples


def lives(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def test_pieces_of_work_come_back_from_their_processes_by_name() -> None:
    seen: dict[str, int] = {}
    pieces = {f"to {limit}": partial(count_to, limit) for limit in (5, 6, 7)}
    done = run_side_by_side(pieces, 2, seen.update)
    assert {name: piece.result for name, piece in done.items()} == {"to 5": 5, "to 6": 6, "to 7": 7}
    assert seen == {"to 5": 5, "to 6": 6, "to 7": 7}


@pytest.mark.parametrize("cores", [1, 2])
def test_a_refusal_keeps_its_cause(cores: int) -> None:
    with pytest.raises(Permanent, match="no ") as refused:
        run_side_by_side({"a": refuse, "b": refuse}, cores, nowhere)
    assert refused.value.cause == Cause.DATA


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(Crashed, match="ZeroDivisionError") as crashed:
        run_side_by_side({"a": stumble, "b": stumble}, 2, nowhere)
    assert "in stumble" in crashed.value.__notes__[0]


@pytest.mark.parametrize(("work", "number"), [(fill_a_disk, errno.EFBIG), (knock, errno.EACCES)])
def test_what_the_machine_refuses_is_no_bug_and_keeps_its_number_and_its_folder(
    work: Callable[[Path, Tick], None], number: int, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match=os.strerror(number)) as refused:
        run_side_by_side({"a": partial(work, tmp_path), "b": partial(count_to, 1)}, 2, nowhere)
    assert (refused.value.errno, refused.value.filename) == (number, str(tmp_path))


def test_a_process_that_dies_is_a_loss_that_may_be_retried() -> None:
    with pytest.raises(Transient, match="died .exit status 7.") as lost:
        run_side_by_side({"a": die, "b": partial(count_to, 1)}, 2, nowhere)
    assert lost.value.cause == Cause.LOST


def test_a_process_that_hangs_is_ended_and_may_be_retried() -> None:
    told: dict[str, int] = {}
    with pytest.raises(Transient, match=r"the process for a has said nothing for 0.3 s, after [\d,]+ examples") as lost:
        run_side_by_side({"a": hang}, 2, told.update, silent_seconds=0.3)
    assert lost.value.cause == Cause.LOST
    assert told["a"] == 0 or not lives(told["a"])


def test_a_process_that_never_begins_is_ended_and_may_be_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "START_SECONDS", 0.3)
    with pytest.raises(Transient, match="the process for a has not begun within 0.3 s") as lost:
        run_side_by_side({"a": SlowToLoad()}, 2, nowhere)
    assert lost.value.cause == Cause.LOST


def test_an_interrupt_of_the_whole_group_is_the_parents_to_answer() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert run_side_by_side({"a": interrupt_itself}, 2, nowhere)["a"].result == 9
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


def test_a_script_without_a_guard_is_not_run_again_in_its_processes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from functools import partial\n"
        "from tasks.data.auditing.processes import run_side_by_side\n"
        "from tests.data.test_auditing import count_to, nowhere\n"
        "print('once', flush=True)\n"
        "print(run_side_by_side({'a': partial(count_to, 5)}, 2, nowhere)['a'].result)\n"
    )
    places = os.pathsep.join(str(Path(place).absolute()) for place in sys.path)
    environment = os.environ | {"PYTHONPATH": places}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("once\n5\n", "")


def test_a_process_that_has_said_what_it_found_need_not_end_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "EXIT_SECONDS", 0.1)
    told: dict[str, int] = {}
    assert run_side_by_side({"a": end_late}, 2, told.update)["a"].result == 8
    assert not lives(told["a"])


@pytest.mark.parametrize("cores", [1, 2])
def test_an_interruption_ends_every_process(cores: int) -> None:
    told: dict[str, int] = {}

    def look(examples: Mapping[str, int]) -> None:
        told.update(examples)
        if sum(map(bool, told.values())) == cores:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        run_side_by_side({"a": go_on, "b": go_on}, cores, look)
    assert not any(lives(process_id) for process_id in told.values() if process_id != os.getpid())


def test_copies_are_counted_and_judged(run_here: RunHere, tmp_path: Path) -> None:
    rows = [chat(f"What is {n} times {n}?", f"{n} times {n} is {n * n}, as you know.") for n in range(9)]
    path = tmp_path / "copies.jsonl"
    path.write_text("\n".join([*rows, rows[0], rows[0], rows[1]]) + "\n", encoding="utf-8")
    job = run_here("dataset.audit", source=str(path), max_duplicates=0.2)
    assert job.cause == Cause.GATE
    assert "max_duplicates=0.2: 3 (25.00%)" in str(job.failure)
    report = json.loads((report_of(run_here, str(job.failure)) / "report.json").read_bytes())
    assert report["data"]["duplicates"]["clusters"][0]["lines"] == [1, 10, 11]


def test_two_processes_find_what_one_finds(dataset: Path) -> None:
    parts = plan_parts(AuditPlan(dataset, tokenizers=["o200k_base"]))
    assert parts.processes == 1  # it is small
    one, two = (run_side_by_side(parts.pieces, cores, nowhere) for cores in (1, 2))
    assert {name: piece.result for name, piece in one.items()} == {name: piece.result for name, piece in two.items()}
    assert set(one) == {"duplicates", "contradictions", "personal", "profile"}


def test_an_example_of_the_holdout_is_a_leak(run_here: RunHere, tmp_path: Path) -> None:
    rows = [chat(f"What is {n} times {n}?", f"{n} times {n} is {n * n}, as you know.") for n in range(9)]
    for name, some in (("train", rows), ("holdout", [chat("What else is there to ask?", "Nothing at all."), rows[6]])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(some) + "\n", encoding="utf-8")
    both = {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "holdout")}
    job = run_here("dataset.audit", source=both["train"], holdout=both["holdout"], max_leaks=0, similarity=0.99)
    assert job.cause == Cause.GATE, job.failure
    report = json.loads((report_of(run_here, str(job.failure)) / "report.json").read_bytes())
    same = [leak for leak in report["data"]["leaks"]["leaks"] if leak["kind"] == "same"]
    assert [(leak["line"], leak["dataset"], leak["twin"]) for leak in same] == [(7, "holdout", 2)]


def test_a_prompt_with_two_answers_is_a_contradiction(run_here: RunHere, tmp_path: Path) -> None:
    rows = [chat("Is it open?", "Yes, until six."), chat("Is it open?", "No, never."), chat("Where is it?", "Here.")]
    path = tmp_path / "doubtful.jsonl"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    job = run_here("dataset.audit", source=str(path), max_contradictions=0)
    assert job.cause == Cause.GATE, job.failure
    text = (report_of(run_here, str(job.failure)) / "report.md").read_text(encoding="utf-8")
    assert "Yes, until six." in text
    assert "No, never." in text


def test_every_threshold_is_measured_by_some_part(run_here: RunHere, tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text(chat("Is it open?", "Yes, until six.") + "\n", encoding="utf-8")
    every = dict.fromkeys(Thresholds.model_fields, 1)
    job = run_here("dataset.audit", source=str(path), benchmark=str(path), **every)
    assert job.state == State.SUCCEEDED, job.failure
    assert job.result is not None
    assert job.result["leaks"] == 1


def test_a_holdout_with_a_broken_row_is_refused(run_here: RunHere, dataset: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text(chat("Is it open?", "Yes, until six.") + "\n", encoding="utf-8")
    job = run_here("dataset.audit", source=str(path), holdout=str(dataset))
    assert job.cause == Cause.DATA
    assert "line 4" in str(job.failure)


def test_a_source_is_read_in_the_format_that_is_named(run_here: RunHere, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"instruction": "Add 1 and 2.", "input": "", "output": "3"}) + "\n", encoding="utf-8")
    named = run_here("dataset.audit", source=str(path), from_format="alpaca")
    assert (named.result or {})["bad_rows"] == 0, named.failure
    other = run_here("dataset.audit", source=str(path), from_format="sharegpt")
    assert (other.result or {})["bad_rows"] == 1, other.failure


def test_personal_keys_are_masked_and_alike_ones_are_counted_together(run_here: RunHere, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    message = {"role": "user", "content": "Who?", E_MAIL: 1}
    rows = [chat("Who?", "Me.", **{f"{first}{E_MAIL}": 1}) for first in ("", "m")]
    path.write_text("\n".join([*rows, json.dumps({"messages": [message]})]) + "\n", encoding="utf-8")
    job = run_here("dataset.audit", source=str(path))
    found = json.loads((run_here.artifact((job.result or {})["report"]) / "report.json").read_bytes())["data"]["rows"]
    assert list(found["unknown_keys"].values()) == [2]
    assert E_MAIL not in json.dumps(found)
    assert "m….de: is not known here" in found["first_bad"][0]["problem"]
