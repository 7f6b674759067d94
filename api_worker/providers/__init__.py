"""One file a provider. They are found by listing this folder; an SDK is loaded when its provider is opened."""

from __future__ import annotations

import importlib
import threading
from typing import TYPE_CHECKING

from api_worker.catalogue import catalogue
from api_worker.provider import providers
from queue_app.errors import Invalid
from queue_app.job_type import nearest
from settings import SANDBOX_PATHS
from settings.account import variable_of
from settings.addresses import host_of

if TYPE_CHECKING:
    from api_worker.provider import Provider
    from settings import ProviderSettings, Settings

__all__ = ["account_of", "api_of", "is_free", "open_provider", "providers"]

# What an account with a base_url of its own is taken to speak, unless that or its name is another provider's.
COMMON = "openai"
LOADING = threading.Lock()  # SDKs look at what is loaded, and two at once find halves of each other


def account_of(settings: Settings, name: str) -> ProviderSettings:
    """The account called `name`.

    Raises:
        Invalid: it is not configured; names the nearest
    """
    try:
        return settings.provider(name)
    except KeyError:
        known = [*SANDBOX_PATHS, *settings.providers]
        raise Invalid(
            f'there is no provider account "{name}"{nearest(name, known)}; there are {", ".join(sorted(set(known)))}; '
            f"{variable_of(name, 'api_key')} sets one up"
        ) from None


def api_of(name: str, account: ProviderSettings) -> str:
    """Which provider's API an account speaks.

    Raises:
        Invalid: no provider goes by that name, and no base_url says where to go; or its base_url is another's cloud
    """
    known, cloud = providers(), catalogue().cloud_of(account.base_url) if account.base_url is not None else ""
    if account.api in known or (account.api is None and name in known):
        api = account.api or name
        if cloud not in ("", api):
            where = host_of(account.base_url or "")  # the whole may have a password in it
            said = f'account "{name}" is to speak the API of {api}, and {where} is the cloud of {cloud}'
            raise Invalid(f"{said}; set {variable_of(name, 'api')} to {cloud}, or another base_url")
        return api
    if account.api is None and account.base_url is not None:
        return cloud or COMMON
    word = account.api or name
    raise Invalid(
        f'account "{name}": no provider goes by the name "{word}"{nearest(word, known)}; there are {", ".join(known)}. '
        f"{variable_of(name, 'api')} says which one the account is at; for a server that speaks OpenAI's "
        f"API set {variable_of(name, 'base_url')}"
    )


def is_free(settings: Settings, name: str) -> bool:
    """Whether an account is at the sandbox, which trains nothing; one that leads elsewhere is not."""
    plain = settings.model_copy(update={"providers": {}})
    return name in SANDBOX_PATHS and settings.provider(name).base_url == plain.provider(name).base_url


def open_provider(name: str, account: ProviderSettings) -> Provider:
    """The provider behind an account, with its SDK loaded; the caller closes it.

    Raises:
        Invalid: no provider goes by that name and no base_url says where to go, or the account has no key, or none
            that can be one
    """
    api = api_of(name, account)
    if not account.key:
        raise Invalid(f'account "{name}" has no API key; set {variable_of(name, "api_key")}')
    if account.key_fault:
        raise Invalid(f'account "{name}": {account.key_fault}')
    with LOADING:
        module = importlib.import_module(f"{__name__}.{api}")
    provider: Provider = module.Account(name, account)
    return provider
