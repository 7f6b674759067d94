"""Street addresses as they are written in the US, the UK and Germany."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tasks.data.personal.finding import Confidence, Finding
from tasks.data.personal.hints import STREETS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.personal.search import Search

TYPES = ("street",)
NEEDS = STREETS

_KINDS = (
    "Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Square|Sq|Way|Terrace|Ter|Parkway|"
    "Pkwy|Circle|Cir|Highway|Hwy|Close|Crescent|Gardens|Grove|Mews|Row|Walk|Alley|Trail|Broadway"
)
_NAME = r"(?:[A-Z][a-z'’\-]{1,20}\.?|[0-9]{1,3}(?:st|nd|rd|th))"
_ENGLISH = re.compile(
    r"[0-9](?<![\w.,:/$€£\-].)[0-9]{0,4}[A-Za-z]?(?:-[0-9]{1,4})? (?:[NSEW]{1,2}\.? )?"
    rf"(?:{_NAME} ){{1,3}}(?:{_KINDS})\b\.?(?: (?:[NSEW]{{1,2}}\b|North|South|East|West))?"
    r"(?:,? (?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|#)\.? ?[0-9A-Z][0-9A-Za-z\-]{0,5})?"
    r"(?:,? (?:[A-Z][A-Za-z'’\-]{1,20} ?){1,3},? "
    r"(?:[A-Z]{2} [0-9]{5}(?:-[0-9]{4})?|[A-Z]{1,2}[0-9][0-9A-Z]? [0-9][A-Z]{2})\b)?"
)
_HOUSE = re.compile(
    r"[0-9](?<=(?:aße|sse|tr\.|weg|atz|lee|ing|amm|fer) .)[0-9]{0,3}(?: ?[a-h])?(?:[-/][0-9]{1,3})?(?![\w])"
    r"(?:,? (?:D-)?[0-9]{5} [A-ZÄÖÜ][\wäöüß\-]{2,30})?"
)
# a ring needs a German word before it: English has "During 5 days" and "Scoring 3 times"
_GERMAN_NAME = re.compile(
    r"(?:(?:[A-ZÄÖÜ][\wäöüß.]{0,30}-){0,4}[A-ZÄÖÜ][\wäöüß]{1,30}(?:stra(?:ß|ss)e|str\.|weg|platz|allee|gasse|damm|ufer|(?:stadt|nord|süd|ost|west|berg|hof|markt|feld|burg)ring)"
    r"|(?:(?:[A-ZÄÖÜ][\wäöüß.]{0,30}-){1,4}|(?:(?:Am|An der|Auf dem|Im|Zum|Zur) )?[A-ZÄÖÜ][\wäöüß]{2,30} )"
    r"(?:Stra(?:ß|ss)e|Str\.|Weg|Platz|Allee|Gasse|Damm|Ufer)) $"
)
_NAME_CHARACTERS = 70
_YEAR = re.compile(r"(?:1[5-9]|20)[0-9]{2} ")
_IN_YEAR = re.compile(r"\b(?:in|since|by|of|from|until|before|after|during|the|and|to)\s$", re.IGNORECASE)


def find(text: str, search: Search) -> Iterator[Finding]:
    """Every house number with a street; a town with a postal code behind it makes it HIGH."""
    del search
    for match in _ENGLISH.finditer(text):
        if not (_YEAR.match(match[0]) and _IN_YEAR.search(text, max(0, match.start() - 8), match.start())):
            address = match[0].rstrip(".")  # of the sentence, or of an abbreviation that is as well known without
            yield Finding(match.start(), match.start() + len(address), "street", _sure(address))
    for house in _HOUSE.finditer(text):
        beginning = max(0, house.start() - _NAME_CHARACTERS)
        name = _GERMAN_NAME.search(text[beginning : house.start()])
        if name is not None:
            yield Finding(beginning + name.start(), house.end(), "street", _sure(house[0]))


def _sure(address: str) -> Confidence:
    return Confidence.HIGH if re.search(r"[0-9]\D+[0-9]", address) else Confidence.MEDIUM
