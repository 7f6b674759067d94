"""One file a provider. They are found by listing this folder; an SDK is loaded when its provider is opened."""

from __future__ import annotations

import importlib
import pkgutil
import threading
from typing import TYPE_CHECKING

from queue_app.errors import Invalid
from queue_app.job_type import nearest

if TYPE_CHECKING:
    from api_worker.provider import Provider
    from settings import ProviderSettings, Settings

# What an account with a base_url of its own is taken to speak, unless it has the name of another provider.
COMMON = "openai"
LOADING = threading.Lock()  # SDKs look at what is loaded, and two at once find halves of each other


def providers() -> list[str]:
    """The providers there are."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def account_of(settings: Settings, name: str) -> ProviderSettings:
    """The account called `name`.

    Raises:
        Invalid: it is not configured; names the nearest
    """
    try:
        return settings.provider(name)
    except KeyError:
        known = ["sandbox", *settings.providers]
        variable = f"TUNEYARD_PROVIDERS__{name.upper()}__API_KEY"
        raise Invalid(
            f'there is no provider account "{name}"{nearest(name, known)}; there are {", ".join(sorted(set(known)))}; '
            f"{variable} sets one up"
        ) from None


def api_of(name: str, account: ProviderSettings) -> str:
    """Which provider's API an account speaks.

    Raises:
        Invalid: no provider goes by that name, and no base_url says where to go
    """
    known = providers()
    if account.api in known or (account.api is None and name in known):
        return account.api or name
    if account.api is None and account.base_url is not None:
        return COMMON
    word = account.api or name
    raise Invalid(
        f'account "{name}": no provider goes by the name "{word}"{nearest(word, known)}; there are {", ".join(known)}. '
        f"TUNEYARD_PROVIDERS__{name.upper()}__API says which one the account is at; for a server that speaks OpenAI's "
        f"API set TUNEYARD_PROVIDERS__{name.upper()}__BASE_URL"
    )


def open_provider(name: str, account: ProviderSettings) -> Provider:
    """The provider behind an account, with its SDK loaded; the caller closes it.

    Raises:
        Invalid: no provider goes by that name and no base_url says where to go, or the account has no key
    """
    api = api_of(name, account)
    if account.api_key is None or not account.api_key.get_secret_value().strip():
        raise Invalid(f'account "{name}" has no API key; set TUNEYARD_PROVIDERS__{name.upper()}__API_KEY')
    with LOADING:
        module = importlib.import_module(f"{__name__}.{api}")
    provider: Provider = module.Account(name, account)
    return provider
