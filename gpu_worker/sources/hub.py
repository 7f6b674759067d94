"""A model from the Hugging Face hub, by name: safetensors, configuration and tokenizer, never a pickle or code."""

from __future__ import annotations

import shutil
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from gpu_worker.base_model import INDEX, indexed_files, read_architecture
from gpu_worker.child_side import Channel, child_main
from queue_app.errors import Permanent, Transient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from huggingface_hub import ModelInfo

BESIDE = ["*.json", "*.jinja", "*.txt", "*.model", "LICENSE*", "README.md"]
PROGRESS_SECONDS = 1.0
PASSING = (408, 429)  # refusals that pass: it took too long, it was too much


def run(config: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Download `config["model"]` into `config["folder"]`.

    Raises:
        Permanent: there is no such model, it is gated, incomplete, of another kind, holds only pickles, or does not
            fit on the disk
        Transient: the hub does not answer
    """
    model, folder = config["model"], Path(config["folder"])
    with _explained(model, config["revision"], has_token=bool(config["token"])):
        api = HfApi(token=config["token"])
        info = api.model_info(model, revision=config["revision"], files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or [] if "/" not in file.rfilename}
        _check_kind(api, info, list(sizes), folder)
        weights = _weights(model, list(sizes)) or _indexed(api, info, folder)
        needed_bytes = sum(size for name, size in sizes.items() if name in weights)
        _check_room(model, folder, needed_bytes)
        with _progress(channel, folder, needed_bytes):
            snapshot_download(
                model,
                revision=info.sha,
                token=config["token"],
                local_dir=folder,
                allow_patterns=[*weights, *BESIDE],
                ignore_patterns=["*/*"],
            )
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the hub client's own bookkeeping
    return {}


def _check_kind(api: HfApi, info: ModelInfo, names: list[str], folder: Path) -> None:
    """See that it can be tuned here, before gigabytes are fetched."""
    for name in ("config.json", "tokenizer.json"):
        if name not in names:
            raise Permanent(f"{info.id} has no {name}, without which it cannot be tuned here; look for a copy that has")
    api.hf_hub_download(info.id, "config.json", revision=info.sha, local_dir=folder)
    read_architecture(folder)


def _weights(model: str, names: list[str]) -> list[str]:
    """The file with all weights; none where an index names several."""
    single = "model.safetensors"
    if single in names:
        return [single]
    if INDEX in names:
        return []
    if any(name.endswith((".bin", ".pt", ".pth")) for name in names):
        raise Permanent(
            f"{model} holds its weights only as pickles, which can run code when they are loaded; look for a "
            "safetensors version of it"
        )
    raise Permanent(f"{model} has neither {single} nor {INDEX}: it is no model that transformers can load")


def _indexed(api: HfApi, info: ModelInfo, folder: Path) -> list[str]:
    """The files that the model's index names, whatever they are called."""
    names = indexed_files(Path(api.hf_hub_download(info.id, INDEX, revision=info.sha, local_dir=folder)))
    missing = sorted(set(names) - {file.rfilename for file in info.siblings or []})
    if missing or any("/" in name for name in names):
        raise Permanent(
            f"{info.id}: its {INDEX} names {missing[0] if missing else 'files in folders'}, which cannot be fetched; "
            "look for another copy of the model"
        )
    return names


def _check_room(model: str, folder: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(folder.parent).free
    if free < needed_bytes:
        raise Permanent(
            f"{model} needs {needed_bytes / 2**30:.1f} GiB, {folder.parent} has {free / 2**30:.1f} GiB free"
        )


@contextmanager
def _progress(channel: Channel, folder: Path, needed_bytes: int) -> Iterator[None]:
    """Say how much is there, but only when it has grown: a download that hangs shall be seen to hang."""
    done = threading.Event()

    def watch() -> None:
        before = -1
        while not done.wait(PROGRESS_SECONDS):
            here = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
            if here > before:
                before = here
                channel.progress(phase="downloading", done_mib=here >> 20, total_mib=needed_bytes >> 20)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


@contextmanager
def _explained(model: str, revision: str | None, *, has_token: bool) -> Iterator[None]:
    page = f"https://huggingface.co/{model}"
    try:
        yield
    except GatedRepoError as error:
        raise Permanent(
            f"{model} is gated, and the account of HF_TOKEN is not let in: accept its terms at {page}, and wait"
            if has_token
            else f"{model} is gated: accept its terms at {page}, then set HF_TOKEN to a token of yours"
        ) from error
    except RevisionNotFoundError as error:
        raise Permanent(f'{model} has no revision "{revision}"; see {page}/commits') from error
    except RepositoryNotFoundError as error:
        raise Permanent(
            f'there is no model "{model}" on the hub, or it is private: check {page}, or set HF_TOKEN'
        ) from error
    except HFValidationError as error:
        raise Permanent(
            f'"{model}" is neither a folder nor a name of the hub\'s form organisation/name: {error}'
        ) from error
    except OfflineModeIsEnabled as error:
        raise _offline(model) from error
    except LocalEntryNotFoundError as error:  # a file could not be asked after: what it comes from says why
        raise _not_fetched(model, error.__cause__) from error
    except HfHubHTTPError as error:
        raise _answered(model, error) from error
    except httpx.TransportError as error:
        raise _not_fetched(model, error) from error


def _not_fetched(model: str, why: BaseException | None) -> Permanent | Transient:
    if isinstance(why, OfflineModeIsEnabled):
        return _offline(model)
    if isinstance(why, HfHubHTTPError):
        return _answered(model, why)
    return Transient(f"the hub cannot be reached for {model} ({why}); check the network")


def _offline(model: str) -> Permanent:
    return Permanent(f"{model} cannot be fetched offline; unset HF_HUB_OFFLINE, or name a local folder")


def _answered(model: str, error: HfHubHTTPError) -> Permanent | Transient:
    """What an answer means that is no success: a refusal is final, anything else may pass."""
    status, page = error.response.status_code, f"https://huggingface.co/{model}"
    if status in (401, 403):
        return Permanent(
            f"the hub refuses access to {model} ({status}): is HF_TOKEN valid, and may it read gated models? See "
            "https://huggingface.co/settings/tokens"
        )
    if 400 <= status < 500 and status not in PASSING:
        return Permanent(f"the hub answered {status} for {model}; {page} may say why")
    asked = error.response.headers.get("Retry-After", "")
    pause = float(asked) if asked.isdecimal() else None
    return Transient(f"the hub answered {status} for {model}; {page} may say why", retry_after=pause)


if __name__ == "__main__":
    child_main(run)
