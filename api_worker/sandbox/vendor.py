"""What the sandbox has to know of a provider whose API it speaks.

A module `<name>_routes` of this package with a `VENDOR` is found by listing the package; there is no table to enter.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

import api_worker.sandbox as package

if TYPE_CHECKING:
    from api_worker.sandbox.desk import Desk
    from api_worker.sandbox.refusals import Denial
    from api_worker.sandbox.remote_job import Phase

Handler = Callable[[Request], Awaitable[Response]]
MODULE = "_routes"


class Entry(NamedTuple):
    """A path under the vendor's prefix, the name that faults call it by (of `faults.ROUTES`), and who answers.

    A job's id is `{job_id}` in it. The route that receives a file is `upload`, the one that creates a job `create`,
    the one that lists jobs `list`, and `cancel` stops one: by these the ledger counts.
    """

    method: str
    path: str
    route: str
    handler: Handler
    is_signed: bool = False  # the URL itself is the permission: no key comes with it, and one that does is refused


@dataclass(frozen=True)
class Vendor:
    """A provider's API, as far as the sandbox speaks it."""

    name: str
    prefix: str  # before all its paths; the base_url of an account of its ends with it
    words: Mapping[Phase, str]  # its word for every phase
    entries: Callable[[Desk], Iterable[Entry]]
    key_of: Callable[[Request, dict[str, Any]], str]  # the submission key in a create, by the request and its body
    error_body: Callable[[Denial], Any]
    new_job_id: Callable[[], str]
    denials: Mapping[str, Denial] = field(default_factory=dict)  # its own words, by status or name of a fault
    models: tuple[str, ...] = ("sandbox-base",)  # that can be fine-tuned
    min_examples: int = 1
    fails_when_full: bool = False  # a job too many is created, and ends for want of a slot
    restarts: bool = False  # it may go on with a job under another id


@cache
def vendors() -> dict[str, Vendor]:
    """The vendors there are, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.name.endswith(MODULE))
    found = [importlib.import_module(f"{package.__name__}.{name}").VENDOR for name in names]
    return {vendor.name: vendor for vendor in found}
