"""The file that alone can undo a scrubbing: the key that surrogates are drawn with, and what stands for what.

It holds every value that was found, so it is written for its owner only (mode 0600), to the path that the user names,
and never into an artifact. Who has it can read it: it is not encrypted.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from queue_app.errors import Invalid
from tasks.data.rewriting import Number

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
    number: bool = False


@dataclass
class KeyFile:
    """The key, and per example (`""` for all) what each placeholder or surrogate stands for."""

    key: bytes = field(default_factory=lambda: secrets.token_bytes(_KEY_BYTES), repr=False)
    table: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)

    def put(self, stand_in: str, value: str, example: str = "") -> None:
        self.table.setdefault(example, {})[stand_in] = value

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
                        entry = _Entry(stand_in, str(value), example, isinstance(value, Number))
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
                made.put(entry.stand_in, Number(entry.value) if entry.number else entry.value, entry.id)
    except OSError as error:
        raise Invalid(f"the key file {path} cannot be read: {error.strerror}; it is what `key_file` named") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Invalid(f"{path} line {number}: this is no key file of a scrubbing, or it was changed") from None
    return made
