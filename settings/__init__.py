"""All configuration, in one frozen object.

It is read from the environment (`TUNEYARD_…`, nested with `__`), a `.env` file and `tuneyard.toml`, in that order of
precedence, by the entry points alone; everything below them is handed values.
"""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path
from tempfile import gettempdir
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from settings.account import ProviderSettings, Section
from settings.secrets import SHORTEST_KEY, long_parts_of, passwords_of

__all__ = [
    "BrokerSettings",
    "MonitorSettings",
    "OwnGpuSettings",
    "ProviderSettings",
    "QueueSettings",
    "SandboxSettings",
    "Settings",
    "StoreSettings",
    "TrainingSettings",
    "get_settings",
]

# The accounts at the sandbox, one for each API that it speaks there.
SANDBOX_PATHS = {
    "sandbox": "/v1",
    "sandbox-azure": "/azure/openai/v1",
    "sandbox-fireworks": "/fireworks",
    "sandbox-hf_jobs": "/huggingface",
    "sandbox-mistral": "/mistral/v1",
    "sandbox-nebius": "/nebius/v1",
    "sandbox-together": "/together/v1",
}
SOCKET_PATH_LIMIT = 100  # bytes; the kernel's own limit is 108 on Linux and 104 on macOS


class StoreSettings(Section):
    """Where jobs live."""

    url: SecretStr | None = Field(None, description="SQLAlchemy URL; default: SQLite in the Tuneyard home")


class BrokerSettings(Section):
    """Where the doorbell hangs."""

    url: SecretStr | None = Field(None, description="redis:// URL; default: the embedded server")
    doorbell_depth: int = Field(50, ge=1, description="rings the sweeper keeps in a queue at the most")


class QueueSettings(Section):
    """Leases, sweeps and retries."""

    lease_seconds: float = Field(25.0, gt=0, description="a worker that is silent for so long has lost its job")
    sweep_seconds: float = Field(0.5, gt=0, description="pause between two sweeps")
    max_failures: int = Field(3, ge=1, description="retries and lost leases before a job is failed")
    backoff_seconds: float = Field(5.0, gt=0, description="first pause after a transient error; doubles each time")
    backoff_max_seconds: float = Field(600.0, gt=0, description="longest pause after a transient error")
    outage_hours: float = Field(24.0, ge=0, description="a provider silent for longer costs its jobs their retries")
    paused_seconds: float = Field(3600.0, gt=0, description="pause of an account whose balance or quota is used up")
    ageing_seconds: float = Field(3600.0, gt=0, description="a job that waits for a slot gains a priority in so long")
    probe_seconds: float = Field(60.0, gt=0, description="pause before a provider that had no slot is tried for one")


class ArtifactSettings(Section):
    """Where results live."""

    url: str | None = Field(None, description="fsspec URL or folder; default: `artifacts` in the Tuneyard home")


class WorkerSettings(Section):
    """How many processes `tuneyard up` starts."""

    cpu: int = Field(1, ge=0, description="cpu worker processes")
    api: int = Field(1, ge=0, description="api worker processes")
    api_threads: int = Field(8, ge=1, description="jobs an api worker talks for at once")
    gpu: int | None = Field(
        None, ge=0, description="gpu worker processes; default: one a card, or one on the CPU where there is no card"
    )
    cards: tuple[str, ...] | None = Field(
        None,
        description="cards they get, by number or UUID (MIG-… for a slice), as a JSON list; default: all there are",
    )


class TrainingSettings(Section):
    """How the GPU side runs."""

    engine: Literal["auto", "trl", "unsloth", "axolotl"] = Field(
        "auto", description="auto: Unsloth where it is installed, else trl"
    )
    axolotl: Path | None = Field(
        None,
        description="axolotl's program, /…/bin/axolotl of its own environment; default: the one in Tuneyard's, or on "
        "the PATH",
    )
    stall_margin_seconds: float = Field(120.0, gt=0, description="added to three median steps before a run is stalled")


class OwnGpuSettings(Section):
    """What an hour of one's own GPU costs, for quotes: by the hour, or by its current."""

    usd_per_hour: float | None = Field(None, ge=0, description="price of an hour; goes before watts")
    watts: float | None = Field(None, gt=0, description="drawn by the whole machine while it trains")
    usd_per_kwh: float | None = Field(None, ge=0, description="price of electricity")
    tokens_per_second: float | None = Field(None, gt=0, description="where no training of the model was measured here")


class SandboxSettings(Section):
    """The local server that speaks the providers' APIs."""

    host: str = "127.0.0.1"
    port: int = Field(8791, ge=1, le=65535)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


class MonitorSettings(Section):
    """Ports of the monitors, on loopback."""

    metrics_port: int = Field(9540, ge=1, le=65535, description="Prometheus scrapes here")
    flower_port: int = Field(5555, ge=1, le=65535, description="Flower's UI")


class Settings(BaseSettings):
    """Everything that can be configured, with the defaults that need no configuration."""

    model_config = SettingsConfigDict(
        env_prefix="TUNEYARD_",
        env_nested_delimiter="__",
        env_file=".env",
        toml_file="tuneyard.toml",
        frozen=True,
        extra="ignore",  # a shared .env may carry other programs' keys
    )

    home: Path = Field(default_factory=lambda: Path.home() / ".tuneyard", description="everything local lives here")
    store: StoreSettings = StoreSettings()
    broker: BrokerSettings = BrokerSettings()
    queue: QueueSettings = QueueSettings()
    artifacts: ArtifactSettings = ArtifactSettings()
    workers: WorkerSettings = WorkerSettings()
    training: TrainingSettings = TrainingSettings()
    sandbox: SandboxSettings = SandboxSettings()
    own_gpu: OwnGpuSettings = OwnGpuSettings()
    monitors: MonitorSettings = MonitorSettings()
    providers: dict[str, ProviderSettings] = Field(default_factory=dict, description="account name → account")
    catalogue: Path | None = Field(None, description="a file of rows that go before those of Tuneyard's own catalogue")
    databases: dict[str, SecretStr] = Field(
        default_factory=dict, description="name → SQLAlchemy URL of a database that examples are exported from"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, dotenv_settings, TomlConfigSettingsSource(settings_cls)

    @property
    def store_url(self) -> str:
        """The SQLAlchemy URL of the store."""
        if self.store.url is not None:
            return self.store.url.get_secret_value()
        return f"sqlite:///{self.home.absolute() / 'tuneyard.db'}"

    @property
    def broker_socket(self) -> Path:
        """The embedded broker's unix socket; in the temporary folder where the home's path is too long for one."""
        path = self.home.absolute() / "broker" / "broker.sock"
        if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
            return path
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        return Path(gettempdir()) / f"tuneyard-{os.getuid()}-{digest}.sock"

    @property
    def broker_url(self) -> str:
        """The broker's URL as Celery spells it."""
        if self.broker.url is not None:
            return self.broker.url.get_secret_value()
        return f"redis+socket://{self.broker_socket}"

    @property
    def artifacts_url(self) -> str:
        """The artifact store's fsspec URL, or a folder."""
        return self.artifacts.url or str(self.home.absolute() / "artifacts")

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret there is, for taking them out of what is written down."""
        urls = (self.store_url, self.broker_url, *(url.get_secret_value() for url in self.databases.values()))
        inside = {word for url in urls for word in passwords_of(url)}
        inside |= {word for p in self.providers.values() if p.base_url for word in long_parts_of(p.base_url)}
        # a shorter one is no key: it opens a server on this machine at the most, as the sandbox's does
        keys = {p.key for p in self.providers.values() if len(p.key) >= SHORTEST_KEY}
        return tuple(sorted((inside | keys) - {""}, key=len, reverse=True))  # a part of another one comes after it

    def provider(self, name: str) -> ProviderSettings:
        """The account called `name`; those at the sandbox need no configuration, and keep what is not configured.

        Raises:
            KeyError: no such account is configured
        """
        if name not in SANDBOX_PATHS:
            return self.providers[name]
        plain = {
            "api": name.removeprefix("sandbox").removeprefix("-") or "openai",
            "base_url": f"{self.sandbox.url}{SANDBOX_PATHS[name]}",
            "api_key": SecretStr("sandbox"),
            "organization": "sandbox",
            "listing_lag_seconds": 2.0,
            "answer_seconds": 5.0,
            "poll_seconds": 1.0,
        }
        set_here = self.providers[name].model_dump(exclude_unset=True) if name in self.providers else {}
        return ProviderSettings(**plain | set_here)


@cache
def get_settings() -> Settings:
    """The process's settings. Called by entry points only."""
    return Settings()
