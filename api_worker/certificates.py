"""Whom to trust at the other end of a connection."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    import ssl


@cache
def certificates() -> ssl.SSLContext:
    """Read once: it takes longer than a request, and an account is opened for every look at a job."""
    return httpx.create_ssl_context()
