"""Fireworks, over plain HTTP.

Its SDK (1.2.30) is left out: of itself it sends a create up to three times, and for the ten routes that are used here
it brings a second HTTP client (aiohttp) and a lower bound on certifi that not every package index can meet.

The submission key is the job's id, which Fireworks lets us choose; so a job is found by its name, and no list can lag.
Ids are Fireworks' own resource names, such as accounts/ACCOUNT/supervisedFineTuningJobs/KEY.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from api_worker import fireworks_answers as answers
from api_worker.json_api import TRANSFER_SECONDS, Answer, JsonApi
from api_worker.provider import (
    Estimate,
    Method,
    Offer,
    Order,
    RemoteJob,
    RemoteResult,
    RemoteState,
    Tuned,
    progress_of,
    series_of,
)
from api_worker.refusals import Meaning, Refusal, error_of, not_there_yet
from queue_app.errors import Invalid, NotFound, Permanent, TuneyardError
from queue_app.lifecycle import Cause
from settings.account import variable_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from settings import ProviderSettings

VENDOR_URL = "https://api.fireworks.ai"
VENDOR_MODELS = "accounts/fireworks"  # whose models everybody may start from
DIRECT_BYTES = 150_000_000  # a larger file goes to a signed URL
PAGE = 200  # the most a list gives at once
LONGEST_ID = 63  # characters of a model's id
ACCOUNT_ID = re.compile(r"(?:accounts/)?([A-Za-z0-9][A-Za-z0-9._-]*)")
NOT_IN_ID = re.compile(r"[^a-z0-9]+")

# How a suspended account is refused: 412 was seen, and is also what a training shape that is not enabled is answered
# with; of the others nothing is documented. So the account itself is asked after.
MAYBE_SUSPENDED = frozenset({402, 403, 412, 429})


@dataclass(frozen=True)
class Kind:
    """One of the kinds of job, each with a collection of its own."""

    collection: str
    id_parameter: str


SFT = Kind("supervisedFineTuningJobs", "supervisedFineTuningJobId")
DPO = Kind("dpoJobs", "dpoJobId")


class Account:
    """One account. Its key must be set."""

    takes = frozenset({"validation_file", "tuned", "epochs", "suffix", "learning_rate", "batch_size", "lora_r"})
    methods = frozenset(Method)

    def __init__(self, name: str, account: ProviderSettings, *, direct_bytes: int = DIRECT_BYTES) -> None:
        assert account.api_key is not None
        self._name, self._direct_bytes = name, direct_bytes
        self._account = f"accounts/{_account_id(name, account.organization)}"
        self._api = JsonApi(name, account.base_url or VENDOR_URL, account.api_key, _refusal)

    def close(self) -> None:
        self._api.close()

    # -- datasets -------------------------------------------------------------------------------------------------

    def upload(self, path: Path) -> str:
        """Send a file as a dataset whose id follows from its content: what is there already is not sent again."""
        try:
            return self._sent(path)
        except NotFound as error:
            raise not_there_yet(error) from None

    def _sent(self, path: Path) -> str:
        digest, examples = _digest(path)
        dataset_id = f"ty-{digest[:24]}"
        dataset = f"{self._account}/datasets/{dataset_id}"
        record = {"userUploaded": {}, "exampleCount": str(examples)}
        made = self._change(f"v1/{self._account}/datasets", json={"datasetId": dataset_id, "dataset": record})
        known = self._dataset(dataset) if isinstance(made, Refusal) else self._api.typed(answers.Dataset, made)
        if known.state == "READY":
            return dataset
        try:
            self._send_content(dataset, path)
        except NotFound:
            raise
        except Permanent as error:
            if error.cause != Cause.USER:
                raise
            said = str(error)
        else:
            return dataset
        raise Permanent(said, cause=Cause.DATA)

    def _send_content(self, dataset: str, path: Path) -> None:
        size = path.stat().st_size
        if size < self._direct_bytes:
            with path.open("rb") as content:
                parts = {"file": (path.name, content, "application/octet-stream")}
                told = self._change(f"v1/{dataset}:upload", files=parts, timeout=TRANSFER_SECONDS)
            self._api.typed(dict, told)
            return
        asked = {"filenameToSize": {path.name: str(size)}}
        told = self._api.ask("POST", f"v1/{dataset}:getUploadEndpoint", json=asked)
        urls = self._api.typed(answers.SignedUrls, told).filename_to_signed_urls or {}
        # both headers are part of what was signed
        headers = {"Content-Type": "application/octet-stream", "X-Goog-Content-Length-Range": f"{size},{size}"}
        self._api.deliver(urls.get(path.name, ""), path, headers)
        self._api.typed(dict, self._change(f"v1/{dataset}:validateUpload", json={}))

    def is_ready(self, file: str) -> bool:
        dataset = self._dataset(file)
        status = dataset.status or answers.Status()
        if status.word:
            cause = Cause.DATA if status.word in answers.BAD_DATASET else Cause.PROVIDER
            raise Permanent(f"{self._name}: {file} was refused: {status.said}", cause=cause)
        return dataset.state == "READY"

    def _dataset(self, name: str) -> answers.Dataset:
        told = self._api.look(f"v1/{name}")
        if _is_missing(told):
            raise NotFound(f"{self._name}: there is no {name}; a retry sends it again", cause=Cause.PROVIDER)
        return self._api.typed(answers.Dataset, told)

    # -- jobs -----------------------------------------------------------------------------------------------------

    def start(self, order: Order, key: str) -> str:
        kind, body = self._request(order, key)
        remote_id = f"{self._account}/{kind.collection}/{key}"
        path, params = f"v1/{self._account}/{kind.collection}", {kind.id_parameter: key}
        made = self._change(path, when_full=Meaning.SLOT, params=params, json=body)
        if not isinstance(made, Refusal):
            return self._api.typed(answers.Job, made).name
        # Only we give this key away, so what is there under it is ours. That 409 answers a repeated create is what the
        # SDK counts on for other kinds of job; for these it is not documented.
        if self._has(remote_id):
            return remote_id
        raise error_of(self._name, made)

    def _request(self, order: Order, key: str) -> tuple[Kind, Answer]:
        """The kind of job that an order asks for, and the body of the request for it.

        Raises:
            Permanent: Fireworks cannot do what is asked
        """
        model = _model_id(key, order.suffix)
        if len(model) > LONGEST_ID:
            room = LONGEST_ID - len(key) - 1
            said = f'the suffix "{order.suffix}" is too long; {room} characters are the most'
            raise Invalid(f"{self._name}: {said}")
        if order.tuned == Tuned.FULL and order.lora_r is not None:
            raise Invalid(f"{self._name}: lora_r is of a LoRA's; leave it out, or tuned = full")
        asked = {
            "baseModel": _model_path(order.base_model),
            "outputModel": f"{self._account}/models/{model}",
            "epochs": order.epochs,
            "learningRate": order.learning_rate,
            "batchSizeSamples": order.batch_size,
            "loraRank": 0 if order.tuned == Tuned.FULL else order.lora_r,  # 0: all weights
        }
        config = {name: value for name, value in asked.items() if value is not None}
        body: Answer = {"dataset": order.training_file, "displayName": key}
        if order.method == Method.SFT:
            holdout = {"evaluationDataset": order.validation_file} if order.validation_file else {}
            return SFT, body | config | holdout
        if order.validation_file:
            raise Invalid(f"{self._name}: a job by DPO takes no validation file; leave it out")
        # the loss is named, as the documents contradict each other on which one it is otherwise
        return DPO, body | {"trainingConfig": config, "lossConfig": {"method": "DPO"}}

    def find(self, key: str) -> str | None:
        ids = (f"{self._account}/{kind.collection}/{key}" for kind in (SFT, DPO))
        return next(filter(self._has, ids), None)

    def _has(self, remote_id: str) -> bool:
        told = self._api.look(f"v1/{remote_id}")
        if isinstance(told, Refusal) and not _is_missing(told):
            raise error_of(self._name, told)
        return not isinstance(told, Refusal)

    def state(self, remote_id: str) -> RemoteJob:
        job = self._job(remote_id)
        seen = answers.seen(job)
        # How a job ends when the account is suspended is not documented; a precondition that failed may be that.
        if seen.state == RemoteState.FAILED and seen.cause == Cause.USER and (suspension := self._suspension()):
            said = f"{seen.failure}; the account is suspended: {suspension}"
            return replace(seen, cause=Cause.QUOTA, failure=said)
        if seen.state != RemoteState.RUNNING:
            return seen
        metrics = self._metrics(job)
        rows = [] if isinstance(metrics, Refusal) else answers.rows_of(metrics)[0]  # the look stands without them
        return replace(seen, **progress_of(reversed(rows)))

    def listed(self) -> Iterator[RemoteJob]:
        """The account's jobs, newest first.

        All pages are read before: how the name of a field is spelled for `orderBy` is not documented.
        """
        pages = [page for kind in (SFT, DPO) for page in self._pages(f"{self._account}/{kind.collection}")]
        jobs = [answers.seen(job) for page in pages for job in page.jobs]
        yield from sorted(jobs, key=lambda job: job.created_at.timestamp() if job.created_at else 0.0, reverse=True)

    def cancel(self, remote_id: str) -> RemoteState:
        state = answers.seen(self._job(remote_id)).state
        if state.is_final or state == RemoteState.CANCELLING:
            return state
        told = self._api.ask("POST", f"v1/{remote_id}:cancel", json={})
        if isinstance(told, Refusal) and not isinstance(error := error_of(self._name, told), Permanent):
            raise error
        state = answers.seen(self._job(remote_id)).state
        if isinstance(told, Refusal) and not state.is_final:  # else it has ended in between
            raise error_of(self._name, told)
        return state

    def result(self, remote_id: str) -> RemoteResult:
        job = self._job(remote_id)
        seen = answers.seen(job)
        if seen.state != RemoteState.SUCCEEDED:
            raise Permanent(f'{self._name}: job {remote_id} is "{seen.word}" and has no model', cause=Cause.PROVIDER)
        model = job.order.output_model or remote_id.rpartition("/")[2]  # where none was named it is the job's id
        usd, warnings = answers.price_of(job.estimated_cost)
        metrics = self._metrics(job)
        if isinstance(metrics, Refusal):  # the model is paid for and there; its figures are not worth losing it
            warnings.append(f"the metrics could not be collected: {metrics.message}")
            metrics = b""
        rows, unread = answers.rows_of(metrics)
        if unread:
            warnings.append(f"{unread} lines of the metrics are no JSON objects")
        said = job.status.message if job.status else None
        return RemoteResult(
            model=model if model.startswith("accounts/") else f"{self._account}/models/{model}",
            trained_tokens=answers.tokens_of(job),
            usd=usd,
            is_estimate=usd is not None,
            series=series_of(rows),
            warnings=(*([said] if said else ()), *warnings),
            files={"metrics.jsonl": metrics} if metrics else {},
        )

    # -- prices and models ----------------------------------------------------------------------------------------

    def estimate(self, order: Order) -> Estimate | None:  # noqa: ARG002  a price stands on a job alone, once it is there
        return None

    def offers(self) -> Iterator[Offer]:
        """The models to start from, and those made here.

        No limit of jobs is told: the account's quota counts GPUs. Nor a closing date: `deprecationDate` is when the
        shared deployment ends, and fine-tunes run on deployments of their own.
        """
        for owner in dict.fromkeys((VENDOR_MODELS, self._account)):
            for page in self._pages(f"{owner}/models"):
                yield from filter(None, map(answers.offer_of, page.models or ()))

    # -- what is asked for in more than one place -----------------------------------------------------------------

    def _job(self, remote_id: str) -> answers.Job:
        if not remote_id.startswith(f"{self._account}/"):
            raise NotFound(f'{self._name}: "{remote_id}" is no job of {self._account}: its id does not begin with that')
        return self._api.typed(answers.Job, self._api.look(f"v1/{remote_id}"))

    def _pages(self, collection: str) -> Iterator[answers.Page]:
        """A collection, page by page; a server that names the same next page again is left."""
        token, asked = "", set[str]()
        while token not in asked:
            asked.add(token)
            more = {"pageToken": token} if token else {}
            page = self._api.typed(answers.Page, self._api.look(f"v1/{collection}", pageSize=PAGE, **more))
            yield page
            if not page.next_page_token:
                return
            token = page.next_page_token

    def _metrics(self, job: answers.Job) -> bytes | Refusal:
        """A job's file of metrics; empty where there is none yet."""
        url = job.metrics_file_signed_url
        if f"/{DPO.collection}/" in job.name:
            told = self._api.look(f"v1/{job.name}:getMetricsFileEndpoint")
            if isinstance(told, Refusal):
                return b"" if _is_missing(told) else told
            url = self._api.typed(answers.SignedUrls, told).signed_url
        found = self._api.fetch(url) if url else b""
        return b"" if isinstance(found, Refusal) and found.status == 404 else found

    def _change(self, path: str, *, when_full: Meaning | None = None, **request: Any) -> Answer | Refusal:
        """Ask for something new, by one request, and return what was made, or that it is there already (409)."""
        told = self._api.ask("POST", path, **request)
        if not isinstance(told, Refusal) or told.status == 409:
            return told
        suspension = self._suspension() if told.status in MAYBE_SUSPENDED else ""
        if suspension:
            said = f"{told.message}; the account is suspended: {suspension}"
            told = replace(told, message=said, meaning=Meaning.ACCOUNT)
        elif told.status == 412:
            told = replace(
                told, message=f"{told.message}; the model's training shape may not be enabled for the account"
            )
        elif told.status == 429 and when_full is not None:  # of a new job: the account's quota of GPUs
            told = replace(told, meaning=when_full)
        raise error_of(self._name, told)

    def _suspension(self) -> str:
        """Why the account is suspended, in Fireworks' word; nothing where it is not, or where that is not told."""
        told = self._api.look(f"v1/{self._account}")
        try:
            word = self._api.typed(answers.Owner, told).suspend_state
        except TuneyardError:
            return ""
        return "" if word in (None, "", "UNSUSPENDED", "SUSPEND_STATE_UNSPECIFIED") else word


def _account_id(name: str, organization: str | None) -> str:
    variable = variable_of(name, "organization")
    if organization is None or not organization.strip():
        raise Invalid(f'account "{name}": every path at Fireworks names the account; set {variable} to its id')
    found = ACCOUNT_ID.fullmatch(organization.strip())
    if found is None:
        raise Invalid(f'account "{name}": "{organization}" is no id of a Fireworks account; see {variable}')
    return found[1]


def _model_path(base_model: str) -> str:
    """A base model's full path; a name alone is one of Fireworks' own models, as in its command line."""
    return base_model if "/" in base_model else f"{VENDOR_MODELS}/models/{base_model}"


def _model_id(key: str, suffix: str | None) -> str:
    """The tuned model's id: the key makes it the only one, the suffix shows in it."""
    shown = NOT_IN_ID.sub("-", (suffix or "").lower())
    return f"{key}-{shown}".strip("-")


def _digest(path: Path) -> tuple[str, int]:
    """A file's SHA-256, and how many lines it has that are not blank."""
    digest, lines = hashlib.sha256(), 0
    with path.open("rb") as file:
        for line in file:
            digest.update(line)
            lines += bool(line.strip())
    return digest.hexdigest(), lines


def _refusal(status: int, body: Answer) -> Refusal:
    """A refusal in gRPC's terms, {code, message, details}, which some routes put within "error"."""
    told = body.get("error", body)
    try:
        stands = msgspec.convert(told, answers.Status)
    except msgspec.ValidationError:
        stands = answers.Status(message=str(told))
    said = stands.message or "no reason was given"
    if status == 401:
        said += "; a key for inference alone is refused here"
    return Refusal(said, status, stands.word or None)


def _is_missing(told: Answer | Refusal) -> bool:
    """Whether Fireworks itself says that there is no such thing; a page with 404 is no word of Fireworks'."""
    return isinstance(told, Refusal) and told.status == 404 and told.code is not None
