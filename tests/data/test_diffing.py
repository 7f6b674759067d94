"""Every example of two versions is told as kept, added, removed or changed, once."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from queue_app.lifecycle import State
from tasks.data.diffing import Difference, Version, compare
from tasks.data.record import Function, Message, Record, ToolCall, encode
from tests.data.outcomes import result_of

if TYPE_CHECKING:
    from tests.conftest import RunHere


def asked(question: str, answer: str = "Yes.", **beside: Any) -> Record:
    return Record([Message("user", question), Message("assistant", answer)], **beside)


def version(*records: Record) -> Version:
    seen = Version()
    for line, record in enumerate(records, 1):
        seen.see(record, line)
    return seen


def counts(found: Difference) -> dict[str, int]:
    return {name: len(part) for name, part in found._asdict().items() if len(part)}


def write(path: Path, *records: Record) -> str:
    path.write_bytes(b"".join(encode(record) + b"\n" for record in records))
    return str(path)


def test_the_order_makes_no_difference():
    records = [asked(f"Question {number}?") for number in range(50)]
    assert counts(compare(version(*records), version(*reversed(records)))) == {"kept": 50}


def test_another_answer_another_label_and_what_is_new_are_told_apart():
    found = compare(
        version(asked("a"), asked("b"), asked("c", weight=1.0), asked("d")),
        version(asked("e"), asked("c", weight=0.5), asked("b", "No."), asked("a")),
    )
    assert counts(found) == {"kept": 1, "relabelled": 1, "reanswered": 1, "removed": 1, "added": 1}
    assert (found.reanswered.before.tolist(), found.reanswered.after.tolist()) == ([1], [2])
    assert (found.relabelled.before.tolist(), found.relabelled.after.tolist()) == ([2], [1])
    assert (found.removed.tolist(), found.added.tolist()) == ([3], [0])


def test_a_copy_less_is_one_example_removed():
    assert counts(compare(version(asked("a"), asked("a"), asked("a")), version(asked("a")))) == {
        "kept": 1,
        "removed": 2,
    }


def test_an_agents_new_answer_is_paired_with_its_own():
    agents = ["x", "y", "z"]
    before = version(*(asked("a", f"By {agent}.", target_agent=agent) for agent in agents))
    after = version(*(asked("a", f"Now by {agent}.", target_agent=agent) for agent in reversed(agents)))
    found = compare(before, after)
    assert (found.reanswered.before.tolist(), found.reanswered.after.tolist()) == ([0, 1, 2], [2, 1, 0])


def test_an_example_that_one_agent_lost_is_not_taken_for_a_change_at_another():
    before = version(*(asked("a", target_agent=agent, weight=1.0) for agent in "xyz"))
    after = version(asked("a", target_agent="y", weight=1.0), asked("a", target_agent="z", weight=0.5))
    found = compare(before, after)
    assert counts(found) == {"kept": 1, "relabelled": 1, "removed": 1}
    assert (found.removed.tolist(), found.relabelled.before.tolist()) == ([0], [2])


def test_a_weight_of_a_message_is_a_label_and_a_call_is_content():
    plain, call = asked("a"), asked("a")
    weighted = Record([Message("user", "a"), Message("assistant", "Yes.", weight=0.0)])
    call.messages[-1].tool_calls = [ToolCall("1", Function("look", "{}"))]
    assert counts(compare(version(plain), version(weighted))) == {"relabelled": 1}
    assert counts(compare(version(plain), version(call))) == {"reanswered": 1}


def test_examples_that_end_with_a_question_have_no_answer_to_change():
    one, other = (Record([Message("user", "Hello"), Message("user", text)]) for text in ("a", "b"))
    assert counts(compare(version(one), version(other))) == {"removed": 1, "added": 1}


def test_an_empty_version_is_all_added_or_removed():
    assert counts(compare(version(), version(asked("a")))) == {"added": 1}
    assert counts(compare(version(asked("a")), version())) == {"removed": 1}
    assert counts(compare(version(), version())) == {}


@pytest.mark.parametrize("seed", range(5))
def test_it_finds_what_counting_finds(seed: int):
    lots = random.Random(seed)

    def some() -> list[Record]:
        return [asked(lots.choice("abcd"), lots.choice("xyz"), weight=lots.choice([None, 0.5])) for _ in range(60)]

    before, after = some(), some()
    found = compare(version(*before), version(*after))
    whole = [Counter(map(encode, side)) for side in (before, after)]
    assert len(found.kept) == (whole[0] & whole[1]).total()
    contents = [Counter((r.messages[0].content, r.messages[1].content) for r in side) for side in (before, after)]
    assert len(found.kept) + len(found.relabelled) == (contents[0] & contents[1]).total()
    prompts = [Counter(record.messages[0].content for record in side) for side in (before, after)]
    paired = len(found.kept) + len(found.relabelled) + len(found.reanswered)
    assert paired == (prompts[0] & prompts[1]).total()
    assert paired + len(found.removed) == paired + len(found.added) == 60


def test_the_report_shows_figures_fields_and_samples(run_here: RunHere, tmp_path: Path):
    before = write(
        tmp_path / "before.jsonl",
        asked("a", category="old", weight=1.0, metadata={"n": 1}),
        asked("b", category="old", metadata={"n": 1}),
        asked("Write to ana.lopez@example.com", "Yes."),
        asked("d"),
    )
    after = write(
        tmp_path / "after.jsonl",
        asked("Write to ana.lopez@example.com", "No."),
        asked("b", category="new", metadata={"n": 1}),
        asked("a", category="new", weight=1.0, metadata={"n": 2}),
        asked("f"),
        asked("d"),
    )
    result = result_of(run_here("dataset.diff", before=before, after=after))
    assert (result["kept"], result["added"], result["removed"]) == (1, 1, 0)
    assert (result["changed"], result["reanswered"], result["relabelled"]) == (3, 1, 2)
    assert result["relabelled_fields"] == {"category": 2, "metadata": 1}
    assert result["identical"] is False
    folder = run_here.artifact(result["diff"])
    told = json.loads((folder / "diff.json").read_text())
    answered = next(sample for sample in told["samples"] if sample["kind"] == "reanswered")
    assert (answered["before_line"], answered["after_line"]) == (3, 1)
    assert (answered["before"], answered["after"]) == ("Yes.", "No.")
    assert told["profiles"]["after"]["examples"] == 5
    page = (folder / "diff.md").read_text()
    assert "| category: new | 0 | 2 | +2 |" in page
    assert "| examples | 4 | 5 | +1 |" in page
    assert "ana.lopez" not in page + json.dumps(told["samples"])


def test_equal_versions_are_identical(run_here: RunHere, tmp_path: Path):
    records = [asked(f"Question {number}?", category="c") for number in range(3)]
    paths = write(tmp_path / "a.jsonl", *records), write(tmp_path / "b.jsonl", *records[::-1])
    result = result_of(run_here("dataset.diff", before=paths[0], after=paths[1], tokenizer=None))
    assert result["identical"] is True
    assert result["before_tokens"] is None


def test_a_bad_row_in_either_version_ends_it(run_here: RunHere, tmp_path: Path):
    good = write(tmp_path / "good.jsonl", asked("a"))
    (tmp_path / "bad.jsonl").write_text(Path(good).read_text() + "{broken\n")
    job = run_here("dataset.diff", before=good, after=str(tmp_path / "bad.jsonl"))
    assert job.state == State.FAILED
    assert "bad.jsonl line 2" in (job.failure or "")
