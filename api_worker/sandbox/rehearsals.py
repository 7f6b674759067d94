"""Bad days to rehearse a recipe on, by name: faults and limits that are usually wanted together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rehearsal:
    """What happens on such a day."""

    told: str
    faults: tuple[str, ...] = ()
    max_concurrent: int | None = None


REHEARSALS = {
    "full-slots": Rehearsal("two slots at every provider; a job more is refused", max_concurrent=2),
    "late-refusals": Rehearsal(
        "the first two jobs are created and then end for want of a slot", ("job:slot*2",), max_concurrent=2
    ),
    "flaky": Rehearsal(
        "answers are lost and late, lists lag, the API is busy",
        (
            "create:500-after@0.2",
            "create:drop-after@0.1",
            "create:429=1@0.2",
            "upload:503@0.2",
            "retrieve:500@0.1",
            "retrieve:drop@0.05",
            "list:lag=1",
            "list:503@0.1",
        ),
    ),
    "restarts": Rehearsal("the provider restarts the first job under a new id, where it does so", ("job:restart*1",)),
    "no-money": Rehearsal("the account's quota is used up", ("create:quota",)),
    "broken-file": Rehearsal(
        "the first file cannot be processed, and takes two seconds to say so", ("file:slow=2*1", "file:broken*1")
    ),
    "closed": Rehearsal("the providers have ended fine-tuning", ("create:410",)),
    "no-access": Rehearsal("fine-tuning is not available to the account", ("create:403",)),
    "unknown-words": Rehearsal("a status that nobody knows is shown for the first three seconds", ("job:odd-word=3",)),
}
