"""A job as it is submitted."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"  # base 32: safe in file names, URLs and provider suffixes
ID_LENGTH = 10  # 50 bits


def new_id() -> str:
    """A random id; short enough to be part of a submission key."""
    return "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_LENGTH))


@dataclass(frozen=True)
class NewJob:
    """What is to be done, where, and after what. `needs` are ids of jobs that must succeed first."""

    kind: str
    queue: str
    spec: dict[str, Any]
    id: str = field(default_factory=new_id)
    needs: tuple[str, ...] = ()
    priority: int = 0
    timeout_seconds: float | None = None
    reuse: bool = True
    cards: int = 1
    run_id: str | None = None
    step: str | None = None
