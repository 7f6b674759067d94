"""What the sandbox remembers: a journal of what happened, read back when it starts.

Each event is one line, appended by one write before it is answered, so that neither a SIGKILL nor an answer that was
lost makes a job vanish; the rest of a line that was cut short is dropped. Not covered: the loss of power.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from api_worker.sandbox.remote_job import SandboxJob, most_at_once

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class SandboxFile:
    """An uploaded file."""

    id: str
    created_at: float
    filename: str
    size_bytes: int
    examples: int
    problem: str | None


@dataclass
class Requests:
    """How often the sandbox was asked, per submission key, whatever it answered."""

    creates: dict[str, int] = field(default_factory=dict)
    cancels: dict[str, int] = field(default_factory=dict)
    uploads: int = 0


class SandboxState:
    """The files and jobs of one state folder. Used from one thread."""

    def __init__(self, folder: Path) -> None:
        (folder / "files").mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.files: dict[str, SandboxFile] = {}
        self.jobs: dict[str, SandboxJob] = {}
        self.requests = Requests()
        journal = folder / "journal.jsonl"
        self._read(journal)
        self._journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def close(self) -> None:
        os.close(self._journal)

    # -- what happens ---------------------------------------------------------------------------------------------

    def ask(self, request: str, key: str = "") -> None:
        """Note that a create, cancel or upload was asked for."""
        self._write("asked", {"request": request, "key": key})

    def keep_file(self, file: SandboxFile, content: bytes) -> None:
        """Keep an upload: its content first, then the line that makes it known."""
        self.content_path(file.id).write_bytes(content)
        self._write("file_uploaded", asdict(file))

    def delete_file(self, file_id: str) -> None:
        self._write("file_deleted", {"id": file_id})
        self.content_path(file_id).unlink(missing_ok=True)

    def create_job(self, job: SandboxJob) -> None:
        self._write("job_created", asdict(job))

    def cancel_job(self, job_id: str) -> SandboxJob:
        """Cancel a job that has not ended."""
        self._write("job_cancelled", {"id": job_id, "at": time.time()})
        return self.jobs[job_id]

    # -- what is ---------------------------------------------------------------------------------------------------

    def content_path(self, file_id: str) -> Path:
        return self.folder / "files" / file_id

    def newest_jobs(self) -> list[SandboxJob]:
        return sorted(self.jobs.values(), key=lambda job: job.created_at, reverse=True)

    def unfinished(self, now: float) -> int:
        """How many jobs hold a slot."""
        return sum(job.finished_at(now) is None for job in self.jobs.values())

    def ledger(self, now: float) -> dict[str, Any]:
        """What was asked for and what was made of it, since the folder was new."""
        keys: dict[str, dict[str, Any]] = {}
        for job in self.jobs.values():
            keys.setdefault(job.key, {"jobs": []})["jobs"].append(job.id)
        for name, counts in (("creates_received", self.requests.creates), ("cancels_received", self.requests.cancels)):
            for key, count in counts.items():
                keys.setdefault(key, {"jobs": []})[name] = count
        jobs = self.jobs.values()
        ends = {job.id: job.finished_at(now) or now for job in jobs}
        return {
            "keys": {key: {"creates_received": 0, "cancels_received": 0, **found} for key, found in keys.items()},
            "jobs_created": len(self.jobs),
            "uploads_received": self.requests.uploads,
            "most_held_at_once": most_at_once([(job.created_at, ends[job.id]) for job in jobs]),
            "most_running_at_once": most_at_once([(job.running_at, ends[job.id]) for job in jobs]),
        }

    # -- the journal ----------------------------------------------------------------------------------------------

    def _write(self, event: str, row: dict[str, Any]) -> None:
        line = json.dumps({"event": event, **row}).encode() + b"\n"
        os.write(self._journal, line)
        self._apply(event, row)

    def _read(self, journal: Path) -> None:
        if not journal.exists():
            return
        content = journal.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for line in whole.splitlines():
            row = json.loads(line)
            self._apply(row.pop("event"), row)
        if len(whole) != len(content):
            os.truncate(journal, len(whole))

    def _apply(self, event: str, row: dict[str, Any]) -> None:
        match event:
            case "asked":
                self._count(row["request"], row["key"])
            case "file_uploaded":
                self.files[row["id"]] = SandboxFile(**row)
            case "file_deleted":
                self.files.pop(row["id"], None)
            case "job_created":
                job = SandboxJob.read(row)
                self.jobs[job.id] = job
            case "job_cancelled":
                self.jobs[row["id"]] = replace(self.jobs[row["id"]], cancelled_at=row["at"])
            case _:
                raise ValueError(f'{self.folder}: the journal tells of "{event}", which this version does not know')

    def _count(self, request: str, key: str) -> None:
        if request == "upload":
            self.requests.uploads += 1
            return
        counts = self.requests.creates if request == "create" else self.requests.cancels
        counts[key] = counts.get(key, 0) + 1


def new_id(prefix: str) -> str:
    """An id in the provider's manner."""
    return f"{prefix}-{secrets.token_hex(12)}"
