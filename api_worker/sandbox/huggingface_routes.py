"""Hugging Face Jobs, and what a fine-tune there needs of the Hub: datasets, models, the machines' prices."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from api_worker.sandbox import huggingface_shapes as shapes
from api_worker.sandbox.fields import needed_text, object_in, read_body, whole_in
from api_worker.sandbox.huggingface_files import FileRoutes
from api_worker.sandbox.refusals import Denial, Refused
from api_worker.sandbox.remote_job import Plan
from api_worker.sandbox.state import new_id
from api_worker.sandbox.vendor import Entry, Vendor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request

    from api_worker.sandbox.desk import Desk
    from api_worker.sandbox.remote_job import SandboxJob

MODELS = ("sandbox/sandbox-base", "Qwen/Qwen3-0.6B")
LABEL = "tuneyard"
LABELS = re.compile(r"[\w-]{1,100}", re.ASCII)
FIELDS = frozenset({"dockerImage", "command", "arguments", "environment", "secrets", "flavor", "timeoutSeconds"})
KNOWN = FIELDS | {"labels", "volumes"}
LONGEST_SECONDS = 30 * 24 * 3600
PAGE = 50
TRAINED_ON, MEASURED_ON = "/data/train", "/data/test"
# How the Hub says these is not documented, but for the status 402. The sentences are ours.
DENIALS = {
    "402": Denial(402, shapes.NO_CREDITS),
    "quota": Denial(402, shapes.NO_CREDITS),
    "slot": Denial(429, shapes.NO_SLOT),
}


@dataclass(frozen=True)
class JobRoutes:
    """The handlers of jobs."""

    desk: Desk

    async def create(self, request: Request) -> Response:
        job = self.desk.create(read_plan(read_body(await request.body()), self.desk))
        return JSONResponse(shapes.job_object(job, time.time()))

    async def listed(self, request: Request) -> Response:
        """A page of the jobs that have all the labels asked for; the next one is named in a header."""
        now, query = time.time(), request.query_params
        shown = [shapes.job_object(job, now) for job in self.desk.listed_jobs(now)]
        wanted = [label.partition("=")[::2] for label in query.getlist("label")]
        found = [job for job in shown if all(job["labels"].get(name) == value for name, value in wanted)]
        start = int(query.get("cursor", "0"))
        page, more = found[start : start + PAGE], start + PAGE < len(found)
        next_page = request.url.include_query_params(cursor=start + PAGE)
        return JSONResponse(page, headers={"Link": f'<{next_page}>; rel="next"'} if more else {})

    async def retrieve(self, request: Request) -> Response:
        return JSONResponse(shapes.job_object(self._job(request), time.time()))

    async def cancel(self, request: Request) -> Response:
        job, now = self._job(request), time.time()
        if job.finished_at(now) is not None:
            raise Refused(400, "The job has ended already.")
        return JSONResponse(shapes.job_object(self.desk.cancel(job), time.time()))

    async def logs(self, request: Request) -> Response:
        now = time.time()
        lines = list(shapes.log_lines(self._job(request), now))
        told = shapes.events(lines[-int(request.query_params.get("tail", len(lines))) :], now)
        return Response(told, media_type="text/event-stream")

    async def machines(self, _: Request) -> Response:
        return JSONResponse(shapes.machines())

    async def whoami(self, _: Request) -> Response:
        return JSONResponse({"type": "user", "id": shapes.OWNER, "name": shapes.OWNER, "orgs": []})

    async def models(self, _: Request) -> Response:
        return JSONResponse([shapes.model_object(name) for name in self.desk.models])

    async def model(self, request: Request) -> Response:
        name = request.path_params["model"]
        if name not in self.desk.models:
            raise Refused(404, "Repository not found")
        return JSONResponse(shapes.model_object(name))

    def _job(self, request: Request) -> SandboxJob:
        job = self.desk.job(request.path_params["job_id"])
        if job is None:
            raise Refused(404, "Job not found")
        return job


def read_plan(asked: dict[str, Any], desk: Desk) -> Plan:
    """The plan in a request for a container that runs TRL; of its secrets nothing is kept.

    Raises:
        Refused: it asks for anything else, or for what is not there
    """
    extra = sorted(set(asked) - KNOWN)
    if extra:
        raise Refused(400, f"The sandbox knows no '{extra[0]}'.")
    labels, flavor, command = object_in(asked, "labels"), needed_text(asked, "flavor"), asked.get("command")
    if not all(LABELS.fullmatch(str(word)) for pair in labels.items() for word in pair):
        raise Refused(400, "A label may have 100 letters, digits, dashes and underscores at the most.")
    if flavor not in shapes.MACHINES:
        raise Refused(400, f"There is no flavor {flavor}.")
    if not isinstance(command, list) or command[-1:] == [] or "trl" not in command:
        raise Refused(400, "The sandbox pretends to run nothing but TRL.")
    options = dict(zip(command, command[1:], strict=False))
    if options.get("--model_name_or_path") not in desk.models:
        raise Refused(400, f"The sandbox knows no model {options.get('--model_name_or_path')}.")
    kept = {"dockerImage": needed_text(asked, "dockerImage"), "command": command, "flavor": flavor, "labels": labels}
    whole_in(asked, "timeoutSeconds", 1, LONGEST_SECONDS)
    files = _mounted(asked.get("volumes") or [], desk)
    if TRAINED_ON not in files:
        raise Refused(400, f"The sandbox finds nothing to train on; mount a file at {TRAINED_ON}.")
    return Plan(
        id=desk.vendor.new_job_id(),
        key=str(labels.get(LABEL, "")),
        model=str(options["--model_name_or_path"]),
        training_file=files[TRAINED_ON],
        validation_file=files.get(MEASURED_ON),
        epochs=round(float(options.get("--num_train_epochs", "3"))),
        asked=kept,
    )


def _mounted(volumes: list[dict[str, Any]], desk: Desk) -> dict[str, str]:
    """The files by where they are mounted."""
    for volume in volumes:
        if volume.get("type") != "dataset" or desk.file(volume.get("path")) is None:
            raise Refused(400, f"There is no dataset folder {volume.get('path')}.")
    return {str(volume.get("mountPath")): str(volume["path"]) for volume in volumes}


def _entries(desk: Desk) -> Iterable[Entry]:
    files, jobs = FileRoutes(desk), JobRoutes(desk)
    data, one = "/api/datasets/{owner}/{name}", "/api/jobs/{owner}/{job_id}"
    yield Entry("GET", "/api/whoami-v2", "limits", jobs.whoami)
    yield Entry("POST", "/api/repos/create", "files", files.create)
    yield Entry("GET", data, "files", files.repository)
    yield Entry("POST", f"{data}/preupload/main", "files", files.preupload)
    yield Entry("POST", f"{data}/commit/main", "upload", files.commit)
    yield Entry("GET", f"{data}/tree/main/{{folder}}", "files", files.tree)
    yield Entry("POST", "/datasets/{owner}/{name}.git/info/lfs/objects/batch", "files", files.batch)
    yield Entry("PUT", "/store/{oid}", "content", files.put, is_signed=True)
    yield Entry("POST", "/store/{oid}/verify", "content", files.verify)
    yield Entry("GET", "/api/models", "models", jobs.models)
    yield Entry("GET", "/api/models/{model:path}", "models", jobs.model)
    yield Entry("GET", "/api/jobs/hardware", "limits", jobs.machines)
    yield Entry("POST", "/api/jobs/{owner}", "create", jobs.create)
    yield Entry("GET", "/api/jobs/{owner}", "list", jobs.listed)
    yield Entry("GET", one, "retrieve", jobs.retrieve)
    yield Entry("POST", f"{one}/cancel", "cancel", jobs.cancel)
    yield Entry("GET", f"{one}/logs", "events", jobs.logs)


def _key_of(_: Request, body: dict[str, Any]) -> str:
    return str(object_in(body, "labels").get(LABEL, ""))


VENDOR = Vendor(
    name="hf_jobs",
    prefix="/huggingface",
    words=shapes.WORDS,
    entries=_entries,
    key_of=_key_of,
    error_body=shapes.error_object,
    new_job_id=lambda: new_id("hfjob"),
    denials=DENIALS,
    models=MODELS,
)
