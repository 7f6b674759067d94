"""Where a URL leads, as far as it tells."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit


def host_of(url: str) -> str:
    """The host, in small letters and without a final dot; empty where there is none."""
    return (_parts(url).hostname or "").rstrip(".")


def is_web_address(url: str) -> bool:
    """Whether it names a scheme that can be spoken, a host, and no port that cannot be."""
    try:
        parts = urlsplit(url.strip())
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def is_plain(url: str) -> bool:
    """Whether it is an address alone: nobody's name or password, no query, no fragment."""
    return not set("@?#") & set(url)


def origin_of(url: str) -> str:
    """Scheme, host and port, which may be told to anybody; what else a URL has may open a door."""
    parts = _parts(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def is_on_this_machine(url: str) -> bool:
    """Whether a URL leads to this machine's loopback."""
    host = host_of(url)
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def is_in_the_clear(url: str) -> bool:
    """Whether what is sent there may be read on the way."""
    return _parts(url).scheme == "http" and not is_on_this_machine(url)


def _parts(url: str) -> SplitResult:
    """The parts of a URL; one without a scheme is read as if it had one."""
    plain = url.strip()
    try:
        return urlsplit(plain if "://" in plain else f"//{plain}")
    except ValueError:
        return SplitResult("", "", "", "", "")
