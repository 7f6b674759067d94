"""The words before a number, which say what it is."""

from __future__ import annotations

import re

_CHARACTERS = 28  # before a number: about four words

_PHONE = re.compile(
    r"(?:phone|tel(?:efon|\.|:|\b)|call|mobil|cell|fax|whatsapp|handy|sms|text me|dial|contact|reach|ring|hotline|☎)",
    re.I,
)
_OTHER = re.compile(
    r"(?:isbn|issn|order|invoice|bestell|rechnung|tracking|sku|serial|ticket|case|part|ref|version|build|release|"
    r"account|doi|ean|id|no\.|nr\.|#|\bv)\W{0,3}(?:number|no\.?|nr\.?|is|id)?\W{0,3}$",
    re.I,
)
_VERSION = re.compile(
    r"(?:version|ver\.?|release|build|firmware|driver|sections?|sec\.|chapter|figure|fig\.|table|clause|article|appendix|"
    r"§|\bv|/)\s{0,2}[\"'(]?$",
    re.I,
)
_SOCIAL = re.compile(r"(?:\bssn\b|social security)", re.I)
_CARD = re.compile(r"(?:card|visa|master|amex|american express|discover|credit|debit|\bcc\b|\bpan\b)", re.I)


def _before(text: str, start: int) -> str:
    return text[max(0, start - _CHARACTERS) : start]


def speaks_of_phone(text: str, start: int) -> bool:
    return _PHONE.search(_before(text, start)) is not None


def speaks_of_other(text: str, start: int) -> bool:
    """Whether the number is introduced as an order, an ISBN, a ticket or the like."""
    return _OTHER.search(_before(text, start)) is not None


def speaks_of_version(text: str, start: int) -> bool:
    return _VERSION.search(_before(text, start)) is not None


def speaks_of_social_security(text: str, start: int, end: int) -> bool:
    """Whether a number is said to be one, before it or right behind it: "… is my SSN"."""
    return _SOCIAL.search(_before(text, start)) is not None or _SOCIAL.search(text, end, end + 14) is not None


def speaks_of_card(text: str, start: int) -> bool:
    return _CARD.search(_before(text, start)) is not None
