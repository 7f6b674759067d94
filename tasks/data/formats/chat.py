"""Tuneyard's own rows: a record as it is, which is OpenAI's chat format with what no provider takes beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.data.record import Record

if TYPE_CHECKING:
    from collections import Counter

SUMMARY = "messages, with tools, weight, agents, category, difficulty, origin and metadata beside them"
Row = Record


def recognises(keys: frozenset[str]) -> bool:
    return "messages" in keys and not {"chosen", "rejected"} <= keys


def to_record(row: Record) -> Record:
    return row


def from_record(record: Record, dropped: Counter[str]) -> Record:
    del dropped  # it holds everything
    return record
