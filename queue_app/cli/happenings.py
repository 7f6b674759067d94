"""The events of a job as sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from queue_app.cli.output import duration
from queue_app.lifecycle import Event

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from queue_app.store import JobEvent

ROUTINE = (Event.POLL_SCHEDULED, Event.WOKEN, Event.APPROVED)  # to be taken up again after these is no news

SENTENCES: dict[Event, str] = {
    Event.SUBMITTED: "submitted by {actor}",
    Event.PLANNED: "submitted by {actor}; its inputs were still to be made",
    Event.WOKEN: "its inputs were there",
    Event.APPROVED: "approved by {actor}",
    Event.STARTED: "taken up by {actor}, attempt {attempt}",
    Event.POLL_SCHEDULED: "looked at; it was not over yet",
    Event.RETRY_SCHEDULED: "put off",
    Event.RELEASED: "handed back by {actor}, which was told to stop",
    Event.REPAIRED: "repaired",
    Event.LEASE_EXPIRED: "lost: its worker fell silent",
    Event.REUSED: "the same had been done before",
    Event.SUCCEEDED: "succeeded",
    Event.FAILED: "failed",
    Event.PAUSE_REQUESTED: "{actor} asked for a pause",
    Event.PAUSED: "paused",
    Event.RESUMED: "resumed by {actor}",
    Event.CANCEL_REQUESTED: "{actor} asked for its end",
    Event.CANCELLED: "cancelled",
    Event.RETRIED: "sent again by {actor}",
    Event.REPLANNED: "sent again by {actor}; it waited for its inputs",
}


def told(history: Sequence[JobEvent]) -> list[str]:
    """A sentence an event with its time in UTC; the same ones in a row as one, with their number."""
    lines: list[tuple[JobEvent, str, int]] = []
    for event, text in sentences(history):
        if lines and lines[-1][1] == text:
            lines[-1] = (event, text, lines[-1][2] + 1)
        else:
            lines.append((event, text, 1))
    said = ((event.at, text if times == 1 else f"{text} (×{times})") for event, text, times in lines)
    return [f"{at:%m-%d %H:%M:%S}  {text}" for at, text in said]


def sentences(history: Sequence[JobEvent], routine: Sequence[Event] = ROUTINE) -> Iterator[tuple[JobEvent, str]]:
    """The events, each with its sentence; without those of being taken up after what is `routine`."""
    before: JobEvent | None = None
    for event in history:
        if event.name != Event.STARTED or before is None or before.name not in routine:
            yield event, _sentence(event)
        before = event


def _sentence(event: JobEvent) -> str:
    detail = event.detail
    text = SENTENCES[event.name].format(actor=event.actor, attempt=event.attempt)
    if "slot" in detail:
        return f"a slot at {detail['slot']} was given to it"
    if "after" in detail:
        return f"{text}: {detail['why']}"
    if "why" in detail:
        again = f"; next try after {duration(float(detail['seconds']))}" if "seconds" in detail else ""
        return f"put off: {detail['why']}{again}"
    if "job" in detail:
        return f"{text}, by job {detail['job']}"
    if "remote_job" in detail:
        return f"{text}; its remote job {detail['remote_job']} was {detail['remote']} then"
    if "worker" in detail:
        return f"{text} ({detail['worker']})"
    return text
