"""Feeds mutated files to the readers until one raises what it may not; needs `pip install atheris` (Linux).

    python -m tests.data.fuzz_readers CORPUS -max_total_time=240 -max_len=4000 -timeout=20

CORPUS is a folder that is filled on the way. An input's first byte chooses the kind of file, its second the format; the
rest is the content. What may happen: rows, bad rows, and our own errors, all of which can be written as UTF-8.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import msgspec

atheris = import_module("atheris")
with atheris.instrument_imports(include=["tasks.data"]):
    from queue_app.errors import TuneyardError
    from tasks.data.formats import find_format, names
    from tasks.data.reading import BadRow, Reading, read_rows
    from tasks.data.record import Function, Message, Record, ToolCall, encode

KINDS = (".jsonl", ".json", ".csv", ".tsv", ".jsonl.gz", ".jsonl.zst", ".parquet", ".arrow", "")
MOST_ROW_BYTES = 2048  # so that a short file may have a row that is too long
QUESTION, ANSWER = Message("user", "Sum 1 and 2 é"), Message("assistant", "3", weight=0.5)
CALL = Message("assistant", tool_calls=[ToolCall("call_1", Function("sum", '{"a": 1}'))])
SEEDS = (
    Record([QUESTION, ANSWER], source_agent="a", metadata={"of": 1}),
    Record([QUESTION, CALL, Message("tool", "3", tool_call_id="call_1"), ANSWER]),
    Record([QUESTION, ANSWER], rejected=[Message("assistant", "4")]),
)


def read_once(data: bytes, folder: Path) -> None:
    """Read one file as every job does, its format found out or named, and bring its rows into all other formats."""
    if len(data) < 2:
        return
    file = folder / f"rows{KINDS[data[0] % len(KINDS)]}"
    file.write_bytes(data[2:])
    chosen = (None, *names())[data[1] % (len(names()) + 1)]
    try:
        for row in read_rows(file, Reading(chosen, most_row_bytes=MOST_ROW_BYTES)):
            if isinstance(row, BadRow):
                str(row).encode()
                continue
            encode(row.record)
            for name in names():
                with suppress(ValueError):  # it does not hold such a record, and says so
                    msgspec.json.encode(find_format(name).from_record(row.record, Counter()))
    except TuneyardError as error:
        str(error).encode()


def plant(corpus: Path) -> None:
    """Write one small file of each format into the corpus."""
    corpus.mkdir(parents=True, exist_ok=True)
    for name in names():
        rows = []
        for record in SEEDS:
            with suppress(ValueError):
                rows.append(msgspec.json.encode(find_format(name).from_record(record, Counter())))
        (corpus / f"{name}.lines").write_bytes(b"\0\0" + b"\n".join(rows))
        (corpus / f"{name}.objects").write_bytes(b"\1\0[" + b",".join(rows) + b"]")
    (corpus / "table").write_bytes(b'\2\0instruction,input,output\nSum,"1, 2",3\n"Say ""hi""",,hi\n')


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    plant(Path(sys.argv[1]))
    folder = Path(tempfile.mkdtemp(prefix="fuzz-readers-"))  # it stays: the fuzzer ends the process itself
    atheris.Setup(sys.argv, lambda data: read_once(data, folder))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
