"""What several files are open in, and are closed together."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

Opened = TypeVar("Opened")


class Holder:
    """Closes what it has opened, at the end of its `with`."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def opened(self, held: AbstractContextManager[Opened]) -> Opened:
        """Hold it open until the end."""
        return self._stack.enter_context(held)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()
