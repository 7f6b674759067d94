"""Hugging Face Jobs: a fine-tune is a container of ours there, which runs TRL's own command line.

The examples lie in a private dataset repository of the account, one folder a file, which is mounted into the container;
the tuned model is pushed to a private repository whose name ends with the submission key. The key is the job's label,
by which jobs are listed. What is tuned is a LoRA, unless all weights are asked for; TRL learns from every message.

`huggingface_hub` (1.33) is left out: it costs half a second more to import, has no timeout for a single request, sends
some of them again, and knows one HTTP client for the whole process. The paths and bodies here are those that it sends.
Not covered: files of more than 5 GiB, which are sent in parts, and preferences, whose columns TRL names otherwise.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from api_worker import hf_jobs_answers as answers
from api_worker.cancelling import cancel_unless_ended
from api_worker.hf_jobs_api import Api
from api_worker.hf_jobs_command import command_of, tuned_name
from api_worker.hf_jobs_files import Examples
from api_worker.provider import Estimate, Method, Offer, RemoteJob, RemoteResult, RemoteState, Tuned
from api_worker.refusals import Refusal, error_of
from queue_app.errors import Invalid, Permanent, TuneyardError
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from api_worker.provider import Order
    from settings import ProviderSettings

VENDOR_URL = "https://huggingface.co"
IMAGE = "ghcr.io/astral-sh/uv:python3.12-bookworm"  # in which `huggingface_hub` runs scripts, too
FLAVOR = "a100-large"  # 80 GB hold a LoRA of most models; the account's `tier` names another, which must know bf16
RUN_SECONDS = 6 * 3600  # after which the job is stopped and has failed; left out, that would be after half an hour
TOLD_LINES = 40  # of the end of a log, in which an error is looked for
OFFERED = 50  # models, the most downloaded first


class Account:
    """One account. Its key must be set, and may write to repositories and start jobs."""

    takes = frozenset({"validation_file", "tuned", "epochs", "suffix", "seed", "learning_rate", "batch_size", "lora_r"})
    methods = frozenset({Method.SFT})

    def __init__(self, name: str, account: ProviderSettings) -> None:
        assert account.api_key is not None
        self._name, self._secret = name, account.api_key
        self._flavor = account.tier or FLAVOR
        self._api = Api(name, account.base_url or VENDOR_URL, account.api_key, account.organization)
        self._examples = Examples(name, self._api)

    def close(self) -> None:
        self._api.close()

    @property
    def _jobs(self) -> str:
        return f"api/jobs/{self._api.space}"

    # -- files ----------------------------------------------------------------------------------------------------

    def upload(self, path: Path) -> str:
        return self._examples.upload(path)

    def is_ready(self, file: str) -> bool:
        self._examples.insist_on(file)
        return True

    # -- jobs -----------------------------------------------------------------------------------------------------

    def start(self, order: Order, key: str) -> str:
        if order.method != Method.SFT:
            raise Invalid(f"{self._name} does not train by {order.method}")
        if order.tuned == Tuned.FULL and order.lora_r is not None:
            raise Invalid(f"{self._name}: lora_r is asked for, and all weights are to be tuned; leave one out")
        command = command_of(order, tuned_name(self._name, self._api.space, order, key))
        files = {"train": order.training_file, "test": order.validation_file}
        asked = {
            "dockerImage": IMAGE,
            "command": command,
            "arguments": [],
            "environment": {"PYTHONUNBUFFERED": "1"},
            "secrets": {"HF_TOKEN": self._secret.get_secret_value().strip()},
            "flavor": self._flavor,
            "timeoutSeconds": RUN_SECONDS,
            "labels": {answers.LABEL: key},
            "volumes": [self._examples.volume(file, split) for split, file in files.items() if file is not None],
        }
        self._insist_on_model(order.base_model)  # the container would find it out at our expense
        return self._api.typed(answers.Job, self._api.send("POST", self._jobs, json=asked)).id

    def _insist_on_model(self, model: str) -> None:
        told = self._api.look(f"api/models/{quote(model)}")
        if isinstance(told, Refusal) and told.status == 404:
            told = replace(told, message=f'the Hub shows this account no model "{model}": {told.message}')
        self._api.typed(answers.Model, told)

    def find(self, key: str) -> str | None:
        return next((job.id for job in self._listed(label=f"{answers.LABEL}={key}") if job.key == key), None)

    def listed(self) -> Iterator[RemoteJob]:
        return map(answers.seen, self._listed())

    def _listed(self, **narrowed: str) -> Iterator[answers.Job]:
        for row in self._api.pages(self._jobs, **narrowed):
            yield self._api.typed(answers.Job, row)

    def state(self, remote_id: str) -> RemoteJob:
        job = self._job(remote_id)
        seen = answers.seen(job)
        if job.state in (RemoteState.FAILED, RemoteState.CANCELLED):  # the machine ran all the same
            seen = replace(seen, is_billed=True, usd=self._price(job)[0])
        if job.state != RemoteState.FAILED:
            return seen
        lines = self._api.lines(f"{self._path(remote_id)}/logs", tail=TOLD_LINES)
        return answers.failed(seen, job.status.message, lines)

    def cancel(self, remote_id: str) -> RemoteState:
        def send() -> RemoteState:
            told = self._api.ask("POST", f"{self._path(remote_id)}/cancel")
            if isinstance(told, Refusal) and told.status != 200:  # what a success is answered with is not documented
                raise error_of(self._name, told)
            state = self._job(remote_id).state
            return state if state.is_final else RemoteState.CANCELLING

        return cancel_unless_ended(self._job(remote_id).state, send, lambda: self._job(remote_id).state)

    def result(self, remote_id: str) -> RemoteResult:
        job = self._job(remote_id)
        if job.state != RemoteState.SUCCEEDED or job.tuned_model is None:
            said = f'{self._name}: job {remote_id} is "{job.status.stage}" and names no model; look for it at the Hub'
            raise Permanent(said, cause=Cause.PROVIDER)
        rows = answers.figures(self._api.lines(f"{self._path(remote_id)}/logs"))
        tokens = max((int(row["num_tokens"]) for row in rows if "num_tokens" in row), default=None)
        usd, warnings = self._price(job)
        return RemoteResult(job.tuned_model, tokens, usd, usd is not None, answers.series(rows), warnings)

    def _price(self, job: answers.Job) -> tuple[float | None, tuple[str, ...]]:
        """What the job's machine costs for the time that it ran; the start of the container is billed beside it."""
        seconds = job.durations.running_secs if job.durations else None
        if seconds is None:
            return None, ("the Hub does not tell how long it ran, so its price is not known",)
        try:
            machines = [self._api.typed(answers.Hardware, row) for row in self._api.pages("api/jobs/hardware")]
        except TuneyardError as error:  # the model is there and paid for, with its price or without
            return None, (f"its price could not be read: {error}",)
        found = next(
            (machine for machine in machines if machine.name == job.flavor and machine.label == "minute"), None
        )
        if found is None:
            return None, (f"the Hub names no price a minute of {job.flavor}",)
        return round(found.usd * seconds / 60, 4), ("its price is reckoned from its running time, not told by the Hub",)

    def _job(self, remote_id: str) -> answers.Job:
        return self._api.typed(answers.Job, self._api.get(self._path(remote_id)))

    def _path(self, remote_id: str) -> str:
        return f"{self._jobs}/{quote(remote_id, safe='')}"

    # -- prices and models ----------------------------------------------------------------------------------------

    def estimate(self, order: Order) -> Estimate | None:  # noqa: ARG002  a price is known by the minute only
        return None

    def offers(self) -> Iterator[Offer]:
        """The most downloaded models that write text, and the account's own."""
        listed = self._api.get("api/models", pipeline_tag="text-generation", sort="downloads", limit=str(OFFERED))
        for row in listed.get("rows") or ():
            yield Offer(self._api.typed(answers.Model, row).id)
        for job in self._listed():
            if job.state == RemoteState.SUCCEEDED and job.key and job.tuned_model:
                yield Offer(job.tuned_model, tuned=True)
