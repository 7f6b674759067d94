"""What waits on disk for the end of a stream: rows, pieces of bytes, and numbers of digests."""

from __future__ import annotations

import errno
import random
import resource
import tracemalloc
from collections import Counter
from itertools import count, groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.data.likeness.saying import digest
from tasks.data.scratch.numbering import KEY_BYTES, Numbering
from tasks.data.scratch.rows import IN_MEMORY_BYTES, READ_ROWS, SORTED_ROWS, Rows
from tasks.data.scratch.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tasks.data.scratch.rows import Key

MANY = 2 * SORTED_ROWS + 1000  # more than are sorted at once


def by_key() -> Key:
    return lambda table: table["key"]


def large(keys: np.typing.NDArray[np.uint64], folder: Path) -> Rows:
    rows = Rows(folder, key="Q", number="I")
    rows.extend(key=keys, number=np.arange(len(keys)))
    return rows


@pytest.mark.parametrize("count", [0, 1, 5, READ_ROWS + 1])
def test_rows_come_back_by_number_and_as_they_came(count: int, tmp_path: Path):
    with Rows(tmp_path, line="Q", rank="d", kind="B") as rows:
        for number in range(count):
            rows.append(number, number / 4, number % 7)
            assert rows.read(number) == (number, number / 4, number % 7), "whether it is written yet or not"
        assert len(rows) == count
        assert [row for table in rows.tables() for row in table["line"].tolist()] == list(range(count))
        assert all(rows.read(number)[0] == number for number in range(0, count, 1000))


@given(st.lists(st.integers(0, 20), max_size=60))
def test_groups_are_the_rows_that_have_a_key_in_common(keys: list[int]):
    with Rows(key="Q", number="I") as rows:
        for number, key in enumerate(keys):
            rows.append(key, number)
        found = [[tuple(row) for row in table.tolist()] for table in rows.groups(by_key())]
    ordered = sorted((key, number) for number, key in enumerate(keys))
    together = [list(group) for _, group in groupby(ordered, key=lambda row: row[0])]
    assert found == [group for group in together if len(group) > 1]


@pytest.mark.parametrize("spread", [1, 300, 1 << 63])
def test_more_rows_than_are_sorted_at_once_come_in_order_and_equal_keys_together(spread: int, tmp_path: Path):
    keys = np.random.default_rng(3).integers(0, spread, MANY, dtype=np.uint64) + np.uint64(5)
    with large(keys, tmp_path) as rows:
        tables = list(rows.ordered(by_key()))
        sizes = [len(group) for group in rows.groups(by_key())]
    expected = np.argsort(keys, kind="stable")
    assert np.array_equal(np.concatenate([table["number"] for table in tables]), expected), "equal keys as they came"
    assert all(one["key"][-1] < other["key"][0] for one, other in zip(tables, tables[1:], strict=False))
    assert sum(sizes) == sum(count for count in Counter(keys.tolist()).values() if count > 1)
    if spread > 300:
        assert max(map(len, tables)) < 1.1 * SORTED_ROWS


def test_what_is_sorted_takes_no_more_memory_where_there_are_more_rows(tmp_path: Path):
    def peak(count: int) -> int:
        keys = np.random.default_rng(3).integers(0, 1 << 63, count, dtype=np.uint64)
        with large(keys, tmp_path) as rows:
            tracemalloc.start()
            try:
                assert sum(len(table) for table in rows.ordered(by_key())) == count
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    assert peak(6 * SORTED_ROWS) < 1.2 * peak(2 * SORTED_ROWS)


def test_pieces_come_back_by_their_numbers_from_memory_and_from_disk(tmp_path: Path):
    chance = random.Random(4)
    pieces = [chance.randbytes(chance.choice([0, 3, 70_000])) for _ in range(300)]
    assert sum(map(len, pieces)) > IN_MEMORY_BYTES
    with Spool(tmp_path) as spool:
        for piece in pieces:
            spool.append(piece)
        assert len(spool) == 300
        assert all(spool.read(number) == pieces[number] for number in chance.sample(range(300), 300))
    assert list(tmp_path.iterdir()) == [], "the file has no name"


@given(st.lists(st.integers(0, 3000), max_size=300))
def test_digests_are_numbered_as_they_come(names: list[int]):
    order = list(dict.fromkeys(names))
    with Numbering() as numbering:
        assert [numbering.number(digest(str(name))) for name in names] == [order.index(name) for name in names]
        assert [numbering.find(digest(str(name))) for name in order] == list(range(len(order)))
        assert numbering.find(digest("another")) is None


def test_a_numbering_grows_and_forgets_nothing(tmp_path: Path):
    with Numbering(tmp_path) as numbering:
        for _ in range(2):
            assert all(numbering.number(digest(str(name))) == name for name in range(20_000))
        assert len(numbering) == 20_000


def test_digests_that_differ_late_or_hold_one_another_are_told_apart():
    alike = [bytes(KEY_BYTES - 1) + bytes([number]) for number in range(64)]
    shifted = [(bytes(range(1, 1 + KEY_BYTES)) * 2)[number : number + KEY_BYTES] for number in range(KEY_BYTES)]
    with Numbering() as numbering:
        assert [numbering.number(key) for key in [*alike, *shifted]] == list(range(64 + KEY_BYTES))
        assert [numbering.find(key) for key in shifted] == list(range(64, 64 + KEY_BYTES))


@pytest.fixture
def little_room() -> Iterator[None]:
    """Files of this process may not become larger than what scratch files keep in memory, and a little."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (IN_MEMORY_BYTES + 1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fill_rows(folder: Path) -> None:
    with Rows(folder, number="Q") as rows:
        for number in count():
            rows.append(number)


def fill_spool(folder: Path) -> None:
    with Spool(folder) as spool:
        for _ in count():
            spool.append(bytes(100_000))


def fill_at_the_end(folder: Path) -> None:
    with Spool(folder) as spool:
        spool.append(bytes(IN_MEMORY_BYTES + 1))
        spool.append(bytes(2000))  # waits in memory for the file to be read or closed


def fill_before_reading(folder: Path) -> None:
    with Spool(folder) as spool:
        spool.append(bytes(IN_MEMORY_BYTES + 1))
        spool.append(bytes(2000))
        spool.read(0)


@pytest.mark.usefixtures("little_room")
@pytest.mark.parametrize("fill", [fill_rows, fill_spool, fill_at_the_end, fill_before_reading])
def test_a_disk_that_is_full_is_told_by_the_folder(fill: Callable[[Path], None], tmp_path: Path):
    with pytest.raises(OSError, match="File too large") as full:
        fill(tmp_path)
    assert (full.value.errno, full.value.filename) == (errno.EFBIG, str(tmp_path))
