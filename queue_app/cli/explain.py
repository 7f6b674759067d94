"""`tuneyard jobs explain`: what happened to a job, where it stands and why, what it cost, what to do next."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from queue_app.cli import context
from queue_app.cli.costs import costs
from queue_app.cli.happenings import told
from queue_app.cli.limits import limit_lines
from queue_app.cli.output import (
    AsJson,
    JobId,
    as_dict,
    console,
    duration,
    next_commands,
    state_text,
    write_json,
)
from queue_app.lifecycle import FINAL, Cause, Reason, State

if TYPE_CHECKING:
    from queue_app.store import Job

# What to do about a failure, by whose matter it is; None: trying again is all there is.
ADVICE: dict[Cause, str] = {
    Cause.DATA: "repair the data as the message says; a retry sends it anew",
    Cause.USER: "change what the message names, and submit it again; a retry does the very same",
    Cause.PROVIDER: "the provider refused or lost it; a retry starts another one",
    Cause.QUOTA: "the account has no quota or balance left; add some, then retry",
    Cause.OOM: "it needs more memory than there is: a smaller batch, a shorter sequence, or qlora",
    Cause.STALLED: "it stood still; its log says where",
    Cause.LOST: "its worker died again and again; its log and the system's say why",
    Cause.DEADLINE: "it took longer than its timeout; a retry gives it that time anew",
    Cause.GATE: "a check or a cap said no; change what the message names",
    Cause.BUG: "this is a bug of ours; its log has the traceback",
}


def explain(job_id: JobId, as_json: AsJson = False) -> None:
    """Say in words what happened to a job, where it stands and why, what it cost, and what to do next."""
    read = context.read()
    job = read.find(job_id)
    happened = told(read.history(job.id))
    bills = context.store().bills.of(job.id)
    stands, todo = standing(job), next_steps(job)
    if as_json:
        cost = [as_dict(bill) for bill in bills]
        write_json({"id": job.id, "happened": happened, "stands": stands, "cost": cost, "next": todo})
        return
    out = console()
    out.print(f"{job.step or job.kind}  {job.id}  ", state_text(job))
    for title, lines in (("happened", happened), ("stands", stands), ("cost", costs(job, bills))):
        for line in lines:
            out.print(f"  {title:<9} {line}", soft_wrap=True)
            title = ""
    next_commands(*todo)


def standing(job: Job) -> list[str]:
    """Where a job stands and why, a line each."""
    if job.state == State.WAITING and job.reason is not None:
        return _waits(job, job.reason)
    if job.state == State.QUEUED and job.cards > 1:
        return [f"it is in the queue {job.queue} and {_cards(job)}"]
    if job.state == State.QUEUED and (large := _drained_for(job)) is not None:
        return [f"it is in the queue {job.queue} behind job {large.id}, which {_cards(large)}"]
    if job.state == State.QUEUED:
        return [f"it is in the queue {job.queue} and is taken up by the next free worker; is `tuneyard up` running?"]
    if job.state == State.RUNNING:
        asked = f"; {job.request} was asked for" if job.request else ""
        lent = [name for name in job.holds or {} if name != job.worker]
        beside = f", with the cards of {', '.join(lent)}" if lent else ""
        return [f"{job.worker} holds it in attempt {job.attempt}{beside}{asked}"]
    if job.state == State.FAILED:
        advice = [ADVICE[job.cause]] if job.cause else []
        return [f"{job.cause}: {job.failure}", *advice]
    if job.state == State.SUCCEEDED:
        return [f"done; its result is that of job {job.reused_from}"] if job.reused_from else ["done"]
    return [f"it is {job.state}"]


def _drained_for(job: Job) -> Job | None:
    """The job of several cards that keeps free workers from this one; None: none does."""
    if job.queue != "gpu":
        return None
    found = context.store().cards.drains_for(context.settings().queue.lease_seconds)
    return None if found is None else context.read().job(found)


def _cards(job: Job) -> str:
    """What a job needs of the hosts that live, and what keeps it from that."""
    benches = context.store().cards.benches(context.settings().queue.lease_seconds)
    needs = f"needs {job.cards} cards of one host"
    if not benches:
        return f"{needs}; no gpu worker lives: is `tuneyard up` running?"
    largest = benches[0]
    if len(largest.seats) < job.cards:
        return f"{needs}; the largest host that lives has {len(largest.seats)} ({largest.host})"
    able = [bench for bench in benches if len(bench.seats) >= job.cards]
    free = ", ".join(f"{bench.host} has {len(bench.free)} of {len(bench.seats)} free" for bench in able)
    return f"{needs}: {free}; what is less urgent is not begun there until then"


def _waits(job: Job, reason: Reason) -> list[str]:
    if reason == Reason.DEPENDENCY:
        needs = [need for need in context.read().needs(job.id) if need.state != State.SUCCEEDED]
        return [f"it waits for {need.step or need.kind} ({need.id}), which is {need.state}" for need in needs]
    if reason == Reason.SLOT and job.due_at is None and job.pool is not None:
        return _line(job.id, job.pool)
    if reason == Reason.APPROVAL:
        return [f"it waits for your approval: {_last_word(job)}", f"the caps are asked again {_when(job.due_at)}"]
    if reason == Reason.REMOTE:
        remote = (job.progress or {}).get("remote", "not seen yet")
        seen = f"its remote job at {job.account or 'the provider'} is {remote}; the next look is {_when(job.due_at)}"
        last = context.read().history(job.id)[-1].detail.get("why")
        return [seen, str(last)] if last else [seen]
    if reason in (Reason.BACKOFF, Reason.BUDGET, Reason.SLOT):
        waits = f"the next try is {_when(job.due_at)}" if job.due_at else "it is not tried again by itself"
        return [*_paused(job), f"{waits}: {job.failure or _last_word(job)}"]
    if reason == Reason.GPU:
        return [f"it waits for its card, the next look is {_when(job.due_at)}: {_last_word(job)}"]
    return [f"it waits for {reason}"]


def _line(job_id: str, pool: str) -> list[str]:
    slots = context.store().slots
    use = next((use for use in slots.ls() if use.pool.name == pool), None)
    line = slots.line(pool)
    before = line.index(job_id) if job_id in line else len(line)
    if use is None:
        return [f"it waits for a slot at {pool}; {before} wait before it"]
    held = f"{use.held} of {use.pool.size} are held"
    if use.pool.size is None:
        held = f"{use.held} are held, of how many nobody knows"
    return [
        f"it waits for a slot at {pool}: {held}; {before} wait before it",
        *limit_lines(use),
    ]


def _paused(job: Job) -> list[str]:
    if job.account is None:
        return []
    account = context.store().accounts.get(job.account)
    if not account.is_paused:
        return []
    until = f"`tuneyard providers resume {account.name}`" if account.waits_for_a_person else _when(account.paused_until)
    return [f"the account {account.name} is left alone until {until}: {account.paused_why}"]


def _last_word(job: Job) -> str:
    words = [event.detail["why"] for event in context.read().history(job.id) if "why" in event.detail]
    return str(words[-1]) if words else "no reason was noted"


def _when(time: datetime | None) -> str:
    if time is None:
        return "not set"
    seconds = (time - datetime.now(UTC)).total_seconds()
    return f"in {duration(seconds)} ({time:%m-%d %H:%M} UTC)" if seconds > 0 else "due now"


def next_steps(job: Job) -> list[str]:
    """The commands that lead on from where a job stands."""
    verb = "tuneyard jobs"
    if job.state == State.FAILED:
        return [f"{verb} logs {job.id}", f"{verb} retry {job.id}"]
    if job.state == State.CANCELLED:
        return [f"{verb} retry {job.id}"]
    if job.state == State.PAUSED:
        return [f"{verb} resume {job.id}"]
    if job.state in FINAL:
        return [f"{verb} events {job.id}"]
    cancel = f"{verb} cancel {job.id}"
    if job.reason == Reason.APPROVAL:
        return [f"tuneyard approve {job.id}", cancel]
    if job.reason in (Reason.BUDGET, Reason.BACKOFF) and job.account is not None:
        return [f"tuneyard providers resume {job.account}", cancel]
    if job.reason == Reason.SLOT:
        return [f"tuneyard providers slots {job.account}", cancel]
    return [f"{verb} logs -f {job.id}", f"{verb} watch {job.id}", cancel]
