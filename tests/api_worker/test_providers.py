"""Finding a provider by name."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing

import pytest
from pydantic import SecretStr, ValidationError

from api_worker.catalogue import catalogue
from api_worker.providers import account_of, api_of, open_provider, providers
from queue_app.errors import Invalid
from settings import ProviderSettings, Settings
from tests.sandbox.server import ROOT

KEYLESS = ProviderSettings(base_url="http://127.0.0.1:1/v1")
WITH_KEY = ProviderSettings(base_url="http://127.0.0.1:1/v1", api_key=SecretStr("k"), organization="acme")
KEY = SecretStr("a-key-of-length")
VENDORS = {
    "openai": "https://api.openai.com/v1",
    "azure": "https://acme.openai.azure.com/openai/v1/",
    "nebius": "https://api.tokenfactory.nebius.com/v1/",
    "together": "https://api.together.ai/v1",
    "fireworks": "https://api.fireworks.ai",
    "mistral": "https://api.mistral.ai",
    "hf_jobs": "https://huggingface.co",
}


def test_every_file_in_the_folder_is_a_provider() -> None:
    files = {path.stem for path in (ROOT / "api_worker" / "providers").glob("*.py")} - {"__init__"}
    assert set(providers()) == files


@pytest.mark.parametrize("name", [*providers(), "sandbox", "somebody-with-a-base-url"])
def test_every_account_opens(name: str) -> None:
    with closing(open_provider(name, WITH_KEY)) as provider:
        methods = ("upload", "start", "find", "state", "cancel", "result")
        assert all(callable(getattr(provider, method)) for method in methods)


def test_an_account_that_leads_nowhere_names_the_nearest_provider() -> None:
    with pytest.raises(Invalid, match=r'did you mean "openai"\?.*TUNEYARD_PROVIDERS__OPENIA__BASE_URL'):
        open_provider("openia", ProviderSettings(api_key=KEY))


@pytest.mark.parametrize("account", [KEYLESS, KEYLESS.model_copy(update={"api_key": SecretStr(" ")})])
def test_an_account_without_a_key_says_which_variable_to_set(account: ProviderSettings) -> None:
    with pytest.raises(Invalid, match="no API key; set TUNEYARD_PROVIDERS__OPENAI__API_KEY"):
        open_provider("openai", account)


@pytest.mark.parametrize("api", VENDORS)
def test_a_vendors_own_cloud_is_the_vendor_however_it_is_written(api: str) -> None:
    known, plain = catalogue(), VENDORS[api]
    forms = [plain, plain.rstrip("/"), f"{plain.rstrip('/')}/", plain.upper().replace("HTTPS", "https")]
    forms.append(plain.replace(".com", ".com:443").replace(".ai", ".ai:443"))
    assert not any(known.is_own_server(api, url) for url in forms)
    assert {api_of("mine", ProviderSettings(base_url=url)) for url in forms} == {api}
    assert not known.is_own_server(api, None)
    assert known.is_own_server(api, "http://127.0.0.1:8791/v1")


def test_a_name_that_only_looks_like_a_vendors_is_not_the_vendors() -> None:
    known = catalogue()
    for url in ("https://api.openai.com.evil.example/v1", "https://notopenai.com/v1", "https://x/?api.openai.com"):
        assert known.is_own_server("openai", url)
    assert not known.is_own_server("azure", "https://models.acme.example/openai/v1/"), "resources have any name"


def test_an_account_that_speaks_one_api_at_the_cloud_of_another_is_refused() -> None:
    with pytest.raises(Invalid, match="the cloud of nebius; set TUNEYARD_PROVIDERS__MINE__API to nebius"):
        api_of("mine", ProviderSettings(api="openai", base_url=VENDORS["nebius"]))


@pytest.mark.parametrize(
    "url", ["api.openai.com/v1", "ftp://api.openai.com", "https://", "http://[::1", "https://a:b/"]
)
def test_what_is_no_address_is_no_base_url(url: str) -> None:
    with pytest.raises(ValidationError, match="is no URL with http:// or https:// and a host"):
        ProviderSettings(base_url=url)


@pytest.mark.parametrize("api", providers())
@pytest.mark.parametrize(
    ("key", "says"), [("sk-1234", "has 7 characters"), ("sk-123456789\nx", "a character that no key")]
)
def test_what_can_be_no_key_is_refused_at_every_provider(api: str, key: str, says: str) -> None:
    account = ProviderSettings(api=api, base_url="https://acme.example/v1", api_key=SecretStr(key), organization="acme")
    with pytest.raises(Invalid, match=says) as refused:
        open_provider("mine", account)
    assert key not in str(refused.value)


def test_an_account_that_is_not_configured_names_the_nearest(settings: Settings) -> None:
    with pytest.raises(Invalid, match=r'no provider account "sandbax"; did you mean "sandbox"\?'):
        account_of(settings, "sandbax")
    assert account_of(settings, "sandbox").base_url == "http://127.0.0.1:8791/v1"


def test_looking_for_providers_and_importing_the_job_type_load_no_sdk() -> None:
    program = (
        "import sys, api_worker.providers, tasks.hosted_finetune; api_worker.providers.providers();"
        "sys.exit(sorted({'openai', 'httpx2', 'torch', 'starlette', 'uvicorn'} & set(sys.modules)).__repr__()"
        " if {'openai', 'httpx2', 'torch', 'starlette', 'uvicorn'} & set(sys.modules) else 0)"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
