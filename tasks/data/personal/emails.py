"""E-mail addresses: the syntax that is in use, not all that RFC 5322 allows; letters of any script.

Not covered: local parts in quotes, and addresses written so that programs do not find them: "jane (at) firm (dot) de".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tasks.data.personal.finding import Confidence, Finding
from tasks.data.personal.hints import AT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.personal.search import Search

TYPES = ("email",)
NEEDS = AT

# The look-behind lets a match begin only where a run of such characters begins: one attempt for each run.
_LOCAL = r"[\w.+%&'~-]"
_ADDRESS = re.compile(rf"(?<!{_LOCAL}){_LOCAL}{{1,80}}+@([\w-]{{1,63}}+(?:\.[\w-]{{1,63}}+){{1,8}}+)")
_TOP = re.compile(r"[^\W\d_]{2,24}|xn--[a-z0-9-]{2,59}", re.IGNORECASE)
_RESERVED = re.compile(r"(?:^|\.)(?:example\.(?:com|org|net)|example|test|invalid|localhost|local)$", re.IGNORECASE)
_FILES = frozenset({"png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "ts", "json", "html", "pdf"})


def find(text: str, search: Search) -> Iterator[Finding]:
    """Every address; those at a domain reserved for documentation, and Git's own user, are LOW."""
    del search
    for match in _ADDRESS.finditer(text):
        end, domain = match.end(), match[1]
        while domain and not _is_domain(domain):  # "…@firm.com.2" ends with the sentence
            domain = domain.rpartition(".")[0]
        shorter, _, last = domain.rpartition(".")
        if last.istitle() and _is_domain(shorter) and not shorter.rpartition(".")[2].istitle():
            domain = shorter  # so does "…@firm.com.Then", and not "…@Gmail.Com"
        local = text[match.start() : match.start(1) - 1]
        clean = local.lstrip(".'&-~%")
        if not domain or not clean or clean.endswith(".") or ".." in clean or len(clean) > 64:
            continue
        end = match.start(1) + len(domain)
        low = clean == "git" or _RESERVED.search(domain) is not None
        start = match.start() + len(local) - len(clean)
        yield Finding(start, end, "email", Confidence.LOW if low else Confidence.HIGH)


def _is_domain(domain: str) -> bool:
    top = domain.rpartition(".")[2]
    if "." not in domain or not _TOP.fullmatch(top) or top.lower() in _FILES:
        return False
    return all(label and label[0] != "-" and label[-1] != "-" for label in domain.split("."))
