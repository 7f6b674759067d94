"""What every provider's adapter does alike, with its real client, at its part of the sandbox and at odd servers."""

from __future__ import annotations

import hashlib
import logging
import traceback
from base64 import b32encode
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from api_worker.provider import Method, Order, Provider, RemoteJob, RemoteState, Tuned
from api_worker.providers import open_provider, providers
from api_worker.sandbox.faults import ROUTES
from api_worker.sandbox.remote_job import Phase
from api_worker.sandbox.rules import Rules
from api_worker.sandbox.vendor import vendors
from queue_app.errors import AccountPaused, Permanent, SlotRefused, Transient, TuneyardError, Unauthorized
from queue_app.lifecycle import Cause
from tests.api_worker.odd_server import odd_server
from tests.conftest import eventually
from tests.sandbox.server import ENDLESS, FAST, SECRET, Sandboxes, examples_file, preferences_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from settings import ProviderSettings
    from tests.sandbox.server import Served

APIS = [name for name in providers() if name in vendors()]
TAKING_NO_SUFFIX = {"azure", "mistral"}  # they have room for the key alone
WITHOUT_END = Rules(pace=ENDLESS)
WISHES: dict[str, Any] = {
    "epochs": 2,
    "suffix": "tone",
    "seed": 5,
    "batch_size": 8,
    "learning_rate": 1e-4,
    "lora_r": 16,
    "tuned": Tuned.LORA,
}


@dataclass(frozen=True)
class Yard:
    """An adapter at its part of a sandbox, and what it is asked with."""

    api: str
    provider: Provider
    sandbox: Served
    key: str
    folder: Path

    @property
    def base_model(self) -> str:
        return next(model for model in vendors()[self.api].models if "sandbox" in model)

    def told(self) -> dict[str, Any]:
        """The vendor's part of the ledger."""
        found: dict[str, Any] = self.sandbox.ledger()["vendors"][self.api]
        return found

    def about(self, key: str) -> dict[str, Any]:
        """What the ledger has of a key."""
        found: dict[str, Any] = self.told()["keys"].get(key, {})
        return found

    def path(self, name: str = "train.jsonl") -> Path:
        return examples_file(self.folder / name)

    def file(self, path: Path | None = None) -> str:
        """An uploaded file that the provider has looked through."""
        file = self.provider.upload(path or self.path())
        eventually(lambda: self.provider.is_ready(file), what="the file's examination")
        return file

    def order(self, **wishes: Any) -> Order:
        return Order(self.base_model, self.file(), **wishes)

    def wait_for(self, remote: str, state: RemoteState) -> RemoteJob:
        def reached() -> RemoteJob | None:
            job = self.provider.state(remote)
            assert job.state == state or not job.state.is_final, job
            return job if job.state == state else None

        return eventually(reached, what=f"{remote} {state}")


OpenYard = Callable[..., Yard]


@pytest.fixture(params=APIS)
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def sandboxes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandboxes]:
    with closing(Sandboxes(tmp_path_factory.mktemp("sandboxes"))) as opened:
        yield opened


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A submission key of the usual form, another one for every test."""
    digest = hashlib.sha256(request.node.nodeid.encode()).digest()
    return f"ty-{b32encode(digest)[:10].decode().lower()}"


@pytest.fixture
def yard(
    request: pytest.FixtureRequest, sandboxes: Sandboxes, api: str, key: str, tmp_path: Path
) -> Iterator[OpenYard]:
    opened: list[Provider] = []

    def open_yard(*faults: str, rules: Rules | None = None) -> Yard:
        of = request.function.__name__ if faults or (rules and rules.max_concurrent) else ""
        sandbox = sandboxes.at(*faults, rules=rules or Rules(pace=FAST), of=of)
        opened.append(open_provider("acme", sandbox.account(api)))
        return Yard(api, opened[-1], sandbox, key, tmp_path)

    yield open_yard
    for provider in opened:
        provider.close()


def test_every_provider_has_a_part_in_the_sandbox() -> None:
    assert set(providers()) <= set(vendors())


# -- the way of a job -------------------------------------------------------------------------------------------------


def test_a_job_goes_its_way_and_its_result_is_collected(yard: OpenYard) -> None:
    here = yard()
    remote = here.provider.start(here.order(epochs=2), here.key)
    assert here.provider.find(here.key) == remote
    seen = here.provider.state(remote)
    assert (seen.id, seen.key) == (remote, here.key)
    assert str(seen.base_model).endswith(here.base_model)
    done = here.wait_for(remote, RemoteState.SUCCEEDED)
    assert done.word
    assert done.failure is None
    made = here.provider.result(remote)
    assert "sandbox" in made.model
    assert not made.trained_tokens
    assert not made.usd
    assert [row["step"] for row in made.series] == sorted(row["step"] for row in made.series)
    assert made.last("train_loss") is None
    assert here.about(here.key)["creates_received"] == 1


def test_every_wish_that_is_taken_is_heeded_and_every_other_is_not_taken(yard: OpenYard) -> None:
    here = yard()
    assert here.provider.takes <= {field.name for field in fields(Order)}
    wishes = {name: value for name, value in WISHES.items() if name in here.provider.takes}
    if "validation_file" in here.provider.takes:
        wishes["validation_file"] = here.file(examples_file(here.folder / "holdout.jsonl", count=3))
    remote = here.provider.start(here.order(**wishes), here.key)
    here.wait_for(remote, RemoteState.SUCCEEDED)


def test_preferences_are_trained_on_or_refused_before_anything_is_sent(yard: OpenYard) -> None:
    here = yard()
    file = here.file(preferences_file(here.folder / "preferences.jsonl"))
    refusal = None
    try:
        remote = here.provider.start(Order(here.base_model, file, method=Method.DPO), here.key)
    except Permanent as error:
        refusal = error
    if refusal is None:
        here.wait_for(remote, RemoteState.SUCCEEDED)
    else:
        assert refusal.cause == Cause.USER
        assert "dpo" in str(refusal).lower()
        assert here.about(here.key) == {}


@pytest.mark.parametrize("api", sorted(set(APIS) - TAKING_NO_SUFFIX), indirect=True)
def test_a_suffix_that_is_too_long_beside_the_key_creates_nothing(yard: OpenYard) -> None:
    here = yard()
    assert "suffix" in here.provider.takes
    with pytest.raises(Permanent) as caught:
        here.provider.start(here.order(suffix="x" * 200), here.key)
    assert caught.value.cause == Cause.USER
    assert caught.value.undone  # so nothing is committed to
    assert not here.about(here.key).get("jobs")


def test_an_unknown_base_model_is_the_users_matter(yard: OpenYard) -> None:
    here = yard()
    with pytest.raises(Permanent, match="no-such-model") as caught:
        here.provider.start(Order("no-such-model", here.file()), here.key)
    assert caught.value.cause == Cause.USER
    assert not isinstance(caught.value, Unauthorized)


def test_what_does_not_exist_is_an_error_and_no_crash(yard: OpenYard) -> None:
    here = yard()
    strange = here.provider.start(here.order(), here.key)[:-4] + "zzzz"
    for call in (here.provider.state, here.provider.cancel, here.provider.result, here.provider.is_ready):
        with pytest.raises(Permanent):
            call(strange)
    assert here.provider.find("ty-nobodyhas2") is None


def test_a_result_is_not_collected_before_its_time(yard: OpenYard) -> None:
    here = yard(rules=WITHOUT_END)
    remote = here.provider.start(here.order(), here.key)
    with pytest.raises(TuneyardError):
        here.provider.result(remote)


def test_every_job_of_the_account_is_listed_once_newest_first(yard: OpenYard) -> None:
    here = yard(rules=Rules(pace=ENDLESS, max_concurrent=1000))
    file = here.file()
    made = [here.provider.start(Order(here.base_model, file), f"{here.key}-{n}") for n in range(105)]
    listed = list(here.provider.listed())
    assert [job.id for job in listed] == made[::-1]
    assert [job.key for job in listed] == [f"{here.key}-{n}" for n in range(105)][::-1]
    assert all(job.created_at is not None and job.created_at.utcoffset() == timedelta(0) for job in listed)
    assert here.provider.find(f"{here.key}-0") == made[0]


def test_what_the_provider_offers_and_estimates_is_told(yard: OpenYard) -> None:
    here = yard()
    remote = here.provider.start(here.order(), here.key)
    here.wait_for(remote, RemoteState.SUCCEEDED)
    offers = list(here.provider.offers())
    assert [offer.tuned for offer in offers if offer.model.endswith(here.base_model)] == [False]
    tuned = here.provider.result(remote).model
    assert [offer.tuned for offer in offers if offer.model == tuned] in ([True], [])
    estimate = here.provider.estimate(here.order(epochs=2))
    assert estimate is None or (estimate.usd >= 0 and estimate.allowed)


# -- cancelling -------------------------------------------------------------------------------------------------------


def test_a_cancel_is_sent_once_however_often_it_is_asked_for(yard: OpenYard) -> None:
    here = yard(rules=WITHOUT_END)
    remote = here.provider.start(here.order(), here.key)
    assert here.provider.cancel(remote) in (RemoteState.CANCELLED, RemoteState.CANCELLING)
    here.wait_for(remote, RemoteState.CANCELLED)
    assert here.provider.cancel(remote) == RemoteState.CANCELLED
    assert here.about(here.key)["cancels_received"] == 1


def test_a_job_that_ended_keeps_its_end(yard: OpenYard) -> None:
    here = yard()
    remote = here.provider.start(here.order(), here.key)
    here.wait_for(remote, RemoteState.SUCCEEDED)
    assert here.provider.cancel(remote) == RemoteState.SUCCEEDED
    assert here.about(here.key)["cancels_received"] == 0


def test_a_cancel_whose_answer_was_lost_is_not_sent_again(yard: OpenYard) -> None:
    here = yard("cancel:500-after*1", rules=WITHOUT_END)
    remote = here.provider.start(here.order(), here.key)
    with pytest.raises(Transient):
        here.provider.cancel(remote)
    assert here.provider.cancel(remote) == RemoteState.CANCELLED
    assert here.about(here.key)["cancels_received"] == 1


# -- exactly once -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["create:drop-after", "create:500-after", "create:429-after", "create:503-after"])
def test_a_job_whose_create_was_not_answered_is_found_by_its_key(yard: OpenYard, fault: str) -> None:
    here = yard(fault, rules=WITHOUT_END)
    order = here.order()
    with pytest.raises(Transient):
        here.provider.start(order, here.key)
    seen = here.about(here.key)
    assert (seen["creates_received"], len(seen["jobs"])) == (1, 1)
    found = here.provider.find(here.key)
    assert found is not None
    assert found.endswith(seen["jobs"][0])
    assert here.provider.state(found).key == here.key


@pytest.mark.parametrize("fault", ["create:500", "create:503", "create:drop", "create:429", "create:429=7"])
def test_a_create_that_fails_is_sent_once_and_leaves_nothing(yard: OpenYard, fault: str) -> None:
    here = yard(fault)
    order = here.order()
    with pytest.raises(Transient) as caught:
        here.provider.start(order, here.key)
    assert caught.value.retry_after == (7.0 if fault.endswith("=7") else None)
    assert here.about(here.key) == {"creates_received": 1, "cancels_received": 0, "jobs": []}
    assert here.provider.find(here.key) is None


def test_an_upload_that_fails_is_sent_once(yard: OpenYard) -> None:
    here = yard("upload:500")
    before = here.told()["uploads_received"]
    with pytest.raises(Transient):
        here.provider.upload(here.path())
    assert here.told()["uploads_received"] == before + 1


def test_what_is_not_there_yet_during_an_upload_is_sent_later(yard: OpenYard) -> None:
    here = yard("files:404*1")
    try:
        sent = here.provider.upload(here.path())
    except Transient:
        sent = here.provider.upload(here.path())
    assert sent


def test_a_look_that_fails_is_repeated(yard: OpenYard) -> None:
    here = yard("retrieve:500*1", "list:503*1", rules=WITHOUT_END)
    remote = here.provider.start(here.order(), here.key)
    assert not here.provider.state(remote).state.is_final
    assert here.provider.find(here.key) == remote


def test_a_job_that_the_list_shows_late_is_found_in_the_end(yard: OpenYard) -> None:
    here = yard("list:lag=0.3", rules=WITHOUT_END)
    remote = here.provider.start(here.order(), here.key)
    assert eventually(lambda: here.provider.find(here.key), what="the job in the list") == remote


@pytest.mark.parametrize("api", [api for api in APIS if vendors()[api].restarts], indirect=True)
def test_a_job_that_the_provider_restarts_is_followed(yard: OpenYard) -> None:
    here = yard("job:restart")
    remote = here.provider.start(here.order(), here.key)
    done = here.wait_for(remote, RemoteState.SUCCEEDED)
    assert done.id != remote
    assert done.key in (here.key, None)
    assert "sandbox" in here.provider.result(remote).model
    assert here.provider.find(here.key) in (remote, done.id)
    assert here.about(here.key)["jobs"] == [remote]


# -- slots and money --------------------------------------------------------------------------------------------------


def test_a_job_too_many_waits_for_a_slot(yard: OpenYard) -> None:
    here = yard(rules=Rules(pace=FAST, max_concurrent=0))
    order = here.order()
    try:
        remote = here.provider.start(order, here.key)
    except SlotRefused:
        assert here.about(here.key)["jobs"] == []
    else:
        assert vendors()[here.api].fails_when_full
        assert here.wait_for(remote, RemoteState.FAILED).wants_slot
    assert here.told()["most_held_at_once"] == 0


def test_a_job_that_was_accepted_and_ends_for_want_of_a_slot_says_so(yard: OpenYard) -> None:
    here = yard("job:slot")
    ended = here.wait_for(here.provider.start(here.order(), here.key), RemoteState.FAILED)
    assert (ended.wants_slot, bool(ended.failure)) == (True, True)


def test_an_account_without_quota_is_paused(yard: OpenYard) -> None:
    here = yard("create:quota")
    order = here.order()
    with pytest.raises(AccountPaused, match="tuneyard providers resume acme") as caught:
        here.provider.start(order, here.key)
    assert caught.value.cause == Cause.QUOTA


def test_a_job_that_ends_for_want_of_money_says_so(yard: OpenYard) -> None:
    here = yard("job:quota")
    remote = here.provider.start(here.order(), here.key)
    ended = eventually(lambda: ended_job(here.provider, remote), what="the end")
    assert ended.state in (RemoteState.FAILED, RemoteState.CANCELLED)
    assert ended.cause == Cause.QUOTA
    assert ended.failure


def test_a_job_that_the_provider_breaks_is_the_providers_matter(yard: OpenYard) -> None:
    here = yard("job:broken")
    remote = here.provider.start(here.order(), here.key)
    ended = here.wait_for(remote, RemoteState.FAILED)
    assert ended.cause == Cause.PROVIDER
    assert ended.failure
    assert not ended.wants_slot


def ended_job(provider: Provider, remote: str) -> RemoteJob | None:
    job = provider.state(remote)
    return job if job.state.is_final else None


# -- data -------------------------------------------------------------------------------------------------------------


def fate_of(here: Yard, path: Path) -> tuple[Cause | None, str]:
    """Whose matter it is that a file is not trained on, and the words, wherever the provider finds it out."""
    try:
        remote = here.provider.start(Order(here.base_model, here.file(path)), here.key)
        job = eventually(lambda: ended_job(here.provider, remote), what="the end")
    except Permanent as error:
        return error.cause, str(error)
    assert job.state == RemoteState.FAILED
    return job.cause, str(job.failure)


def test_a_file_with_a_bad_line_is_refused_by_its_number(yard: OpenYard) -> None:
    here = yard()
    cause, words = fate_of(here, examples_file(here.folder / "bad.jsonl", last_line='{"messages": ['))
    assert cause == Cause.DATA
    assert "13" in words


def test_a_file_that_the_provider_cannot_process_is_refused(yard: OpenYard) -> None:
    here = yard("file:broken")
    cause, words = fate_of(here, here.path())
    assert cause == Cause.PROVIDER, "nothing is known against the data"
    assert words


def test_a_file_that_takes_its_time_is_waited_for(yard: OpenYard) -> None:
    here = yard("file:slow=0.3")
    remote = here.provider.start(here.order(), here.key)
    here.wait_for(remote, RemoteState.SUCCEEDED)


# -- states -----------------------------------------------------------------------------------------------------------


def test_a_status_that_nobody_knows_is_unknown_and_the_job_can_be_cancelled(yard: OpenYard) -> None:
    here = yard("job:odd-word=3600", rules=WITHOUT_END)
    remote = here.provider.start(here.order(), here.key)
    seen = here.wait_for(remote, RemoteState.UNKNOWN)
    assert seen.word == vendors()[here.api].words[Phase.ODD]
    assert here.provider.cancel(remote) in (RemoteState.CANCELLED, RemoteState.CANCELLING)


# -- refusals ---------------------------------------------------------------------------------------------------------


JOB_ID = {"fireworks": "accounts/sandbox/supervisedFineTuningJobs/job-1"}  # elsewhere any word may be one
CALLS: dict[str, Callable[[Provider, Path, str], object]] = {
    "upload": lambda provider, path, _: provider.upload(path),
    "is_ready": lambda provider, *_: provider.is_ready("file-1"),
    "start": lambda provider, *_: provider.start(Order("sandbox-base", "file-1"), "ty-aaaaaaaaaa"),
    "find": lambda provider, *_: provider.find("ty-aaaaaaaaaa"),
    "state": lambda provider, _, job: provider.state(job),
    "listed": lambda provider, *_: list(provider.listed()),
    "cancel": lambda provider, _, job: provider.cancel(job),
    "result": lambda provider, _, job: provider.result(job),
    "offers": lambda provider, *_: list(provider.offers()),
}


def job_id(api: str) -> str:
    """The id of a job as the provider forms them."""
    return JOB_ID.get(api, "job-1")


def written(error: BaseException) -> str:
    """Everything of an error that may be written down somewhere."""
    texts = [*traceback.format_exception(error), repr(error)]
    while error.__context__ is not None or error.__cause__ is not None:
        error = error.__cause__ or error.__context__ or error
        texts += [repr(error), repr(vars(error))]
    return "".join(texts)


@pytest.mark.parametrize("call", CALLS)
def test_a_key_that_is_refused_is_a_matter_of_rights(yard: OpenYard, call: str) -> None:
    here = yard(*(f"{route}:401" for route in ROUTES))
    with pytest.raises(Unauthorized, match="acme: ") as caught:
        CALLS[call](here.provider, here.path(), job_id(here.api))
    assert SECRET not in written(caught.value)


def test_what_the_account_may_not_do_is_a_matter_of_rights(yard: OpenYard) -> None:
    here = yard("create:403")
    order = here.order()
    with pytest.raises(Unauthorized):
        here.provider.start(order, here.key)


def test_a_provider_that_has_closed_is_not_asked_again(yard: OpenYard) -> None:
    here = yard("create:410", "list:410")
    order = here.order()
    with pytest.raises(Permanent, match="closed this; `tuneyard quote RECIPE --all` shows") as caught:
        here.provider.start(order, here.key)
    assert caught.value.cause == Cause.PROVIDER
    assert not isinstance(caught.value, Unauthorized)


PAGE = "<html><h1>Welcome</h1></html>"


@pytest.mark.parametrize("call", CALLS)
def test_a_server_that_answers_with_a_page_is_no_provider(api: str, tmp_path: Path, call: str) -> None:
    path = examples_file(tmp_path / "train.jsonl")
    with (
        odd_server(PAGE) as server,
        closing(open_provider("acme", server.account_at(api))) as provider,
        pytest.raises(Permanent, match="base_url"),
    ):
        CALLS[call](provider, path, job_id(api))


@pytest.mark.parametrize("call", ["upload", "start"])
def test_a_gateway_that_answers_with_a_page_is_asked_again_later(api: str, tmp_path: Path, call: str) -> None:
    path = examples_file(tmp_path / "train.jsonl")
    with (
        odd_server(PAGE, status=502) as server,
        closing(open_provider("acme", server.account_at(api))) as provider,
        pytest.raises(Transient, match="acme: "),
    ):
        CALLS[call](provider, path, job_id(api))


@pytest.mark.parametrize("call", ["upload", "start", "state", "cancel", "result"])
def test_an_answer_of_another_shape_is_an_error_and_no_crash(api: str, tmp_path: Path, call: str) -> None:
    path = examples_file(tmp_path / "train.jsonl")
    answers: list[Any] = [[], None, {}, {"data": None}, {"id": 5}, {"id": None, "status": 7}]
    with odd_server({}) as server, closing(open_provider("acme", server.account_at(api))) as provider:
        for answer in answers:
            server.answer_with(answer)
            with pytest.raises(TuneyardError):
                CALLS[call](provider, path, job_id(api))
        server.body = '{"id": "cut sho'
        with pytest.raises(TuneyardError):
            CALLS[call](provider, path, job_id(api))


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500])
def test_a_key_that_the_server_repeats_is_in_no_error_and_no_log(
    api: str, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    said = "Incorrect API key provided: {authorization}"
    bodies: list[Any] = [
        {"error": {"message": said, "type": "x", "code": None, "param": None}},
        {"message": said, "code": 3, "detail": said},
        f"<p>{said}</p>",
    ]
    with odd_server({}, status=status) as server, closing(open_provider("acme", server.account_at(api))) as provider:
        for body in bodies:
            server.answer_with(body)
            with pytest.raises(TuneyardError) as caught:
                provider.start(Order("m", "f"), "ty-aaaaaaaaaa")
            assert SECRET not in written(caught.value) + repr(provider) + caplog.text


def test_a_server_that_is_not_there_is_named(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with odd_server({}) as server:
        account: ProviderSettings = server.account_at(api)
    account = account.model_copy(update={"base_url": f"{account.base_url}/canary"})
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # no proxy leads to this machine
    with closing(open_provider("acme", account)) as provider:
        with pytest.raises(Transient, match=str(server.port)) as caught:
            provider.start(Order("m", "f"), "ty-aaaaaaaaaa")
        assert SECRET not in written(caught.value)
        assert "canary" not in str(caught.value), "a path may be what opens the door"


@pytest.mark.parametrize("mistake", ["\n", "\u2026", "\x00"])
def test_a_key_that_cannot_be_sent_is_in_no_error(api: str, mistake: str) -> None:
    with odd_server({}) as server:
        account = server.account_at(api)
    broken = account.model_copy(update={"api_key": SecretStr(f"{SECRET}{mistake}{SECRET}")})
    with pytest.raises(TuneyardError) as caught, closing(open_provider("acme", broken)) as provider:
        provider.start(Order("m", "f"), "ty-aaaaaaaaaa")
    assert SECRET not in written(caught.value)
