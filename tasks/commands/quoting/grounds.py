"""What the lines of a quote are worked out from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tasks.commands.quoting.counting import TokenCounts

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date
    from pathlib import Path

    from queue_app.store import Store
    from settings import Settings


@dataclass(frozen=True)
class Grounds:
    """The yard as it is now."""

    settings: Settings
    store: Store
    resolve: Callable[[str], Path]  # an artifact or a path
    today: date
    counts: TokenCounts = field(default_factory=TokenCounts)
