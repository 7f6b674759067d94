"""The store that commands see, and an account at a sandbox that answers them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from queue_app.cli import context
from settings import get_settings
from tests.sandbox.server import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable

    from queue_app.store import Store
    from tests.sandbox.server import Served


@pytest.fixture(autouse=True)
def _fresh_context() -> None:
    get_settings.cache_clear()
    context.store.cache_clear()


@pytest.fixture
def yard(_fresh_context: None) -> Store:
    """The store that the commands see."""
    return context.store()


@pytest.fixture
def settle(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set settings as a user does, by `own_gpu__watts="400"`."""

    def set_them(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"TUNEYARD_{name.upper()}", value)
        get_settings.cache_clear()

    return set_them


@pytest.fixture
def at(settle: Callable[..., None]) -> Callable[[Served], None]:
    """Make a sandbox the account `acme`, which speaks OpenAI's API."""

    def set_up(sandbox: Served) -> None:
        settle(
            providers__acme__api="openai",
            providers__acme__base_url=sandbox.url,
            providers__acme__api_key=SECRET,
            providers__acme__listing_lag_seconds="0",
            providers__acme__poll_seconds="0.05",
        )

    return set_up
