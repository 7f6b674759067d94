"""What the sandbox remembers of one vendor: a journal of what happened, read back when it starts.

Each event is one line, appended by one write before it is answered, so that neither a SIGKILL nor an answer that was
lost makes a job vanish; the rest of a line that was cut short is dropped. Not covered: the loss of power.
"""

from __future__ import annotations

import json
import os
import secrets
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from api_worker.sandbox.remote_job import SandboxJob

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class SandboxFile:
    """An uploaded file, and what was found in it. Times are POSIX seconds."""

    id: str
    created_at: float
    filename: str
    size_bytes: int
    sha256: str
    examples: int
    format: str  # such as "chat" or "preference", in the words of the vendor's examiner
    problem: str | None  # the first thing that is wrong with it
    ready_at: float  # when the provider has looked through it
    is_broken: bool = False  # the provider could not process it, whatever it holds


@dataclass
class Requests:
    """How often the sandbox was asked, whatever it answered."""

    creates: Counter[str] = field(default_factory=Counter)  # by submission key
    cancels: Counter[str] = field(default_factory=Counter)
    uploads: int = 0


class SandboxState:
    """The files and jobs of one folder. Used from one thread."""

    def __init__(self, folder: Path) -> None:
        (folder / "files").mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.files: dict[str, SandboxFile] = {}
        self.jobs: dict[str, SandboxJob] = {}  # with those that are still to be made by a restart
        self.uploads: Counter[str] = Counter()  # by the content's SHA-256, deleted ones included
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

    def create_jobs(self, *jobs: SandboxJob) -> None:
        """Create a job, and with it the one that goes on with it."""
        self._write("jobs_created", {"jobs": [asdict(job) for job in jobs]})

    def change_job(self, job_id: str, **changes: float | None) -> SandboxJob:
        """Note that a job was asked to stop, or stands still, or goes on."""
        self._write("job_changed", {"id": job_id, "changes": changes})
        return self.jobs[job_id]

    # -- what is ---------------------------------------------------------------------------------------------------

    def content_path(self, file_id: str) -> Path:
        return self.folder / "files" / file_id

    # -- the journal ----------------------------------------------------------------------------------------------

    def _write(self, event: str, row: dict[str, Any]) -> None:
        line = json.dumps({"event": event, **row}).encode() + b"\n"
        os.write(self._journal, line)
        self._apply(event, json.loads(line))

    def _read(self, journal: Path) -> None:
        if not journal.exists():
            return
        content = journal.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for line in whole.splitlines():
            row = json.loads(line)
            self._apply(row["event"], row)
        if len(whole) != len(content):
            os.truncate(journal, len(whole))

    def _apply(self, event: str, row: dict[str, Any]) -> None:
        row.pop("event")
        match event:
            case "asked":
                self._count(row["request"], row["key"])
            case "file_uploaded":
                self.files[row["id"]] = SandboxFile(**row)
                self.uploads[row["sha256"]] += 1
            case "file_deleted":
                self.files.pop(row["id"], None)
            case "jobs_created":
                self.jobs.update({job["id"]: SandboxJob.read(job) for job in row["jobs"]})
            case "job_changed":
                self.jobs[row["id"]] = replace(self.jobs[row["id"]], **row["changes"])
            case _:
                raise ValueError(f'{self.folder}: the journal tells of "{event}", which this version does not know')

    def _count(self, request: str, key: str) -> None:
        if request == "upload":
            self.requests.uploads += 1
        else:
            (self.requests.creates if request == "create" else self.requests.cancels)[key] += 1


def new_id(prefix: str) -> str:
    """An id in the provider's manner."""
    return f"{prefix}-{secrets.token_hex(12)}"
