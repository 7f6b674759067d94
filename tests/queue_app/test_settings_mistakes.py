"""What is wrong with the settings is said in a message that names the setting and shows no secret."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from queue_app.cli import context
from queue_app.cli.application import run
from queue_app.doctor import examine, taken_ports
from queue_app.errors import Invalid
from queue_app.job_log import redact
from queue_app.store import Database
from queue_app.yard_home import locked, runs_in
from settings import (
    BrokerSettings,
    MonitorSettings,
    ProviderSettings,
    SandboxSettings,
    Settings,
    StoreSettings,
    get_settings,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _fresh_context() -> Iterator[None]:
    get_settings.cache_clear()
    context.store.cache_clear()
    yield
    get_settings.cache_clear()
    context.store.cache_clear()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("TUNEYARD_STORE__URL", "sk-oops", "TUNEYARD_STORE__URL is no database URL"),
        ("TUNEYARD_STORE__URL", "postgresql://u:sk-oops@host:port/x", "TUNEYARD_STORE__URL is no database URL"),
        ("TUNEYARD_STORE__URL", "oracel://u:sk-oops@host/x", 'there is no database called "oracel"'),
        ("TUNEYARD_PROVIDERS", "sk-oops", '"providers"'),
        ("TUNEYARD_SANDBOX", "sk-oops", '"sandbox"'),
        ("TUNEYARD_QUEUE__LEASE_SECONDS", "sk-oops", "queue.lease_seconds"),
        (
            "TUNEYARD_PROVIDERS__MINE__BASE_URL",
            "sk-oops",
            "providers.mine.base_url: is no URL with http:// or https://",
        ),
        ("TUNEYARD_PROVIDERS__MINE__BASE_URL", "http://me:sk-oops@127.0.0.1:1/v1", "give the address alone"),
        ("TUNEYARD_PROVIDERS__MINE__BASE_URL", "http://127.0.0.1:1/v1?api-key=sk-oops", "and the key as api_key"),
    ],
)
def test_a_wrong_variable_is_named_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, says: str
):
    monkeypatch.setenv(name, value)
    assert run(["jobs", "ls"]) == 3
    said = capsys.readouterr().err
    assert says in said
    assert "sk-oops" not in said


def test_a_missing_driver_is_named_with_what_to_install():
    with pytest.raises(Invalid, match=r"TUNEYARD_STORE__URL: mysql needs the package MySQLdb"):
        Database("mysql://user:sk-oops@host/x").revision()


@pytest.mark.parametrize(
    ("name", "content", "says"), [("tuneyard.toml", b"[queue", "is no TOML"), (".env", b"A=\xff\xfe", "is no UTF-8")]
)
def test_a_broken_file_is_named(capsys: pytest.CaptureFixture[str], name: str, content: bytes, says: str):
    Path(name).write_bytes(content)
    assert run(["jobs", "ls"]) == 3
    said = capsys.readouterr().err
    assert name in said
    assert says in said


@pytest.mark.parametrize("url", ["sk-oops", "oracel://u:sk-oops@host/x", "mysql://u:sk-oops@host/x"])
def test_the_doctor_calls_an_unusable_store_blocking(settings: Settings, url: str):
    broken = settings.model_copy(update={"store": StoreSettings(url=SecretStr(url))})
    [finding] = [f for f in examine(broken) if f.check == "store"]
    assert finding.grade == "blocking"
    assert "TUNEYARD_STORE__URL" in finding.finding
    assert "sk-oops" not in finding.finding


def test_a_password_is_a_secret_however_it_is_written():
    settings = Settings(
        store=StoreSettings(url=SecretStr("postgresql://u:p%40ss@host/x?password=in+query")),
        broker=BrokerSettings(url=SecretStr("redis://host/0?password=p%40")),
    )
    assert set(settings.secrets) == {"p%40ss", "p@ss", "in+query", "in query", "p%40", "p@"}
    assert settings.secrets.index("p%40ss") < settings.secrets.index("p%40"), "else a rest of it would stay"


def test_a_short_password_hides_only_the_word_that_it_is():
    text = "the store at postgresql://u:yard@host/x of tuneyard, the yard"
    settings = Settings(store=StoreSettings(url=SecretStr("postgresql://u:yard@host/x")))
    assert redact(text, settings) == "the store at postgresql://u:***@host/x of tuneyard, the ***"


def test_a_key_that_can_be_none_hides_nothing():
    settings = Settings(providers={"openai": ProviderSettings(api_key=SecretStr("the"))})
    assert redact("the weather", settings) == "the weather"


def test_the_doctor_looks_at_accounts_as_they_are_used(settings: Settings):
    accounts = {
        "sandbox": ProviderSettings(max_jobs=3),
        "openai": ProviderSettings(api_key=SecretStr("sk-oops")),
        "mine": ProviderSettings(api_key=SecretStr("a-key-of-length"), base_url="http://models.example/v1"),
        "together": ProviderSettings(),
    }
    found = [f for f in examine(settings.model_copy(update={"providers": accounts})) if f.check == "keys"]
    said = {f.finding.partition(":")[0]: f for f in found}
    assert "no key for together; set TUNEYARD_PROVIDERS__TOGETHER__API_KEY" in said
    assert said["openai"].grade == "blocking"
    assert "no key has fewer than 8" in said["openai"].finding
    assert "to models.example by http" in said["mine"].finding
    assert not any("sk-oops" in f.finding for f in found)
    assert found[-1].finding == "mine, openai, sandbox"


def test_a_taken_port_stops_the_yard_before_it_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        for name in ("MONITORS__METRICS_PORT", "MONITORS__FLOWER_PORT", "SANDBOX__PORT"):
            monkeypatch.setenv(f"TUNEYARD_{name}", port)
        assert run(["up"]) == 3
        said = capsys.readouterr().err
        assert all(f"set TUNEYARD_{name} to another" in said for name in ("SANDBOX__PORT", "MONITORS__FLOWER_PORT"))
        assert run(["flower"]) == 3
        assert "TUNEYARD_MONITORS__FLOWER_PORT" in capsys.readouterr().err


def test_the_doctor_notes_a_taken_port_unless_our_own_yard_has_it(settings: Settings):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monitors = MonitorSettings(metrics_port=port, flower_port=port)
        taken = settings.model_copy(update={"monitors": monitors, "sandbox": SandboxSettings(port=port)})
        assert len(list(taken_ports(taken))) == 3
        assert {f.grade for f in examine(taken) if f.check == "ports"} == {"note"}
        (settings.home / "yard.json").write_text(json.dumps({"pid": 1}))
        with locked(settings.home):
            assert {f.grade for f in examine(taken) if f.check == "ports"} == {"ok"}


def test_a_yard_runs_only_where_its_lock_is_held(settings: Settings):
    settings.home.mkdir(parents=True)
    assert not runs_in(settings.home)
    with locked(settings.home):
        (settings.home / "yard.json").write_text("{}")
        assert runs_in(settings.home)
    assert not runs_in(settings.home), "its file was left behind"
