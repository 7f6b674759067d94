"""The private dataset repository that the examples lie in for Hugging Face Jobs, one folder a file."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from api_worker.hf_jobs_answers import Batch, Places
from api_worker.hf_jobs_command import MOUNTED
from api_worker.refusals import Refusal, error_of, not_there_yet
from queue_app.errors import NotFound, Permanent
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from pathlib import Path

    from api_worker.hf_jobs_api import Api

REPOSITORY = "tuneyard-data"
LARGEST_BYTES = 5 * 1024**3  # that go in one piece


@dataclass(frozen=True)
class Examples:
    """An account's repository of examples; it is made with the first file."""

    account: str
    api: Api

    @property
    def _name(self) -> str:
        return f"{self.api.space}/{REPOSITORY}"

    def upload(self, path: Path) -> str:
        """Commit a file, in a folder that its content names."""
        size = path.stat().st_size
        if size > LARGEST_BYTES:
            raise Permanent(f"{path.name} has {size:,} bytes; {self.account} is sent {LARGEST_BYTES:,} at the most")
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
            content.seek(0)
            sample = base64.b64encode(content.read(512)).decode()
        try:
            self._make_private()
            self._commit(path, digest, sample)
        except NotFound as error:
            raise not_there_yet(error) from None
        return digest

    def insist_on(self, file: str) -> None:
        """Raise NotFound where a file is not there."""
        told = self.api.look(f"api/datasets/{self._name}/tree/main/{quote(file, safe='')}")
        if isinstance(told, Refusal) and told.status != 404:
            raise error_of(self.account, told)
        if isinstance(told, Refusal) or not told.get("rows"):
            raise NotFound(f"{self.account}: there is no file {file}; a retry sends it again", cause=Cause.PROVIDER)

    def volume(self, file: str, split: str) -> dict[str, str]:
        """A file's folder, mounted where `datasets` takes it for a split."""
        return {"type": "dataset", "source": self._name, "path": file, "mountPath": f"{MOUNTED}/{split}"}

    def _make_private(self) -> None:
        asked = {"name": REPOSITORY, "organization": self.api.space, "type": "dataset", "visibility": "private"}
        made = self.api.ask("POST", "api/repos/create", json=asked)
        if not isinstance(made, Refusal):
            return
        if made.status != 409:
            raise error_of(self.account, made)
        if self.api.get(f"api/datasets/{self._name}").get("private") is not True:
            raise Permanent(
                f"{self.account}: the dataset {self._name} is public; make it private before data goes there"
            )

    def _commit(self, path: Path, digest: str, sample: str) -> None:
        size, place = path.stat().st_size, f"{digest}/data.jsonl"
        asked = {"files": [{"path": place, "size": size, "sample": sample}]}
        told = self.api.send("POST", f"api/datasets/{self._name}/preupload/main", json=asked)
        modes = {file.path: file.upload_mode for file in self.api.typed(Places, told).files}
        if modes.get(place) == "lfs":
            self._send_apart(path, digest, size)
            change = {"key": "lfsFile", "value": {"path": place, "algo": "sha256", "oid": digest, "size": size}}
        else:
            text = base64.b64encode(path.read_bytes()).decode()
            change = {"key": "file", "value": {"content": text, "path": place, "encoding": "base64"}}
        header = {"key": "header", "value": {"summary": f"examples {digest[:12]}", "description": ""}}
        body = "".join(f"{json.dumps(row)}\n" for row in (header, change)).encode()
        kind = {"Content-Type": "application/x-ndjson"}
        self.api.send("POST", f"api/datasets/{self._name}/commit/main", content=body, headers=kind)

    def _send_apart(self, path: Path, digest: str, size: int) -> None:
        """Send the content to the store that the Hub names; a whole file goes in one piece there."""
        kind = {"Content-Type": "application/vnd.git-lfs+json", "Accept": "application/vnd.git-lfs+json"}
        wanted = {"objects": [{"oid": digest, "size": size}], "ref": {"name": "main"}}
        asked = {"operation": "upload", "transfers": ["basic"], "hash_algo": "sha256", **wanted}
        batch = f"datasets/{self._name}.git/info/lfs/objects/batch"
        told = self.api.send("POST", batch, content=json.dumps(asked).encode(), headers=kind)
        for kept in self.api.typed(Batch, told).objects:
            if "upload" in kept.actions:
                self.api.deliver(kept.actions["upload"].href, path, {})
            verify = kept.actions.get("verify")
            if verify is not None and self.api.is_at_the_hub(verify.href):
                answer = self.api.ask("POST", verify.href, json={"oid": digest, "size": size})
                if isinstance(answer, Refusal) and answer.status != 200:
                    raise error_of(self.account, answer)
