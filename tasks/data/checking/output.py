"""The repaired copy: the provider's file, or a dataset; and beside the report what was set aside."""

from __future__ import annotations

from codecs import BOM_UTF8
from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec

from tasks.data.writing import DatasetWriter, JsonlWriter

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from tasks.data.checking.target_lines import Line
    from tasks.data.record import Record

REJECTED = "rejected.jsonl"


class Rejected(msgspec.Struct):
    """A row that was set aside: where it stood, why, and its text; what in it is not UTF-8 stands as \\xhh."""

    line: int
    reasons: list[str]
    row: str


class Output:
    """Writes a dataset, or the target's rows as `folder`/FORMAT.jsonl like any export, and `report`/rejected.jsonl."""

    def __init__(self, folder: Path, report: Path, *, export: str | None, mark: bool) -> None:
        self._good = DatasetWriter(folder) if export is None else JsonlWriter(folder / f"{export}.jsonl")
        self._bad = JsonlWriter(report / REJECTED)
        self._any_bad = False
        self._records = export is None
        self._mark = BOM_UTF8 if mark else b""
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._open.enter_context(self._good)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.__exit__(kind, error, at)

    def keep(self, raw: bytes, record: Record | None) -> None:
        """Write a good row."""
        if self._records:
            if record is not None:
                self._good.write(record)
            return
        start = self._mark if self._good.count == 0 else b""
        JsonlWriter.write(self._good, msgspec.Raw(start + raw))

    def reject(self, line: Line, reasons: list[str]) -> None:
        """Write a row that is set aside."""
        if not self._any_bad:
            self._open.enter_context(self._bad)
            self._any_bad = True
        self._bad.write(Rejected(line.number, reasons, line.raw.decode(errors="backslashreplace")))
