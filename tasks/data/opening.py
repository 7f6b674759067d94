"""Files as blocks of bytes, whatever they are packed with; memory depends on neither their length nor their packing."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK_BYTES = 1 << 20
PACKED_BYTES = 1 << 11  # of zstd at a time: what comes out of it cannot be bounded otherwise
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
PARQUET, ARROW = b"PAR1", b"ARROW1"
MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32 (little-endian)"),
    (b"\x00\x00\xfe\xff", "UTF-32 (big-endian)"),
    (b"\xff\xfe", "UTF-16 (little-endian)"),
    (b"\xfe\xff", "UTF-16 (big-endian)"),
)
PACKS = (
    (b"\xfd7zXZ\0", ("packed with xz", "unpack it: `xz -d`")),
    (b"BZh", ("packed with bzip2", "unpack it: `bunzip2`")),
    (b"7z\xbc\xaf\x27\x1c", ("packed with 7-Zip", "unpack it: `7z x`")),
    (b"PK\x03\x04", ("a zip, as an Excel table is too", "unpack it, or save the table as CSV")),
)


class Damaged(Exception):
    """A packed file ends too early or is broken; what came before is good."""


def blocks(file: Path) -> Iterator[bytes]:
    """The content, unpacked if it begins as gzip or zstd do.

    Raises:
        Damaged: it cannot be unpacked to its end
    """
    with file.open("rb") as stream:
        first = stream.read(4)
        stream.seek(0)
        if first.startswith(GZIP):
            yield from _gunzip(stream)
        elif first == ZSTD:
            yield from _unzstd(stream)
        else:
            while block := stream.read(BLOCK_BYTES):
                yield block


def foreign(start: bytes) -> tuple[str, str, str] | None:
    """Rule, problem and repair, where the first bytes of a file show that it is packed, or UTF-16 or UTF-32."""
    if found := next((told for mark, told in PACKS if start.startswith(mark)), None):
        return "packed", f"the file is {found[0]}, which is not read here", found[1]
    name, codec = _foreign_encoding(start)
    if not codec:
        return None
    return "encoding", f"the file is in {name}", f"save it as UTF-8, such as with `iconv -f {codec} -t UTF-8`"


def _foreign_encoding(start: bytes) -> tuple[str, str]:
    """The name of an encoding for people and for iconv, which takes its mark for its order; both are empty for none."""
    for mark, name in MARKS:
        if start.startswith(mark):
            return f"{name}, with a byte order mark", name.partition(" ")[0]
    even, odd = start[:200:2], start[1:200:2]
    for zeros, others, name, codec in ((odd, even, "little", "UTF-16LE"), (even, odd, "big", "UTF-16BE")):
        if len(zeros) > 1 and zeros.count(0) > 0.8 * len(zeros) and others.count(0) < 0.2 * len(others):
            return f"UTF-16 ({name}-endian), without a byte order mark", codec
    return "", ""


def _gunzip(stream: BinaryIO) -> Iterator[bytes]:
    inflate = zlib.decompressobj(wbits=31)
    packed = stream.read(BLOCK_BYTES)
    while packed:
        try:
            block = inflate.decompress(packed, BLOCK_BYTES)
        except zlib.error as error:
            raise Damaged(f"the gzip is broken: {error}") from error
        if block:
            yield block
        if inflate.eof:  # another member may follow; zeros after the last one are padding
            packed = inflate.unused_data.lstrip(b"\0") or stream.read(BLOCK_BYTES).lstrip(b"\0")
            if packed:
                inflate = zlib.decompressobj(wbits=31)
        else:
            packed = inflate.unconsumed_tail or stream.read(BLOCK_BYTES)
    while not inflate.eof:
        try:
            block = inflate.decompress(b"", BLOCK_BYTES)
        except zlib.error as error:
            raise Damaged(f"the gzip is broken: {error}") from error
        if not block:
            raise Damaged("the gzip is cut short")
        yield block


def _unzstd(stream: BinaryIO) -> Iterator[bytes]:
    unpack = zstandard.ZstdDecompressor().decompressobj()
    packed = stream.read(PACKED_BYTES)
    while packed:
        try:
            block = unpack.decompress(packed)
        except zstandard.ZstdError as error:
            raise Damaged(f"the zstd is broken: {error}") from error
        if block:
            yield block
        packed = (unpack.unused_data if unpack.eof else b"") or stream.read(PACKED_BYTES)
        if packed and unpack.eof:
            unpack = zstandard.ZstdDecompressor().decompressobj()
    if not unpack.eof:
        raise Damaged("the zstd is cut short")
