"""Hugging Face Jobs: a fine-tune is a container of ours there, which runs TRL's own command line.

The examples lie in a private dataset repository of the account, one folder a file, which is mounted into the container;
the tuned model is pushed to a private repository whose name ends with the submission key. The key is the job's label,
by which jobs are listed. What is tuned is a LoRA, unless all weights are asked for; TRL learns from every message.

`huggingface_hub` (1.33) is left out: it costs half a second more to import, has no timeout for a single request, sends
some of them again, and knows one HTTP client for the whole process. The paths and bodies here are those that it sends.
Not covered: files of more than 5 GiB, which are sent in parts, and preferences, whose columns TRL names otherwise.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import msgspec

from api_worker.json_api import Answer, JsonApi
from api_worker.provider import Estimate, Method, Offer, RemoteJob, RemoteResult, RemoteState, Tuned, state_of
from api_worker.refusals import NO_SLOT, Meaning, Refusal, error_of, not_there_yet, without_secret
from queue_app.errors import Invalid, NotFound, Permanent, TuneyardError
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from api_worker.provider import Order
    from settings import ProviderSettings

VENDOR_URL = "https://huggingface.co"
IMAGE = "ghcr.io/astral-sh/uv:python3.12-bookworm"  # in which `huggingface_hub` runs scripts, too
TRL = ("uv", "run", "--no-project", "--with", "trl[peft]==1.14.2", "trl")
FLAVOR = "a100-large"  # 80 GB hold a LoRA of most models; the account's `tier` names another, which must know bf16
RUN_SECONDS = 6 * 3600  # after which the job is stopped and has failed; left out, that would be after half an hour
DATA = "tuneyard-data"  # the repository of examples
MOUNTED = "/data"
LABEL = "tuneyard"
MODEL_NAME = "--model_name_or_path"
TUNED_NAME = "--hub_model_id"
LONGEST_NAME = 96  # of a repository, with whose it is
LARGEST_BYTES = 5 * 1024**3  # that go in one piece
QUIET_SECONDS = 5.0  # after which a log has told what it has
TOLD_LINES = 40  # of the end of a log, in which an error is looked for
OFFERED = 50  # models, the most downloaded first

STATES = {
    "SCHEDULING": RemoteState.QUEUED,
    "RUNNING": RemoteState.RUNNING,
    "COMPLETED": RemoteState.SUCCEEDED,
    "ERROR": RemoteState.FAILED,
    "CANCELED": RemoteState.CANCELLED,
    "DELETED": RemoteState.CANCELLED,
}
# How the Hub words these is not documented; the classes of errors are those of `datasets`.
NO_MONEY = re.compile(r"\bcredits?\b|\bbilling\b|\bbalance\b|\bpayment\b", re.IGNORECASE)
BAD_DATA = re.compile(r"DatasetGeneration\w*Error|DatasetNotFoundError|DataFilesNotFoundError|CastError|ArrowInvalid")
OF_JOBS = re.compile(r"\bjobs\b", re.IGNORECASE)
FIGURE = re.compile(r"'(\w+)': '?(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)\b")  # one that is no number is left out
ERROR_LINE = re.compile(r"^[\w.]*(?:Error|Exception|Invalid|Interrupt)\b.*:")


class Api(JsonApi):
    """The Hub's, which answers with lists, names their next page in a header, and tells logs as events."""

    def pages(self, account: str, path: str, **query: str) -> Iterator[Any]:
        """Every row of a list, page by page; of the next page's URL only the query is heeded, so that no key leaves."""
        seen: list[dict[str, str]] = []
        while query not in seen:
            seen.append(query)
            told = self.get(path, **query)
            if "rows" not in told:
                said = f"{self._shown} answered {path} with what is not understood here: no list"
                raise error_of(account, Refusal(said, meaning=Meaning.RETRY))
            yield from told["rows"]
            if told["next"] is None:
                return
            query = dict(httpx.URL(told["next"]).params)

    def lines(self, path: str, **query: int) -> list[str]:
        """What a log tells by now; what cannot be read of it is missing."""
        found: list[str] = []
        try:
            with self._client.stream("GET", path, params=query, timeout=QUIET_SECONDS) as response:
                for line in response.iter_lines() if response.status_code == 200 else ():
                    if line.startswith("data: {"):
                        found.append(str(json.loads(line.removeprefix("data: ")).get("data", "")))
        except (httpx.HTTPError, ValueError):
            pass  # it has nothing more to tell, or breaks off
        return [without_secret(line, self._secret, self._url) for line in found]

    def _answer(self, response: httpx.Response) -> Answer | Refusal:
        try:
            rows = response.json() if response.is_success else None
        except ValueError:
            rows = None
        if not isinstance(rows, list):
            return super()._answer(response)
        return {"rows": rows, "next": response.links.get("next", {}).get("url")}


class Named(msgspec.Struct):
    """A user, as whom the key is known."""

    name: str


class Model(msgspec.Struct):
    id: str


class Placed(msgspec.Struct, rename="camel"):
    """How a file is to be sent: in the commit itself ("regular"), or apart ("lfs")."""

    path: str
    upload_mode: str


class Places(msgspec.Struct):
    files: list[Placed]


class Action(msgspec.Struct):
    href: str


class Kept(msgspec.Struct):
    """Where a file goes that is sent apart; without actions it is there already."""

    actions: dict[str, Action] = {}


class Batch(msgspec.Struct):
    objects: list[Kept]


class Status(msgspec.Struct):
    stage: str
    message: str | None = None


class Durations(msgspec.Struct, rename="camel"):
    running_secs: float | None = None


class Job(msgspec.Struct, rename="camel"):
    id: str
    status: Status
    created_at: str | None = None
    flavor: str | None = None
    command: list[str] | None = None
    labels: dict[str, str] | None = None
    durations: Durations | None = None

    @property
    def state(self) -> RemoteState:
        return state_of(self.status.stage, STATES)

    @property
    def key(self) -> str | None:
        return (self.labels or {}).get(LABEL)

    def asked(self, option: str) -> str | None:
        """What stands behind an option of its command."""
        words = self.command or []
        return next((value for name, value in zip(words, words[1:], strict=False) if name == option), None)


class Hardware(msgspec.Struct, rename={"usd": "unitCostUSD", "label": "unitLabel"}):
    name: str
    usd: float
    label: str


class Account:
    """One account. Its key must be set, and may write to repositories and start jobs."""

    takes = frozenset({"validation_file", "tuned", "epochs", "suffix", "seed", "learning_rate", "batch_size", "lora_r"})
    methods = frozenset({Method.SFT})

    def __init__(self, name: str, account: ProviderSettings) -> None:
        assert account.api_key is not None
        self._name, self._secret, self._owner = name, account.api_key, account.organization
        self._flavor = account.tier or FLAVOR
        self._url = (account.base_url or VENDOR_URL).rstrip("/")
        self._api = Api(name, self._url, account.api_key, _refusal)

    def close(self) -> None:
        self._api.close()

    @cached_property
    def _space(self) -> str:
        """Whose jobs and repositories these are."""
        return self._owner or self._api.typed(Named, self._api.get("api/whoami-v2")).name

    @property
    def _data(self) -> str:
        return f"{self._space}/{DATA}"

    @property
    def _jobs(self) -> str:
        return f"api/jobs/{self._space}"

    # -- files ----------------------------------------------------------------------------------------------------

    def upload(self, path: Path) -> str:
        """Commit a file to the repository of examples, in a folder that its content names."""
        size = path.stat().st_size
        if size > LARGEST_BYTES:
            raise Permanent(f"{path.name} has {size:,} bytes; {self._name} is sent {LARGEST_BYTES:,} at the most")
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
            content.seek(0)
            sample = base64.b64encode(content.read(512)).decode()
        try:
            self._make_private_repository()
            self._commit(path, digest, sample)
        except NotFound as error:
            raise not_there_yet(error) from None
        return digest

    def _commit(self, path: Path, digest: str, sample: str) -> None:
        size, place = path.stat().st_size, f"{digest}/data.jsonl"
        asked = {"files": [{"path": place, "size": size, "sample": sample}]}
        told = self._api.send("POST", f"api/datasets/{self._data}/preupload/main", json=asked)
        modes = {file.path: file.upload_mode for file in self._api.typed(Places, told).files}
        if modes.get(place) == "lfs":
            self._send_apart(path, digest, size)
            change = {"key": "lfsFile", "value": {"path": place, "algo": "sha256", "oid": digest, "size": size}}
        else:
            text = base64.b64encode(path.read_bytes()).decode()
            change = {"key": "file", "value": {"content": text, "path": place, "encoding": "base64"}}
        header = {"key": "header", "value": {"summary": f"examples {digest[:12]}", "description": ""}}
        body = "".join(f"{json.dumps(row)}\n" for row in (header, change)).encode()
        kind = {"Content-Type": "application/x-ndjson"}
        self._api.send("POST", f"api/datasets/{self._data}/commit/main", content=body, headers=kind)

    def _make_private_repository(self) -> None:
        asked = {"name": DATA, "organization": self._space, "type": "dataset", "visibility": "private"}
        made = self._api.ask("POST", "api/repos/create", json=asked)
        if not isinstance(made, Refusal):
            return
        if made.status != 409:
            raise error_of(self._name, made)
        if self._api.get(f"api/datasets/{self._data}").get("private") is not True:
            raise Permanent(f"{self._name}: the dataset {self._data} is public; make it private before data goes there")

    def _send_apart(self, path: Path, digest: str, size: int) -> None:
        """Send the content to the store that the Hub names; a whole file goes in one piece there."""
        kind = {"Content-Type": "application/vnd.git-lfs+json", "Accept": "application/vnd.git-lfs+json"}
        wanted = {"objects": [{"oid": digest, "size": size}], "ref": {"name": "main"}}
        asked = {"operation": "upload", "transfers": ["basic"], "hash_algo": "sha256", **wanted}
        batch = f"datasets/{self._data}.git/info/lfs/objects/batch"
        told = self._api.send("POST", batch, content=json.dumps(asked).encode(), headers=kind)
        for kept in self._api.typed(Batch, told).objects:
            if "upload" in kept.actions:
                self._api.deliver(kept.actions["upload"].href, path, {})
            verify = kept.actions.get("verify")
            if verify is not None and verify.href.startswith(f"{self._url}/"):  # the key goes nowhere else
                answer = self._api.ask("POST", verify.href, json={"oid": digest, "size": size})
                if isinstance(answer, Refusal) and answer.status != 200:
                    raise error_of(self._name, answer)

    def is_ready(self, file: str) -> bool:
        told = self._api.look(f"api/datasets/{self._data}/tree/main/{quote(file, safe='')}")
        if isinstance(told, Refusal) and told.status != 404:
            raise error_of(self._name, told)
        if isinstance(told, Refusal) or not told.get("rows"):
            raise NotFound(f"{self._name}: there is no file {file}; a retry sends it again", cause=Cause.PROVIDER)
        return True

    # -- jobs -----------------------------------------------------------------------------------------------------

    def start(self, order: Order, key: str) -> str:
        if order.method != Method.SFT:
            raise Invalid(f"{self._name} does not train by {order.method}")
        if order.tuned == Tuned.FULL and order.lora_r is not None:
            raise Invalid(f"{self._name}: lora_r is asked for, and all weights are to be tuned; leave one out")
        command = [*TRL, "sft", *self._options(order, key)]
        files = {"train": order.training_file, "test": order.validation_file}
        asked = {
            "dockerImage": IMAGE,
            "command": command,
            "arguments": [],
            "environment": {"PYTHONUNBUFFERED": "1"},
            "secrets": {"HF_TOKEN": self._secret.get_secret_value().strip()},
            "flavor": self._flavor,
            "timeoutSeconds": RUN_SECONDS,
            "labels": {LABEL: key},
            "volumes": [self._volume(file, split) for split, file in files.items() if file is not None],
        }
        self._insist_on_model(order.base_model)  # the container would find it out at our expense
        return self._api.typed(Job, self._api.send("POST", self._jobs, json=asked)).id

    def _options(self, order: Order, key: str) -> list[str]:
        """What TRL is told."""
        told: dict[str, Any] = {
            MODEL_NAME: order.base_model,
            "--dataset_name": MOUNTED,
            "--num_train_epochs": order.epochs,
            "--learning_rate": order.learning_rate,
            "--per_device_train_batch_size": order.batch_size,
            "--gradient_accumulation_steps": None if order.batch_size is None else 1,
            "--seed": order.seed,
            "--eval_strategy": "epoch" if order.validation_file else "no",
            "--logging_steps": 1,
            "--report_to": "none",
            "--save_strategy": "no",
            "--output_dir": "/tmp/tuned",
            "--disable_tqdm": True,  # a bar would hide the figures
            "--push_to_hub": True,
            "--hub_private_repo": True,
            TUNED_NAME: self._tuned_name(order, key),
            "--use_peft": order.tuned != Tuned.FULL,
            "--lora_r": order.lora_r,
            "--lora_alpha": None if order.lora_r is None else 2 * order.lora_r,
        }
        return [word for option, value in told.items() if value is not None for word in (option, str(value))]

    def _tuned_name(self, order: Order, key: str) -> str:
        plain = re.sub(r"[^\w.-]+", "-", order.base_model.rsplit("/", 1)[-1])
        name = "-".join(filter(None, (plain, order.suffix, key)))
        if len(f"{self._space}/{name}") > LONGEST_NAME or not re.fullmatch(r"[\w.-]+", name, re.ASCII):
            said = f'with the suffix "{order.suffix}" the tuned model would be called "{self._space}/{name}"'
            raise Invalid(f"{self._name}: {said}; {LONGEST_NAME} characters of A-Z a-z 0-9 _ . - are the most")
        return f"{self._space}/{name}"

    def _volume(self, file: str, split: str) -> dict[str, str]:
        """A file's folder, mounted where `datasets` takes it for a split."""
        return {"type": "dataset", "source": self._data, "path": file, "mountPath": f"{MOUNTED}/{split}"}

    def _insist_on_model(self, model: str) -> None:
        told = self._api.look(f"api/models/{quote(model)}")
        if isinstance(told, Refusal) and told.status == 404:
            told = replace(told, message=f'the Hub shows this account no model "{model}": {told.message}')
        self._api.typed(Model, told)

    def find(self, key: str) -> str | None:
        return next((job.id for job in self._listed(label=f"{LABEL}={key}") if job.key == key), None)

    def listed(self) -> Iterator[RemoteJob]:
        return map(_seen, self._listed())

    def _listed(self, **narrowed: str) -> Iterator[Job]:
        for row in self._api.pages(self._name, self._jobs, **narrowed):
            yield self._api.typed(Job, row)

    def state(self, remote_id: str) -> RemoteJob:
        job = self._job(remote_id)
        seen = _seen(job)
        if job.state in (RemoteState.FAILED, RemoteState.CANCELLED):  # the machine ran all the same
            seen = replace(seen, is_billed=True, usd=self._price(job)[0])
        if job.state != RemoteState.FAILED:
            return seen
        lines = self._api.lines(f"{self._path(remote_id)}/logs", tail=TOLD_LINES)
        told = next((line for line in reversed(lines) if ERROR_LINE.match(line)), lines[-1] if lines else "")
        said = "; its log: ".join(filter(None, (job.status.message, told.strip())))
        of_money, of_data = NO_MONEY.search(job.status.message or ""), BAD_DATA.search(told)
        cause = Cause.QUOTA if of_money else Cause.DATA if of_data else Cause.PROVIDER
        full = cause == Cause.PROVIDER and NO_SLOT.search(job.status.message or "") is not None
        return replace(seen, failure=said or None, cause=cause, wants_slot=full)

    def cancel(self, remote_id: str) -> RemoteState:
        state = self._job(remote_id).state
        if state.is_final:
            return state
        told = self._api.ask("POST", f"{self._path(remote_id)}/cancel")
        refused = isinstance(told, Refusal) and told.status != 200  # what a success is answered with is not documented
        error = error_of(self._name, told) if refused and isinstance(told, Refusal) else None
        if error is not None and not isinstance(error, Permanent):
            raise error
        state = self._job(remote_id).state  # it may have ended in between
        if error is not None and not state.is_final:
            raise error
        return state if state.is_final else RemoteState.CANCELLING

    def result(self, remote_id: str) -> RemoteResult:
        job = self._job(remote_id)
        model = job.asked(TUNED_NAME)
        if job.state != RemoteState.SUCCEEDED or model is None:
            said = f'{self._name}: job {remote_id} is "{job.status.stage}" and names no model; look for it at the Hub'
            raise Permanent(said, cause=Cause.PROVIDER)
        rows = [row for line in self._api.lines(f"{self._path(remote_id)}/logs") if (row := _figures(line))]
        tokens = max((int(row["num_tokens"]) for row in rows if "num_tokens" in row), default=None)
        usd, warnings = self._price(job)
        return RemoteResult(model, tokens, usd, usd is not None, _series(rows), warnings)

    def _price(self, job: Job) -> tuple[float | None, tuple[str, ...]]:
        """What the job's machine costs for the time that it ran; the start of the container is billed beside it."""
        seconds = job.durations.running_secs if job.durations else None
        if seconds is None:
            return None, ("the Hub does not tell how long it ran, so its price is not known",)
        try:
            machines = [self._api.typed(Hardware, row) for row in self._api.pages(self._name, "api/jobs/hardware")]
        except TuneyardError as error:  # the model is there and paid for, with its price or without
            return None, (f"its price could not be read: {error}",)
        found = next(
            (machine for machine in machines if machine.name == job.flavor and machine.label == "minute"), None
        )
        if found is None:
            return None, (f"the Hub names no price a minute of {job.flavor}",)
        return round(found.usd * seconds / 60, 4), ("its price is reckoned from its running time, not told by the Hub",)

    def _job(self, remote_id: str) -> Job:
        return self._api.typed(Job, self._api.get(self._path(remote_id)))

    def _path(self, remote_id: str) -> str:
        return f"{self._jobs}/{quote(remote_id, safe='')}"

    # -- prices and models ----------------------------------------------------------------------------------------

    def estimate(self, order: Order) -> Estimate | None:  # noqa: ARG002  a price is known by the minute only
        return None

    def offers(self) -> Iterator[Offer]:
        """The most downloaded models that write text, and the account's own."""
        listed = self._api.get("api/models", pipeline_tag="text-generation", sort="downloads", limit=str(OFFERED))
        for row in listed.get("rows") or ():
            yield Offer(self._api.typed(Model, row).id)
        for job in self._listed():
            model = job.asked(TUNED_NAME)
            if job.state == RemoteState.SUCCEEDED and job.key and model:
                yield Offer(model, tuned=True)


def _seen(job: Job) -> RemoteJob:
    """A job in our words."""
    made_at = datetime.fromisoformat(job.created_at) if job.created_at else None
    base = job.asked(MODEL_NAME)
    return RemoteJob(job.id, job.state, job.status.stage, job.key, base_model=base, created_at=made_at)


def _figures(line: str) -> dict[str, float]:
    """The figures of a line of TRL's log, which is a dict as Python prints it; empty for any other line."""
    found = FIGURE.findall(line) if line.lstrip().startswith("{'") else []
    return {name: float(value) for name, value in found}


def _series(rows: list[dict[str, float]]) -> tuple[dict[str, float], ...]:
    """One row a step: TRL tells a loss at every one of them, and what it measures after it."""
    made: list[dict[str, float]] = []
    for row in rows:
        if "loss" in row:
            made.append({"step": len(made) + 1, "train_loss": row["loss"]})
        elif "eval_loss" in row and made:
            made[-1]["valid_loss"] = row["eval_loss"]
    return tuple(made)


def _refusal(status: int, body: Answer) -> Refusal:
    """What a refusal says."""
    told = body.get("error") or body.get("message")
    said = str(told.get("message") if isinstance(told, dict) else told or "no reason was given")
    return Refusal(said, status, meaning=Meaning.SLOT if status == 429 and OF_JOBS.search(said) else None)
