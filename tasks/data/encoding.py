"""Bytes to text: UTF-8 as it should be, other encodings repaired when there is no doubt, binary refused."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from charset_normalizer import from_bytes

# The four-byte marks first: UTF-32's little-endian one begins with UTF-16's.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f]")  # tab, line ends, form feed and NEL are text

# Code pages worth a guess. Those of DOS, Mac and East Asia score alike on the same bytes, so they are never certain.
GUESSED = ["cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1257", "koi8_r"]
MOST_CHAOS = 0.05
LEAST_COHERENCE = 0.3

# The letters beyond ASCII that one language uses. Text in another code page, read as cp1252, mixes several of these.
WESTERN = tuple(
    frozenset(letters)
    for letters in (
        "àâæçéèêëîïôœùûüÿ",  # French
        "äöüßéè",  # German
        "áéíóúüñç",  # Spanish
        "áâãàçéêíóôõúü",  # Portuguese
        "àèéìíîòóùú",  # Italian
        "åäöæøéè",  # Danish, Finnish, Norwegian, Swedish
        "äéèêëïóöüç",  # Dutch, and English loan words
    )
)
TYPOGRAPHY = frozenset("“”„‘’‚–—…•·«»‹›€£§©®°¿¡ªº±×µ½\u00a0\u00ad")
MARK_IN_A_WORD = re.compile(r"[^\W\d_][“”„‚…•€£§©®°¿¡«»‹›][^\W\d_]")

# cp1252 as it is met in the wild: its five undefined bytes stand for the control characters of latin-1.
_TO_LATIN_1 = {
    ord(character): byte for byte in range(0x80, 0xA0) if (character := bytes([byte]).decode("cp1252", "ignore"))
}
_CONTINUATION = "[\u0080-\u00bf" + re.escape("".join(map(chr, _TO_LATIN_1))) + "]"
# Only with leads that stand before such a character in no other text: capital É does before an ellipsis.
_DOUBLY_ENCODED = re.compile(f"[ÂÃÐÑ]{_CONTINUATION}|â{_CONTINUATION}{{2}}")


@dataclass(frozen=True)
class Decoded:
    """A text with \\n as its only line end, and what was done to get it."""

    text: str
    repair: str | None = None
    suspicious: bool = False  # it has sequences like "Ã©", but does not come apart as a whole


class Undecodable(ValueError):
    """The bytes are no text, or their encoding is in doubt; says where and what to do."""


def decode(raw: bytes, *, fallback: str | None = None) -> Decoded:
    """The text of a file.

    `fallback` is the codec for what is not UTF-8, or holds bytes that UTF-8 text has not, as UTF-16 and ISO-2022 do;
    without one the encoding is guessed, and refused if in doubt.

    Raises:
        Undecodable: binary, damaged or doubtful
    """
    for mark, codec in MARKS:
        if raw.startswith(mark):
            return Decoded(_checked(_strictly(raw, codec)), repair=codec)
    if found := BINARY.search(raw):
        if fallback is not None:
            return Decoded(_checked(_strictly(raw, fallback)), repair=fallback)
        raise Undecodable(_at(raw, found.start(), f"byte 0x{found[0][0]:02x} does not belong in text: a binary file?"))
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return _decode_legacy(raw, error, fallback)
    return _undo_double_encoding(text)


def _decode_legacy(raw: bytes, error: UnicodeDecodeError, fallback: str | None) -> Decoded:
    codec = fallback or _certain_codec(raw)
    if codec is None:
        problem = f"byte 0x{raw[error.start]:02x} is not UTF-8 and the file's encoding is not certain"
        raise Undecodable(_at(raw, error.start, f"{problem}; save it as UTF-8, or name it: encoding=cp1252"))
    return Decoded(_checked(_strictly(raw, codec)), repair=codec)


def _strictly(raw: bytes, codec: str) -> str:
    try:
        return raw.decode(codec)
    except UnicodeDecodeError as error:
        raise Undecodable(f"{_at(raw, error.start, f'not {codec}')}: {error.reason}; save it as UTF-8") from error
    except UnicodeError as error:  # some codecs do not tell where
        raise Undecodable(f"not {codec}: {error}; save it as UTF-8") from error


def _checked(text: str) -> str:
    """The text with \\n as its only line end; refuses what a decoder let through that is no text."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if found := CONTROL.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise Undecodable(f"line {line}: control character U+{ord(found[0]):04X} does not belong in text")
    return text


def _certain_codec(raw: bytes) -> str | None:
    if any(ord(character) > 127 for character in raw.decode("utf-8", "ignore")):
        return None  # part UTF-8, part something else: one codec would spoil one of them
    if _is_western(raw):
        return "cp1252"
    found = list(from_bytes(raw, cp_isolation=GUESSED))
    if not found or found[0].chaos > MOST_CHAOS or found[0].coherence < LEAST_COHERENCE:
        return None
    best = (found[0].chaos, -found[0].coherence)
    alike = [match for match in found if (match.chaos, -match.coherence) == best]
    return found[0].encoding if len({str(match) for match in alike}) == 1 else None


def _is_western(raw: bytes) -> bool:
    try:
        text = raw.decode("cp1252")
    except UnicodeDecodeError:
        return False
    letters = {character for character in text.lower() if ord(character) > 127} - TYPOGRAPHY
    return any(letters <= alphabet for alphabet in WESTERN) and not MARK_IN_A_WORD.search(text)


def _undo_double_encoding(text: str) -> Decoded:
    """UTF-8 that was read as cp1252 and saved as UTF-8 comes back, if all of it does."""
    if not _DOUBLY_ENCODED.search(text):
        return Decoded(_checked(text))
    try:
        restored = text.translate(_TO_LATIN_1).encode("latin-1").decode()
    except UnicodeError:
        return Decoded(_checked(text), suspicious=True)
    return Decoded(_checked(restored), repair="utf-8 read as cp1252")


def _at(raw: bytes, offset: int, problem: str) -> str:
    line = raw.count(b"\n", 0, offset) + 1
    return f"line {line}, byte {offset}: {problem}"
