"""How a remote job is told to stop: never one that has ended, and a refusal counts only of one that goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api_worker.provider import RemoteState
from queue_app.errors import Permanent

if TYPE_CHECKING:
    from collections.abc import Callable


def cancel_unless_ended(
    now: RemoteState, send: Callable[[], RemoteState], look: Callable[[], RemoteState]
) -> RemoteState:
    """What a job that is in the state `now` becomes: `send` asks it to stop, `look` looks again.

    Raises:
        Permanent: it is refused, and the job goes on
    """
    if now.is_final or now == RemoteState.CANCELLING:
        return now
    try:
        return send()
    except Permanent:
        ended = look()  # it may have ended in between
        if not ended.is_final:
            raise
        return ended
