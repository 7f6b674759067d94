"""The slots of an account, pool by pool, with what the provider's own list says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from queue_app.errors import TuneyardError
from queue_app.store.slots import PoolUse
from tasks.commands.accounts.remote import foreign
from tasks.hosting.limits import Sayings, limit_of, setting_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from api_worker.provider import Offer
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
    limited_by: str = ""  # who says the size; what a refusal lowered stands in `believed`
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
    rows, slots = [], store.slots
    for pool in sorted({*used, *elsewhere} or {known.name}):
        model = pool.partition("/")[2] or "*"
        theirs = None if others is None else others[model] if by_model else others.total()
        kept = slots.get(pool)
        said = Sayings(known.figure("jobs_at_once", model), kept.told)
        now = limit_of(known.name, known.account, "jobs_at_once", said)
        use = used.get(pool) or PoolUse(kept.model_copy(update={"size": now.value}), 0, 0)
        by = now.source or f"nobody; {setting_of(known.name, 'jobs_at_once')} sets a limit"
        if use.pool.size != now.value:  # workers have read other settings, or nobody has looked since
            by = f"{by}: {now.value} from the next look of a worker that knows it"
        believed = use.pool.believed if use.is_lowered else None
        if believed is not None:
            by = f"{by}; a refusal lowered it, and `tuneyard providers resume {known.name}` forgets that"
        rows.append(PoolRow(pool, use.pool.size, use.held, use.free, use.waiting, believed, theirs, by, note))
    return rows


def keep_limits(store: Store, known: Known, offers: Iterable[Offer]) -> int:
    """Keep the limits that a provider tells of its models, where slots are by model; return of how many it does."""
    if known.listing is None or known.listing.slots != "model":
        return 0
    telling = [offer for offer in offers if (offer.max_jobs, offer.max_jobs_a_day) != (None, None)]
    for offer in telling:
        store.slots.tell(f"{known.name}/{offer.model}", at_once=offer.max_jobs, a_day=offer.max_jobs_a_day)
    return len(telling)
