"""What is new of jobs since the last look at them: their events, what they tell of their course, and what they made."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from queue_app.cli import context
from queue_app.cli.happenings import sentences
from queue_app.cli.outcome import figures, told_of
from queue_app.cli.output import took
from queue_app.cli.progress import MARKS, course, moments
from queue_app.lifecycle import FINAL, Event, State

if TYPE_CHECKING:
    from queue_app.store import Job, JobEvent

COURSE_SECONDS = 60.0  # between two lines on the course of a job that has nothing else to tell
EPOCH_SECONDS = 5.0  # at least, between two where there is nothing but another epoch: some last less than a look
ROUTINE = (Event.SUBMITTED, Event.PLANNED, Event.WOKEN)  # of no news to who has just sent it off


@dataclass(frozen=True)
class Item:
    """One piece of news."""

    at: datetime
    text: str
    is_routine: bool = False


@dataclass
class _Known:
    standing: tuple[object, ...] = ()
    last_event: int = 0
    last_text: str = ""  # what waits for the same thing again is no news
    progress: dict[str, Any] = field(default_factory=dict)
    phases: set[tuple[int, Any]] = field(default_factory=set)  # some come again and again; told once an attempt
    course_at: float = field(default_factory=time.monotonic)


class News:
    """Remembers what was told of each job."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def of(self, job: Job) -> list[Item]:
        """What was not told of a job yet, oldest first."""
        known, over = self._known.get(job.id), job.state in FINAL
        if known is None:  # of what is over, the course is no news any more
            known = self._known[job.id] = _Known(progress=dict(job.progress or {}) if over else {})
        happened = self._happened(job, known)
        last = [each for each in happened[-1:] if each[0].state != State.RUNNING]  # who stands still tells no more
        items = [_item(event, text) for event, text in happened[: len(happened) - len(last)]]
        at = last[0][0].at if last else datetime.now(UTC)
        items += [Item(at, text) for text in self._going_on(job, known)]
        for event, text in last:
            items += [Item(event.at, words) for words in _end(job, event, text)] if over else [_item(event, text)]
        return items

    def _happened(self, job: Job, known: _Known) -> list[tuple[JobEvent, str]]:
        standing = (job.state, job.reason, job.attempt, job.failures, job.request)
        if standing == known.standing:
            return []
        history = context.read().history(job.id)
        if history[-1].state in FINAL and job.state not in FINAL:  # it ended after it was read: told at the next look
            history.pop()
        fresh = []
        for event, text in sentences(history, (Event.POLL_SCHEDULED,)):
            is_look = event.name == Event.POLL_SCHEDULED and "why" not in event.detail
            if (event.id or 0) > known.last_event and not is_look and text != known.last_text:
                fresh.append((event, text))
                known.last_text = text
        known.standing, known.last_event = standing, history[-1].id or 0
        return fresh

    def _going_on(self, job: Job, known: _Known) -> list[str]:
        told, before = job.progress or {}, known.progress
        if told == before:
            return []
        known.progress = dict(told)
        phase = (job.attempt, told.get("phase"))
        texts = moments(told, before if phase not in known.phases else {**before, "phase": phase[1]})
        known.phases.add(phase)
        since = time.monotonic() - known.course_at
        marks = [name for name in MARKS if name in told and told[name] != before.get(name)]
        is_quick = marks == ["epoch"] and "epoch" in before and since < EPOCH_SECONDS
        if (marks and not is_quick) or since > COURSE_SECONDS:
            known.course_at = time.monotonic()
            texts += [words for words in [course(job)] if words not in ("", *texts)]
        return texts


def _item(event: JobEvent, text: str) -> Item:
    return Item(event.at, text, event.name in ROUTINE and "slot" not in event.detail)


def _end(job: Job, event: JobEvent, text: str) -> list[str]:
    """How a job ended, and what came of it."""
    if event.name == Event.REUSED:
        return [f"{text}{_after(figures(job))}"]
    if event.name != Event.SUCCEEDED:
        return [f"{text}: {job.failure}" if job.failure and job.failure not in text else text]
    return [f"{text} in {took(job)}{_after(figures(job))}", *(f"{title}: {words}" for title, words in told_of(job))]


def _after(words: str) -> str:
    return f" · {words}" if words else ""
