"""Lists in pages, by cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api_worker.sandbox.refusals import Refused

if TYPE_CHECKING:
    from starlette.requests import Request


def page_of(
    items: list[dict[str, Any]], request: Request, *, default: int, most: int
) -> tuple[list[dict[str, Any]], bool]:
    """The items that `after` and `limit` ask for, and whether there are more."""
    asked = request.query_params.get("limit", str(default))
    if not asked.isdecimal() or not 1 <= int(asked) <= most:
        raise Refused(400, f"'limit' must be a whole number from 1 to {most}.", param="limit")
    after = request.query_params.get("after")
    start = 0
    if after is not None:
        places = [place for place, item in enumerate(items) if item["id"] == after]
        if not places:
            raise Refused(400, f"There is no '{after}' to list after.", param="after")
        start = places[0] + 1
    end = start + int(asked)
    return items[start:end], end < len(items)
