from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from redis import Redis

from queue_app import broker
from queue_app.errors import Invalid, Permanent, Transient

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SERVE = "import sys; from pathlib import Path; from queue_app.broker import serve; serve(*map(Path, sys.argv[1:]))"


@dataclass
class Server:
    """A real embedded server in a process of its own."""

    home: Path
    popen: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.home / "b.sock"

    @property
    def url(self) -> str:
        return f"redis+socket://{self.socket}"

    @property
    def client(self) -> Redis:
        return Redis(unix_socket_path=str(self.socket), decode_responses=True)

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", SERVE, str(self.home), str(self.socket)]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.popen = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
        return self.popen

    def end(self, number: int) -> int:
        assert self.popen is not None
        self.popen.send_signal(number)
        return self.popen.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    broker.wait_until_ready(server.url, 20)
    yield server
    server.end(signal.SIGKILL)


def test_the_broker_says_that_it_loses_nothing(server: Server) -> None:
    facts = broker.facts(server.url)
    assert facts["eviction_policy"] == "noeviction"
    assert facts["append_only"]
    assert facts["persistence_errors"] == []
    assert facts["server"].startswith("valkey 9")
    assert facts["max_memory_mib"] == 0


def test_a_killed_broker_still_has_its_messages_when_it_starts_again(server: Server) -> None:
    with server.client as client:
        client.rpush("cpu", *range(100))
    server.end(signal.SIGKILL)
    assert server.socket.is_socket(), "the killed server leaves its socket behind"
    server.start()
    broker.wait_until_ready(server.url, 20)
    with server.client as client:
        assert client.llen("cpu") == 100


def test_a_broker_ends_cleanly_on_sigterm_without_a_shell_or_parent_in_between(server: Server) -> None:
    with server.client as client:
        assert server.popen is not None
        assert client.info("server")["process_id"] == server.popen.pid
    assert server.end(signal.SIGTERM) == 0


def test_only_the_owner_may_enter_the_folder_and_the_socket(server: Server) -> None:
    assert stat.S_IMODE((server.home / "broker").stat().st_mode) == 0o700
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o700


def test_the_broker_listens_on_no_port(server: Server) -> None:
    with server.client as client:
        assert client.config_get("port") == {"port": "0"}


def test_a_second_broker_on_the_same_folder_is_refused(server: Server) -> None:
    assert server.popen is not None
    with pytest.raises(Invalid, match=rf"already runs on .*broker \(pid {server.popen.pid}\)"):
        broker.serve(server.home, server.home / "other.sock")
    broker.ping(server.url)


def test_a_file_in_the_place_of_the_socket_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "b.sock").write_text("precious")
    with pytest.raises(Invalid, match="is in the way"):
        broker.serve(tmp_path, tmp_path / "b.sock")
    assert (tmp_path / "b.sock").read_text() == "precious"


def test_a_broker_that_is_not_there_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        Transient, match=r"no broker answers at redis\+socket://.*none\.sock.*tuneyard up.*waited 0\.2 s"
    ):
        broker.wait_until_ready(f"redis+socket://{tmp_path}/none.sock", 0.2)


def test_a_wrong_url_is_not_waited_for() -> None:
    with pytest.raises(Permanent, match="http://localhost is no broker URL"):
        broker.wait_until_ready("http://localhost", 600)


def test_a_refused_password_is_not_waited_for_and_not_shown(server: Server) -> None:
    with server.client as client:
        client.config_set("requirepass", "right")
    with pytest.raises(Permanent, match="refuses") as caught:
        broker.wait_until_ready(f"unix://:wr0ng@{server.socket}", 600)
    assert "wr0ng" not in str(caught.value)
    broker.ping(f"redis+socket://:right@{server.socket}")


@pytest.mark.parametrize("url", ["redis://user:s3cret@127.0.0.1:1/0", "redis://:s3cret@127.0.0.1:1/0"])
def test_no_message_shows_a_password(url: str) -> None:
    with pytest.raises(Transient, match=r":\*\*\*@127\.0\.0\.1:1/0") as caught:
        broker.ping(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:1/0?password=s3cret",
        "redis://127.0.0.1:1/0?db=0&password=s3cret",
        "redis+socket:///nowhere.sock?password=s3cret&virtual_host=0",
        "redis://:a/s3cret?#b@127.0.0.1:1/0",
    ],
)
def test_no_message_shows_a_password_of_the_query(url: str) -> None:
    with pytest.raises((Transient, Permanent)) as caught:
        broker.ping(url)
    assert "s3cret" not in str(caught.value)
