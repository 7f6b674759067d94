"""The accounts of the settings, and the providers of the catalogue that nobody has an account at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from api_worker.catalogue import LIMITS, Wanted, catalogue
from api_worker.providers import account_of, api_of, is_free
from queue_app.errors import Invalid, NotFound
from queue_app.job_type import nearest
from settings import SANDBOX_PATHS
from settings.account import variable_of

if TYPE_CHECKING:
    from api_worker.catalogue import Catalogue, Figure, Listing, What
    from settings import ProviderSettings, Settings

SANDBOX = "sandbox"


@dataclass(frozen=True)
class Known:
    """An account, or a provider without one."""

    name: str
    api: str  # the provider whose API it speaks; empty where `fault` says why that is not known
    account: ProviderSettings | None = None  # None: nobody has set one up
    fault: str = ""
    is_free: bool = False  # it is the sandbox's
    catalogue: Catalogue = field(default_factory=catalogue, compare=False, repr=False)

    @property
    def has_key(self) -> bool:
        return self.account is not None and bool(self.account.key)

    @property
    def listing(self) -> Listing | None:
        return self.catalogue.listings.get(self.api)

    @property
    def is_own_server(self) -> bool:
        """Whether it is a server of the user's own, of which the catalogue knows nothing."""
        return self.account is not None and self.catalogue.is_own_server(self.api, self.account.base_url)

    def variable(self, field: str) -> str:
        """The environment variable of a setting of the account."""
        return variable_of(self.name, field)

    def limit(self, what: What, model: str = "*") -> int | None:
        """What the settings say, else the catalogue; None: nobody knows."""
        own: int | None = getattr(self.account, LIMITS[what], None)
        figure = self.figure(what, model)
        return own if own is not None or figure is None else int(figure.value)

    def figure(self, what: What, model: str = "*") -> Figure | None:
        """What the catalogue says; nothing of a server of the user's own."""
        return None if self.is_own_server else self.catalogue.figure(what, Wanted(self.api, model))


def all_known(settings: Settings) -> list[Known]:
    """Every account, then every provider of the catalogue without one."""
    names, rows = sorted({*settings.providers, SANDBOX}), catalogue(settings.catalogue)
    found = [_known(settings, name) for name in names]
    taken = {*names, *(known.api for known in found if not known.is_own_server)}
    return [*found, *(Known(api, api, catalogue=rows) for api in rows.listings if api not in taken)]


def find_known(settings: Settings, name: str) -> Known:
    """The account, or the provider of the catalogue, called so.

    Raises:
        NotFound: there is neither
        Invalid: it is an account whose provider is not known
    """
    known = {each.name: each for each in all_known(settings)}
    rows = catalogue(settings.catalogue)
    if name in SANDBOX_PATHS and name not in known:  # it is there without being set up, and not listed
        return _known(settings, name)
    if name not in known and name in rows.listings:  # every account at it has another name
        return Known(name, name, catalogue=rows)
    if name not in known:
        raise NotFound(f'there is no provider "{name}"{nearest(name, known)}; `tuneyard providers ls` lists them')
    if known[name].fault:
        raise Invalid(known[name].fault)
    return known[name]


def find_account(settings: Settings, name: str) -> tuple[Known, ProviderSettings]:
    """An account that can be asked.

    Raises:
        Invalid: it has no key
    """
    known = find_known(settings, name)
    if known.account is None or not known.has_key:
        raise Invalid(f'"{name}" has no API key; set {known.variable("api_key")}')
    return known, known.account


def _known(settings: Settings, name: str) -> Known:
    account, rows = account_of(settings, name), catalogue(settings.catalogue)
    try:
        return Known(name, api_of(name, account), account, is_free=is_free(settings, name), catalogue=rows)
    except Invalid as error:
        return Known(name, "", account, fault=str(error), catalogue=rows)
