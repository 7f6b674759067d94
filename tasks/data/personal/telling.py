"""A text as the value of a key: `phone`, `password` and the like say what a value is that alone says nothing."""

from __future__ import annotations

import re
from functools import lru_cache

_TELLING = re.compile(
    r"pass|pwd|secret|token|key|credential|phone|tel|mobil|cell|fax|contact|ssn|social|card|pan\b|order|invoice|id$|version",
    re.IGNORECASE,
)


@lru_cache(maxsize=4096)
def lead_of(key: str) -> str:
    """What is put before a value so that it is found as in running text; empty where the key tells nothing."""
    if len(key) > 60 or not _TELLING.search(key):
        return ""
    return f'{key.replace("_", " ") if not _is_secret(key) else key}": "'


def _is_secret(key: str) -> bool:
    return re.search(r"pass|pwd|secret|token|key|credential", key, re.IGNORECASE) is not None
