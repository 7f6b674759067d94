"""One account at one hosted provider."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from settings.addresses import is_on_this_machine, is_plain, is_web_address
from settings.secrets import SHORTEST_KEY


def variable_of(name: str, field: str) -> str:
    """The variable of an account's setting; one that no shell can set has its place in `.env`."""
    variable = f"TUNEYARD_PROVIDERS__{name.upper()}__{field.upper()}"
    return variable if variable.isidentifier() else f"{variable} (a line of the file .env, as no shell can set it)"


class Section(BaseModel):
    """A frozen group of settings that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ProviderSettings(Section):
    """One account at one hosted provider."""

    api: str | None = Field(
        None, description="the provider whose API it speaks; default: by the account's name or base_url, else openai"
    )
    base_url: str | None = Field(None, description="API root; default: the vendor's own")
    api_key: SecretStr | None = Field(None, description="never logged, never stored")
    organization: str | None = Field(None, description="whose account it is, where the API's paths name it (Fireworks)")
    tier: str | None = Field(None, description="trainingType at Azure (developerTier …); machine at HF Jobs (l4x1 …)")
    max_jobs: int | None = Field(None, ge=0, description="unfinished jobs at once; default: what the catalogue says")
    max_jobs_a_day: int | None = Field(None, ge=0, description="starts in 24 hours; default: what the catalogue says")
    cap_usd: float | None = Field(None, ge=0, description="the most its jobs may cost; more waits for approval")
    cap_usd_a_day: float | None = Field(None, ge=0, description="the most its jobs of 24 hours may cost")
    listing_lag_seconds: float = Field(30.0, ge=0, description="how long a job just created may be missing from lists")
    answer_seconds: float = Field(60.0, ge=0, description="how long a request may go on after its worker has died")
    poll_seconds: float = Field(30.0, gt=0, description="pause between two looks at a remote job")

    @field_validator("base_url")
    @classmethod
    def _leads_somewhere(cls, url: str | None) -> str | None:
        if url is not None and not is_web_address(url):
            raise ValueError("is no URL with http:// or https:// and a host")
        if url is not None and not is_plain(url):
            raise ValueError('has a name, a password or a "?" in it; give the address alone, and the key as api_key')
        return url if url is None else url.strip()

    @property
    def key(self) -> str:
        """The key as it is sent; empty where there is none."""
        return self.api_key.get_secret_value().strip() if self.api_key is not None else ""

    @property
    def key_fault(self) -> str:
        """Why the key cannot be one, without showing it; empty: nothing is wrong with it, or there is none."""
        if not (self.key.isascii() and self.key.isprintable()):  # else the encoding's error would show it
            return "its api_key has a character that no key has, such as a line break; set it again"
        is_local = self.base_url is not None and is_on_this_machine(self.base_url)
        if 0 < len(self.key) < SHORTEST_KEY and not is_local:
            return f"its api_key has {len(self.key)} characters, and no key has fewer than {SHORTEST_KEY}; set it again"
        return ""
