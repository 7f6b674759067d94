"""Finding a provider by name."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing

import pytest
from pydantic import SecretStr

from api_worker.providers import account_of, open_provider, providers
from queue_app.errors import Invalid
from settings import ProviderSettings, Settings
from tests.sandbox.server import ROOT

KEYLESS = ProviderSettings(base_url="http://127.0.0.1:1/v1")
WITH_KEY = ProviderSettings(base_url="http://127.0.0.1:1/v1", api_key=SecretStr("k"), organization="acme")


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
        open_provider("openia", ProviderSettings(api_key=SecretStr("k")))


@pytest.mark.parametrize("account", [KEYLESS, KEYLESS.model_copy(update={"api_key": SecretStr(" ")})])
def test_an_account_without_a_key_says_which_variable_to_set(account: ProviderSettings) -> None:
    with pytest.raises(Invalid, match="no API key; set TUNEYARD_PROVIDERS__OPENAI__API_KEY"):
        open_provider("openai", account)


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
