"""What commands work with, made when it is first asked for."""

from __future__ import annotations

import getpass
from functools import cache
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import TYPE_CHECKING

from pydantic import ValidationError
from pydantic_settings import SettingsError

from queue_app.errors import Invalid
from queue_app.store import Database, Readings
from settings import Settings, get_settings

if TYPE_CHECKING:
    from queue_app.dispatcher import Dispatcher
    from queue_app.runner import Runner
    from queue_app.store import Store

GROUPS = "a group is set field by field, such as TUNEYARD_SANDBOX__PORT=8791 or TUNEYARD_PROVIDERS__OPENAI__API_KEY=…"


def settings() -> Settings:
    """The settings of this process.

    Raises:
        Invalid: they cannot be read, or some of them make no sense; no value is quoted, for it may be a key
    """
    try:
        return get_settings()
    except ValidationError as error:
        faults = [(".".join(map(str, f["loc"])), f["msg"].removeprefix("Value error, ")) for f in error.errors()]
        raise Invalid("\n       ".join(f"settings: {name}: {said}" for name, said in faults)) from error
    except SettingsError as error:
        raise Invalid(f"settings: {error}; {GROUPS}") from error
    except TOMLDecodeError as error:
        raise Invalid(f"settings: {Path('tuneyard.toml').absolute()} is no TOML: {error}") from error
    except UnicodeDecodeError as error:
        files = " or ".join(str(Path(name).absolute()) for name in (".env", "tuneyard.toml"))
        raise Invalid(f"settings: {files} is no UTF-8 text (byte {error.start}); save it as UTF-8") from error


@cache
def _database(url: str) -> Database:
    database = Database(url)
    database.migrate()
    return database


def read() -> Readings:
    """What can be asked of the store, its tables brought up to date; quicker to have than the store itself."""
    return Readings(_database(settings().store_url))


@cache
def store() -> Store:
    """The store, its tables brought up to date."""
    from queue_app.store import Store
    from queue_app.store.slots import SlotRules

    limits = settings().queue
    return Store(_database(settings().store_url), SlotRules(limits.ageing_seconds, limits.probe_seconds))


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
