"""The slots of an account, pool by pool, with what the provider's own list says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from queue_app.errors import TuneyardError
from tasks.commands.accounts.remote import foreign

if TYPE_CHECKING:
    from queue_app.store import Store
    from settings import ProviderSettings
    from tasks.commands.accounts.known import Known


@dataclass(frozen=True)
class PoolRow:
    """One pool; None: not known."""

    pool: str
    size: int | None
    used: int
    free: int | None  # as the queue gives them: it learns of foreign jobs by refusals
    waiting: int
    believed: int | None
    foreign: int | None
    note: str = ""


def pools_of(store: Store, known: Known, account: ProviderSettings) -> list[PoolRow]:
    """The pools of an account: those that jobs have wanted, and those where others' jobs are."""
    note, others = "", None
    try:
        others = foreign(store, known.name, account)
    except TuneyardError as error:
        note = str(error)
    by_model = known.listing is not None and known.listing.slots == "model"
    used = {use.pool.name: use for use in store.slots.ls() if use.pool.name.partition("/")[0] == known.name}
    elsewhere = {f"{known.name}/{model}" if by_model else known.name for model in others or {}}
    rows = []
    for pool in sorted({*used, *elsewhere} or {known.name}):
        model = pool.partition("/")[2] or "*"
        theirs = None if others is None else others[model] if by_model else others.total()
        use = used.get(pool)
        if use is None:
            size = known.limit("jobs_at_once", model)
            rows.append(PoolRow(pool, size, 0, size, 0, None, theirs, note))
        else:
            kept = use.pool
            rows.append(PoolRow(pool, kept.size, use.held, use.free, use.waiting, kept.believed, theirs, note))
    return rows
