"""The datasets of an account at Fireworks: a file of examples sent whole, or to a signed URL, and looked through."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from api_worker import fireworks_answers as answers
from api_worker.fireworks_api import is_missing
from api_worker.json_api import TRANSFER_SECONDS
from api_worker.refusals import Refusal, not_there_yet
from queue_app.errors import NotFound, Permanent
from queue_app.lifecycle import Cause

if TYPE_CHECKING:
    from pathlib import Path

    from api_worker.fireworks_api import Api


@dataclass(frozen=True)
class Datasets:
    """An account's datasets."""

    account: str
    api: Api
    direct_bytes: int  # a file from this size on goes to a signed URL

    def upload(self, path: Path) -> str:
        """Send a file as a dataset whose id follows from its content: what is there already is not sent again."""
        try:
            return self._sent(path)
        except NotFound as error:
            raise not_there_yet(error) from None

    def _sent(self, path: Path) -> str:
        digest, examples = _digest(path)
        dataset_id = f"ty-{digest[:24]}"
        dataset = f"{self.api.path}/datasets/{dataset_id}"
        record = {"userUploaded": {}, "exampleCount": str(examples)}
        made = self.api.change(f"v1/{self.api.path}/datasets", json={"datasetId": dataset_id, "dataset": record})
        known = self._get(dataset) if isinstance(made, Refusal) else self.api.typed(answers.Dataset, made)
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
        if size < self.direct_bytes:
            with path.open("rb") as content:
                parts = {"file": (path.name, content, "application/octet-stream")}
                told = self.api.change(f"v1/{dataset}:upload", files=parts, timeout=TRANSFER_SECONDS)
            self.api.typed(dict, told)
            return
        asked = {"filenameToSize": {path.name: str(size)}}
        told = self.api.ask("POST", f"v1/{dataset}:getUploadEndpoint", json=asked)
        urls = self.api.typed(answers.SignedUrls, told).filename_to_signed_urls or {}
        # both headers are part of what was signed
        headers = {"Content-Type": "application/octet-stream", "X-Goog-Content-Length-Range": f"{size},{size}"}
        self.api.deliver(urls.get(path.name, ""), path, headers)
        self.api.typed(dict, self.api.change(f"v1/{dataset}:validateUpload", json={}))

    def is_ready(self, file: str) -> bool:
        dataset = self._get(file)
        status = dataset.status or answers.Status()
        if status.word:
            cause = Cause.DATA if status.word in answers.BAD_DATASET else Cause.PROVIDER
            raise Permanent(f"{self.account}: {file} was refused: {status.said}", cause=cause)
        return dataset.state == "READY"

    def _get(self, name: str) -> answers.Dataset:
        told = self.api.look(f"v1/{name}")
        if is_missing(told):
            raise NotFound(f"{self.account}: there is no {name}; a retry sends it again", cause=Cause.PROVIDER)
        return self.api.typed(answers.Dataset, told)


def _digest(path: Path) -> tuple[str, int]:
    """A file's SHA-256, and how many lines it has that are not blank."""
    digest, lines = hashlib.sha256(), 0
    with path.open("rb") as file:
        for line in file:
            digest.update(line)
            lines += bool(line.strip())
    return digest.hexdigest(), lines
