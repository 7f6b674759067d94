"""What every vendor's part of the sandbox has in common."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from api_worker.sandbox.app import open_desks
from api_worker.sandbox.faults import ROUTES, Faults
from api_worker.sandbox.refusals import COMMON, Denial, denial_of
from api_worker.sandbox.remote_job import Phase
from api_worker.sandbox.rules import Rules
from api_worker.sandbox.vendor import Entry, vendors
from tests.sandbox.server import serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.sandbox.server import Served

NEEDED = {"create", "retrieve", "list", "cancel"}


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Entry]]]:
    desks = open_desks(tmp_path_factory.mktemp("state"), Rules(), Faults())
    yield {desk.vendor.name: list(desk.vendor.entries(desk)) for desk in desks}
    for desk in desks:
        desk.state.close()


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("state")) as served:
        yield served


@pytest.mark.parametrize("name", vendors())
def test_a_vendor_has_a_word_for_every_phase(name: str) -> None:
    words = vendors()[name].words
    assert set(words) == set(Phase)
    final = {words[phase] for phase in Phase if phase.is_final}
    assert len(final) == 3
    assert words[Phase.ODD] not in {word for phase, word in words.items() if phase != Phase.ODD}


@pytest.mark.parametrize("name", vendors())
def test_a_vendors_routes_go_by_names_that_faults_know(name: str, entries: dict[str, list[Entry]]) -> None:
    routes = {entry.route for entry in entries[name]}
    assert NEEDED <= routes <= set(ROUTES)
    for entry in entries[name]:
        assert ("{job_id}" in entry.path) >= (entry.route in ("retrieve", "cancel")), entry.path


@pytest.mark.parametrize("name", vendors())
def test_a_vendor_says_no_in_json(name: str) -> None:
    vendor = vendors()[name]
    for what in {*COMMON, *vendor.denials}:
        denial = denial_of(what, vendor.denials)
        assert denial.message in json.dumps(vendor.error_body(denial))
    assert "418" in json.dumps(vendor.error_body(denial_of("418", vendor.denials)))
    json.dumps(vendor.error_body(Denial(400, "no", "code", "param", "kind")))


@pytest.mark.parametrize("name", vendors())
def test_a_vendors_names_are_its_own_and_its_models_say_sandbox(name: str) -> None:
    vendor = vendors()[name]
    assert any("sandbox" in model for model in vendor.models)
    assert vendor.new_job_id() != vendor.new_job_id()
    others = [other.prefix for other in vendors().values() if other.name != name]
    assert vendor.prefix not in others


@pytest.mark.parametrize("name", vendors())
def test_no_route_is_served_without_a_key(name: str, sandbox: Served, entries: dict[str, list[Entry]]) -> None:
    root = sandbox.url.removesuffix("/v1") + vendors()[name].prefix
    for entry in entries[name]:
        if entry.is_signed:
            continue
        path = entry.path.replace(":path}", "}").replace("{", "").replace("}", "")
        request = urllib.request.Request(f"{root}{path}", method=entry.method, data=b"{}")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request)
        with caught.value as answer:
            assert answer.status == 401, entry
            json.load(answer)


def test_every_vendor_keeps_its_own_folder(tmp_path: Path) -> None:
    with serve(tmp_path / "state"):
        assert {folder.name for folder in (tmp_path / "state").iterdir()} == set(vendors())
