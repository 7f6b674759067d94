"""The file that alone can undo a scrubbing: the key that surrogates are drawn with, and what stands for what.

It holds every value that was found, so it is written for its owner only (mode 0600), to the path that the user names,
and never into an artifact. Who has it can read it: it is not encrypted.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from queue_app.errors import Invalid
from tasks.data.json_text import Number, Spelled, read_literal, write_literal

if TYPE_CHECKING:
    from pathlib import Path

_KEY_BYTES = 32
_OWNER_ONLY = 0o600


class _Head(msgspec.Struct, forbid_unknown_fields=True):
    tuneyard_scrub_key: int  # the format's version
    key: bytes


class _Entry(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    stand_in: str
    value: str
    id: str = ""  # of the example that a placeholder stands in; a surrogate stands for its value in all
    json: str = ""  # the value as it stood in JSON: a number, or a text with unusual escapes


@dataclass
class KeyFile:
    """The key, and per example (`""` for all) what each placeholder or surrogate stands for."""

    key: bytes = field(default_factory=lambda: secrets.token_bytes(_KEY_BYTES), repr=False)
    table: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)

    @property
    def fingerprint(self) -> str:
        """What tells this key from others, and nothing about it."""
        return hmac.new(self.key, b"which key file", hashlib.sha256).hexdigest()[:16]

    def put(self, stand_in: str, value: str, example: str = "") -> None:
        """Remember a value; one that stood in JSON with unusual escapes takes the place of the same without."""
        values = self.table.setdefault(example, {})
        if isinstance(value, Spelled) or values.get(stand_in) != value:
            values[stand_in] = value

    def save(self, path: Path) -> None:
        """Write the file, complete or not at all, readable for its owner only.

        Raises:
            Invalid: it cannot be written there; says why
        """
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        encoder = msgspec.json.Encoder()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY), "wb") as file:
                file.write(encoder.encode(_Head(1, self.key)) + b"\n")
                for example, stand_ins in self.table.items():
                    for stand_in, value in stand_ins.items():
                        unusual = isinstance(value, Number | Spelled)
                        entry = _Entry(stand_in, str(value), example, write_literal(value) if unusual else "")
                        file.write(encoder.encode(entry) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise Invalid(f"the key file {path} cannot be written: {error.strerror}; name another path") from None


def read_key_file(path: Path) -> KeyFile:
    """The key file at a path.

    Raises:
        Invalid: there is none, or it is none; names the line, and nothing of what stands there
    """
    number = 1
    try:
        with path.open("rb") as lines:
            head = msgspec.json.decode(next(lines, b""), type=_Head)
            made = KeyFile(head.key)
            for number, line in enumerate(lines, 2):  # noqa: B007  (read by the error)
                entry = msgspec.json.decode(line, type=_Entry)
                made.put(entry.stand_in, _value_of(entry), entry.id)
    except OSError as error:
        raise Invalid(f"the key file {path} cannot be read: {error.strerror}; it is what `key_file` named") from None
    except (msgspec.DecodeError, ValueError, ArithmeticError):
        raise Invalid(f"{path} line {number}: this is no key file of a scrubbing, or it was changed") from None
    return made


def _value_of(entry: _Entry) -> str:
    if not entry.json:
        return entry.value
    return read_literal(entry.json) if entry.json.startswith('"') else Number(entry.json)
