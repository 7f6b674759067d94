"""Street addresses and boxes as they are written in the US, the UK, Germany and France.

Not covered: a house number in words, and a name without any word for a street, as in "Neumarkt 5".
"""

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
    "Pkwy|Circle|Cir|Highway|Hwy|Close|Crescent|Gardens|Grove|Mews|Row|Walk|Alley|Trail|Broadway|Loop"
)
_NAME = r"(?:[A-Z][a-z'’\-]{1,20}\.?|[0-9]{1,3}(?:st|nd|rd|th))"
_ENGLISH = re.compile(
    r"[0-9](?<![\w.,:/$€£\-].)[0-9]{0,4}[A-Za-z]?(?:-[0-9]{1,4})? (?:[NSEW]{1,2}\.? )?"
    rf"(?P<name>(?:{_NAME} ){{1,3}})(?P<kind>{_KINDS})\b\.?(?: (?:[NSEW]{{1,2}}\b|North|South|East|West))?"
    r"(?:,? (?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|#)\.? ?[0-9A-Z][0-9A-Za-z\-]{0,5})?"
    r"(?:,? (?:[A-Z][A-Za-z'’\-]{1,20} ?){1,3},? "
    r"(?:[A-Z]{2} [0-9]{5}(?:-[0-9]{4})?|[A-Z]{1,2}[0-9][0-9A-Z]? [0-9][A-Z]{2})\b)?"
)
_TOWN = r"(?:,? (?:D-|F-)?[0-9]{5} [A-ZÄÖÜÉ][\wäöüßéèô\-]{2,30})?"
_HOUSE = re.compile(
    r"[0-9](?<=(?:aße|sse|tr\.|weg|atz|lee|ing|amm|fer) .|str\..)[0-9]{0,3}(?: ?[a-h])?(?:[-/][0-9]{1,3})?(?![\w])"
    + _TOWN
)
# a ring needs a German word before it: English has "During 5 days" and "Scoring 3 times"
_GERMAN_NAME = re.compile(
    r"(?:(?:[A-ZÄÖÜ][\wäöüß.]{0,30}-){0,4}[A-ZÄÖÜ][\wäöüß]{1,30}(?:stra(?:ß|ss)e|str\.|weg|platz|allee|gasse|damm|ufer|(?:stadt|nord|süd|ost|west|berg|hof|markt|feld|burg)ring)"
    r"|(?:(?:[A-ZÄÖÜ][\wäöüß.]{0,30}-){1,4}|(?:(?:Am|An der|Auf dem|Im|Zum|Zur) )?[A-ZÄÖÜ][\wäöüß]{2,30} )"
    r"(?:Stra(?:ß|ss)e|Str\.|Weg|Platz|Allee|Gasse|Damm|Ufer)) $"
)
_GERMAN_PLACE = re.compile(
    r"(?<!\w)(?:Am|Im|Zum|Zur|Unter den|(?:An|Auf|In|Hinter|Vor) de[mnr]) (?:(?:Alte|Neue|Große|Kleine)[nrms]? )?"
    r"[A-ZÄÖÜ]?[\wäöüß\-]{0,20}(?i:linden|markt|hof) "
    r"[0-9]{1,3}[a-h]?(?![\w.,]?[\w])(?! (?!in |bei |und |oder )[\wäöüß%€])" + _TOWN
)
_FRENCH = re.compile(
    r"[0-9](?<![\w.,:/$€£\-].)[0-9]{0,3}(?: ?(?:bis|ter|quater|[A-D])(?!\w))?,? "
    r"(?:(?:[Rr]ue|[Aa]venue|[Bb]oulevard|[Ii]mpasse|[Cc]hemin|[Aa]llée|[Qq]uai|(?:place|cours|route|square)(?= d)) )"
    r"(?:(?:de la|de|du|des|la|le|les) |(?:de )?[ldLD]['’]){0,1}[A-ZÉÈÀÂÎÔ][\wéèêëàâîïôûç'’\-]{1,30}"
    r"(?: (?:d[eu]s? |la |le )?[A-ZÉÈÀÂÎÔ][\wéèêëàâîïôûç'’\-]{1,30}){0,4}" + _TOWN
)
_BOX = re.compile(
    r"(?:(?<!\w)P\.? ?O\.? Box|Postfach) [0-9]{1,6}(?: [0-9]{2,4}){0,2}(?![\w-])"
    r"(?:,? (?:[A-Z][A-Za-z'’\-]{1,20} ?){1,3},? [A-Z]{2} [0-9]{5}(?:-[0-9]{4})?(?!\w))?" + _TOWN
)
_NAME_CHARACTERS = 70
_YEAR = re.compile(r"(?:1[5-9]|20)[0-9]{2} ")
_IN_YEAR = re.compile(r"\b(?:in|since|by|of|from|until|before|after|during|the|and|to)\s$", re.IGNORECASE)


# "2 Right Turns Close to it": a few things, and a word that is a street's only sometimes
_LOOSE_KINDS = frozenset(
    {"Way", "Place", "Walk", "Drive", "Close", "Court", "Row", "Circle", "Square", "Trail", "Loop"}
)
_MOST_THINGS = 12
_THINGS = re.compile(r"(?:(?<![su'’i])s|Men|Women|People|Children|Big|Large|Small|Huge|Good|Right|Wrong|Whole) $")
_NO_HOUSE = re.compile(r"\b(?:the|these|those|all|only|chapter|figure|lesson|part|step|page|rule)\s$", re.IGNORECASE)


def find(text: str, search: Search) -> Iterator[Finding]:
    """Every house number with a street, and every box; a town with a postal code behind it makes it HIGH."""
    del search
    for match in _ENGLISH.finditer(text):
        if not _is_year(text, match):
            address = match[0].rstrip(".")  # of the sentence, or of an abbreviation that is as well known without
            sure = Confidence.LOW if _counts_things(text, match) else _sure(address)
            yield Finding(match.start(), match.start() + len(address), "street", sure)
    for house in _HOUSE.finditer(text):
        beginning = max(0, house.start() - _NAME_CHARACTERS)
        name = _GERMAN_NAME.search(text[beginning : house.start()].removesuffix(" ") + " ")
        if name is not None:
            yield Finding(beginning + name.start(), house.end(), "street", _sure(house[0]))
    for match in _FRENCH.finditer(text):
        if not _is_year(text, match):
            yield Finding(*match.span(), "street", _sure(match[0]))
    for pattern in (_GERMAN_PLACE, _BOX):
        for match in pattern.finditer(text):
            yield Finding(*match.span(), "street", _sure(match[0]))


def _is_year(text: str, match: re.Match[str]) -> bool:
    """Whether the number is a year: "in 1929 Wall Street fell"."""
    if not _YEAR.match(match[0]):
        return False
    return _IN_YEAR.search(text, max(0, match.start() - 8), match.start()) is not None


def _counts_things(text: str, match: re.Match[str]) -> bool:
    """Whether the number rather counts or numbers something: "the 3 Wise Men Walk home"."""
    if _NO_HOUSE.search(text, max(0, match.start() - 10), match.start()):
        return True
    house = re.match(r"[0-9]+", match[0])
    few = house is not None and int(house[0]) <= _MOST_THINGS
    return few and match["kind"] in _LOOSE_KINDS and _THINGS.search(match["name"]) is not None


def _sure(address: str) -> Confidence:
    return Confidence.HIGH if re.search(r"[0-9]\D+[0-9]", address) else Confidence.MEDIUM
