"""Documents into examples of a wanted size: a stream in, a stream out, and a tally of what happened on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from queue_app.errors import Permanent
from queue_app.lifecycle import Cause
from tasks.data.chunking import Bounds, Count, Piece, cut
from tasks.data.phrasing import phrase, request
from tasks.data.record import Origin
from tasks.data.walking import BadFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tasks.data.record import Record
    from tasks.data.sources import Document
    from tasks.data.statistics import Tally

MOST_NAMED = 20  # bad files that an error names


@dataclass(frozen=True)
class Shape:
    """What an example shall look like; sizes in tokens of request and answer, without the chat template's own."""

    min_tokens: int
    max_tokens: int
    tiny_tokens: int  # pieces below are dropped


@dataclass(frozen=True)
class Draft:
    """A piece and the example made of it, or the reason why there is none."""

    piece: Piece
    example: Record | None = None
    tokens: int = 0
    dropped: str = ""


def readable(files: Iterable[Document | BadFile], tally: Tally, *, skip_bad: bool) -> Iterator[Document]:
    """The documents, tallied. Bad files are counted, or refused once all of them are known.

    Raises:
        Permanent: there are bad files and `skip_bad` is false; names them
    """
    for file in files:
        tally.files += 1
        if isinstance(file, BadFile):
            tally.bad.append(f"{file.path}: {file.problem}")
        elif skip_bad or not tally.bad:
            yield file
    if tally.bad and not skip_bad:
        raise Permanent(_name_all(tally.bad), cause=Cause.DATA)


def examples_of(documents: Iterable[Document], shape: Shape, count: Count, tally: Tally) -> Iterator[Record]:
    """The examples of each document, in order, each with its origin. Blank documents are dropped and counted."""
    for document in documents:
        tally.read(document)
        if not document.text.strip():
            tally.drop("blank", document.text)
        else:
            yield from _kept(document.name, fitting(document, shape, count), shape, tally)


def fitting(document: Document, shape: Shape, count: Count) -> list[Draft]:
    """A document's pieces as examples, none longer than the shape allows by the exact count.

    Raises:
        Permanent: the request alone is as long as an example may be
    """
    longest_request = count([request(document, 999, 999)])[0]
    spare = max(4, shape.max_tokens // 50)  # the parts of a text do not add up to its count exactly
    if shape.max_tokens <= longest_request + spare:
        raise Permanent(
            f"max_tokens={shape.max_tokens} leaves no room for text: the request for {document.name} alone takes "
            f"{longest_request} tokens, and {spare} are kept spare; raise max_tokens"
        )
    while True:
        most = shape.max_tokens - longest_request - spare
        drafts = _drafts(document, Bounds(min(shape.min_tokens + spare, most), most), shape, count)
        excess = max(draft.tokens for draft in drafts) - shape.max_tokens
        if excess <= 0:
            return drafts
        spare += excess


def _drafts(document: Document, bounds: Bounds, shape: Shape, count: Count) -> list[Draft]:
    pieces = cut(document.text, bounds, count)
    reasons = [
        "too long a word" if not piece.fits else "tiny" if piece.tokens < shape.tiny_tokens else "" for piece in pieces
    ]
    kept = reasons.count("")
    drafts, number = [], 0
    for piece, reason in zip(pieces, reasons, strict=True):
        number += not reason
        example = None if reason else phrase(document, piece.text, number, kept)
        drafts.append(Draft(piece, example, dropped=reason or ("" if example else "a single word")))
    sizes = iter(sizes_of([draft.example for draft in drafts if draft.example], count))
    return [Draft(d.piece, d.example, next(sizes), d.dropped) if d.example else d for d in drafts]


def sizes_of(examples: list[Record], count: Count) -> list[int]:
    """The tokens of each example's contents."""
    contents = [[message.content or "" for message in example.messages] for example in examples]
    counts = iter(count([content for each in contents for content in each]))
    return [sum(next(counts) for _ in each) for each in contents]


def _kept(name: str, drafts: list[Draft], shape: Shape, tally: Tally) -> Iterator[Record]:
    kept = sum(draft.example is not None for draft in drafts)
    number = 0
    for draft in drafts:
        if draft.example is None:
            tally.drop(draft.dropped, draft.piece.text)
            continue
        number += 1
        tally.keep(draft.tokens, short=draft.tokens < shape.min_tokens)
        draft.example.origin = Origin(document=name, piece=number, pieces=kept, tokens=draft.tokens)
        yield draft.example


def _name_all(bad: list[str]) -> str:
    named = "\n".join(f"  {line}" for line in bad[:MOST_NAMED])
    more = f"\n  and {len(bad) - MOST_NAMED} more" if len(bad) > MOST_NAMED else ""
    files = "1 file is" if len(bad) == 1 else f"{len(bad)} files are"
    return f"{files} not usable text; repair or remove them, or leave them out with on_bad_file=skip:\n{named}{more}"
