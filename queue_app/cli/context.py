"""What commands work with, made when it is first asked for."""

from __future__ import annotations

import getpass
from functools import cache
from typing import TYPE_CHECKING

from settings import Settings, get_settings

if TYPE_CHECKING:
    from queue_app.dispatcher import Dispatcher
    from queue_app.runner import Runner
    from queue_app.store import Store


def settings() -> Settings:
    """The settings of this process."""
    return get_settings()


@cache
def store() -> Store:
    """The store, its tables brought up to date."""
    from queue_app.store import Database, Store

    database = Database(settings().store_url)
    database.migrate()
    return Store(database)


def actor() -> str:
    """Who is speaking, for the events."""
    return f"user:{getpass.getuser()}"


def dispatcher() -> Dispatcher:
    """The dispatcher. A command does not ring: loading Celery takes longer than the sweeper does."""
    from queue_app.dispatcher import Dispatcher

    return Dispatcher(store(), actor())


def runner(worker: str) -> Runner:
    """The hands of a worker."""
    from queue_app.runner import Runner

    return Runner(store(), settings(), worker)
