"""Looks at everything a run depends on, and says what to do about it."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from typing import TYPE_CHECKING, Literal, NamedTuple

from queue_app.broker import facts
from queue_app.cards import asked_driver, find_cards, look
from queue_app.errors import TuneyardError
from queue_app.store import Database, Store
from queue_app.yard_home import runs_in
from settings.account import variable_of
from settings.addresses import host_of, is_in_the_clear

if TYPE_CHECKING:
    from collections.abc import Iterator

    from settings import Settings

FREE_GIB_BLOCKING, FREE_GIB_NOTE = 1.0, 10.0
CLOCK_SKEW_SECONDS = 5.0


class Finding(NamedTuple):
    """One thing looked at: fine, worth a note, or in the way of every run."""

    check: str
    grade: Literal["ok", "note", "blocking"]
    finding: str


def examine(settings: Settings) -> list[Finding]:
    """Look at the store, the broker, the disk, the GPU, the models, the keys and the clock."""
    return [
        *_disk(settings),
        *_store(settings),
        *_broker(settings),
        *_ports(settings),
        *_gpu(),
        *_training(),
        *_keys(settings),
        *_unknown(settings),
    ]


def _disk(settings: Settings) -> Iterator[Finding]:
    home = settings.home.absolute()
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe = home / f".doctor-{os.getpid()}"
        try:
            probe.write_text("writable")
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        yield Finding("home", "blocking", f"{home} cannot be written: {error.strerror}; set TUNEYARD_HOME elsewhere")
        return
    free = shutil.disk_usage(home).free / 2**30
    grade: Literal["ok", "note", "blocking"] = "ok"
    if free < FREE_GIB_NOTE:
        grade = "blocking" if free < FREE_GIB_BLOCKING else "note"
    advice = "" if grade == "ok" else "; `tuneyard gc` finds what may go"
    yield Finding("disk", grade, f"{free:.1f} GiB free in {home}{advice}")


def _store(settings: Settings) -> Iterator[Finding]:
    try:
        database = Database(settings.store_url)
        name = database.url.render_as_string(hide_password=True)
        database.migrate()
        store = Store(database)
        jobs = sum(row["jobs"] for row in store.read.census())
        yield Finding("store", "ok", f"{name}, revision {database.revision()}, {jobs} jobs")
        yield from _clock(store)
        yield from _models(store)
    except TuneyardError as error:
        yield Finding("store", "blocking", str(error))


def _clock(store: Store) -> Iterator[Finding]:
    skew = store.read.clock() - time.time()
    if abs(skew) > CLOCK_SKEW_SECONDS:
        yield Finding("clock", "blocking", f"the store's clock is {skew:+.1f} s off ours; leases need them equal (NTP)")
    else:
        yield Finding("clock", "ok", f"within {max(abs(skew), 0.1):.1f} s of the store's")


def _models(store: Store) -> Iterator[Finding]:
    names = sorted({artifact.name or artifact.id[7:19] for artifact in store.artifacts.ls(["base-model"])})
    if names:
        yield Finding("models", "ok", ", ".join(names))
    else:
        yield Finding("models", "note", "no base model yet; `tuneyard models pull smollm2-135m` gets a small one")


def _broker(settings: Settings) -> Iterator[Finding]:
    try:
        said = facts(settings.broker_url)
    except TuneyardError as error:
        yield Finding("broker", "blocking", str(error))
        return
    yield Finding("broker", "ok", f"{said['server']}, {said['used_memory_mib']:.1f} MiB used")
    if said["eviction_policy"] != "noeviction":
        policy = said["eviction_policy"]
        yield Finding("eviction", "blocking", f"maxmemory-policy is {policy}; messages may vanish: set noeviction")
    else:
        yield Finding("eviction", "ok", "noeviction")
    if said["persistence_errors"]:
        yield Finding("persistence", "blocking", "; ".join(said["persistence_errors"]))
    elif not said["append_only"]:
        yield Finding("persistence", "note", "no append-only file; rings are lost with the broker (swept up again)")
    else:
        yield Finding("persistence", "ok", "append-only file")


def taken_ports(settings: Settings, *, only: str | None = None) -> Iterator[str]:
    """What keeps the yard's servers from their ports, with the setting to change; of one setting, or of all."""
    ports = {
        "TUNEYARD_MONITORS__METRICS_PORT": ("127.0.0.1", settings.monitors.metrics_port),
        "TUNEYARD_MONITORS__FLOWER_PORT": ("127.0.0.1", settings.monitors.flower_port),
        "TUNEYARD_SANDBOX__PORT": (settings.sandbox.host, settings.sandbox.port),
    }
    for setting, (host, port) in ports.items():
        if only not in (None, setting):
            continue
        try:
            family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is no hindrance
                probe.bind(address)
        except OSError as error:
            yield f"port {port} on {host} cannot be had ({error.strerror}); set {setting} to another"


def _ports(settings: Settings) -> Iterator[Finding]:
    if runs_in(settings.home.absolute()):
        yield Finding("ports", "ok", "held by the yard that runs here")
        return
    taken = list(taken_ports(settings))
    yield from (Finding("ports", "note", said) for said in taken)
    if not taken:
        yield Finding("ports", "ok", "free for metrics, Flower and the sandbox")


def _gpu() -> Iterator[Finding]:
    faults: list[str] = []
    try:
        cards = find_cards(faults.append)
        with asked_driver() as nvml:
            driver = None if nvml is None else nvml.driver_version()
    except TuneyardError as error:
        yield Finding("gpu", "blocking", str(error))
        return
    yield from (Finding("gpu", "blocking", fault) for fault in faults)
    if not cards and not faults:
        why = "no NVIDIA driver here" if driver is None else f"driver {driver} has no card here"
        yield Finding("gpu", "note", f"{why}: training runs on the CPU, for small models")
    for card in cards:
        load = look(card)
        used, total = load.vram_used_mib, load.vram_mib
        room = "" if used is None or total is None else f", {(total - used) / 1024:.1f} of {total / 1024:.1f} GiB free"
        yield Finding("gpu", "ok", f"{card.name}, driver {driver}{room}")


def _training() -> Iterator[Finding]:
    from importlib.util import find_spec

    missing = [name for name in ("torch", "transformers", "trl", "peft") if find_spec(name) is None]
    if missing:
        advice = "pip install 'tuneyard[train]'"
        yield Finding("training", "note", f"{', '.join(missing)} not installed in {sys.prefix}: no gpu jobs; {advice}")
    else:
        engine = "unsloth and trl" if find_spec("unsloth") else "trl"
        yield Finding("training", "ok", f"engines: {engine}")


def _keys(settings: Settings) -> Iterator[Finding]:
    accounts = {
        name: settings.provider(name) for name in sorted(settings.providers)
    }  # the sandbox's with what is plain
    with_key = [name for name, account in accounts.items() if account.key]
    without = [name for name, account in accounts.items() if not account.key]
    if without:
        yield Finding("keys", "note", f"no key for {', '.join(without)}; set {variable_of(without[0], 'api_key')}")
    for name, account in accounts.items():
        if account.key_fault:
            yield Finding("keys", "blocking", f"{name}: {account.key_fault} ({variable_of(name, 'api_key')})")
        if account.key and account.base_url is not None and is_in_the_clear(account.base_url):
            said = f"{name}: its key goes to {host_of(account.base_url)} by http, for anybody on the way to read"
            yield Finding("keys", "note", f"{said}; set {variable_of(name, 'base_url')} to an https:// address")
    have = ", ".join(with_key) if with_key else "no provider account is configured; the sandbox needs none"
    yield Finding("keys", "ok", have)


def _unknown(settings: Settings) -> Iterator[Finding]:
    known = set(type(settings).model_fields)
    ours = [name for name in os.environ if name.startswith("TUNEYARD_")]
    for name in sorted(ours):
        top = name.removeprefix("TUNEYARD_").partition("__")[0].lower()
        if top not in known:
            yield Finding("settings", "note", f"{name} is no setting of Tuneyard's; is it misspelt?")
