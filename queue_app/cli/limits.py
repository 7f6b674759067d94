"""Which limit of a pool holds, who says so, and what changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from settings.account import variable_of

if TYPE_CHECKING:
    from queue_app.store.slots import PoolUse


def limit_lines(use: PoolUse) -> list[str]:
    """A line for the limit that is set or known, and one for what a refusal made of it."""
    account = use.pool.name.partition("/")[0]
    setting = variable_of(account, "max_jobs")
    if use.pool.size is None:
        lines = [f"nobody knows how many {account} takes at once, so refusals tell; {setting} sets a limit"]
    else:
        said = use.pool.source or "whoever asked last"
        lines = [f"{use.pool.size} at once is what {said} says; {setting} sets another, heard when workers start"]
    if not use.is_lowered:
        return lines
    more = "" if use.pool.probe_at is None else f"; from {use.pool.probe_at:%m-%d %H:%M} UTC one more is tried"
    again = f"`tuneyard providers resume {account}` forgets it"
    return [*lines, f"{account} refused more than {use.pool.believed}, which holds for now{more}; {again}"]
