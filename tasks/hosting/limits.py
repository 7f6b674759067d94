"""How many jobs an account takes, and who says so: the settings, else the catalogue, else the provider itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from api_worker.catalogue import LIMITS
from settings.account import variable_of

if TYPE_CHECKING:
    from api_worker.catalogue import Figure, What
    from settings import ProviderSettings


@dataclass(frozen=True)
class Limit:
    """A number of jobs; None: nobody says one."""

    value: int | None
    source: str  # who says so; empty where nobody does


@dataclass(frozen=True)
class Sayings:
    """What the catalogue and the provider say of one limit; None: nothing."""

    figure: Figure | None = None
    told: int | None = None


def setting_of(name: str, what: What) -> str:
    """The environment variable that sets a limit of an account."""
    return variable_of(name, LIMITS[what])


def limit_of(name: str, account: ProviderSettings | None, what: What, said: Sayings) -> Limit:
    """The limit that holds for an account."""
    own: int | None = getattr(account, LIMITS[what], None)
    if own is not None:
        return Limit(own, setting_of(name, what))
    if said.figure is not None:
        return Limit(int(said.figure.value), "the catalogue")
    return Limit(said.told, "" if said.told is None else f"{name} itself")
