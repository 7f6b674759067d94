"""A cheap first look that tells which families a text is worth searching for: clean text stops here.

Every pattern begins with a literal or with one small set of characters, so that `re` passes over all else quickly.
"""

from __future__ import annotations

import re

AT = 1  # an at sign
NUMBERS = 2  # a run of digits as long as a phone number's, or four numbers between dots
COLONS = 4  # what every IPv6 address has
TOKENS = 8  # the beginning of a provider's key
ASSIGNMENT = 16  # a word for a secret, and a sign that gives it a value
URL = 32  # a scheme, and an at sign; or a program that takes logins
STREETS = 64  # a number beside a name, or a word for a street or a box
ALWAYS = 128

# the ends of words for streets, of a few names of them, and of words for boxes
_BEFORE = r"(?<=(?:aße|sse|tr\.|weg|atz|lee|ing|amm|fer|rkt|hof|den|Box|ach) .|str\..)"
_FRENCH = (
    r",? (?:r(?:ue |oute d)|a(?:venue |llée )|b(?:oulevard |is )|c(?:hemin |ours d)|impasse |quai |place d|"
    r"square d|ter )"
)
_DIGITS = re.compile(rf"[0-9](?:[0-9 .()/\-]{{6}}|[A-Za-z]{{0,2}} [A-Z0-9]|{_BEFORE}|{_FRENCH})")  # all below, and more
_NUMBERS = re.compile(r"[0-9](?:(?:[ .()/\-]{0,2}[0-9]){6}|[0-9]{0,2}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9])")
_STREETS = re.compile(
    rf"[0-9](?:[A-Za-z]? (?:[NSEW]{{1,2}}\.? )?(?:[A-Z][a-z]|[0-9]{{1,3}}(?:st|nd|rd|th) [A-Z])|{_BEFORE}|{_FRENCH})"
)
_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]")
_OPENAI = re.compile(r"sk-[A-Za-z0-9_\-]{20}")
_GITLAB = re.compile(r"t-[A-Za-z0-9_\-]{20}")
_UNDERSCORED = (
    "hf_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "hub_pat_", "k_live_", "k_test_", "whsec_",
    "gsk_", "r8_", "tgp_v1_", "fw_", "npm_", "dop_v1_",
)  # fmt: skip

_SHORT = ("pass=", "pass:", "pass'", 'pass"', "pass ")


def look(text: str) -> int:
    """The hints of a text, as a sum of this module's constants; 0 says that nothing can be in it."""
    found = 0
    if "@" in text:
        found = AT | URL if "://" in text else AT
    if _DIGITS.search(text):
        found |= (NUMBERS if _NUMBERS.search(text) else 0) | (STREETS if _STREETS.search(text) else 0)
    if "curl " in text:
        found |= URL
    if _COLONS.search(text):
        found |= COLONS
    if has_token(text):
        found |= TOKENS
    if ("=" in text or ":" in text or _tells_secret(text)) and names_secret(text.lower()):
        found |= ASSIGNMENT
    return found


def has_token(text: str) -> bool:
    """Whether some provider's key may begin in the text."""
    # written out: a loop over the same words takes twice as long
    return (
        ("sk-" in text and _OPENAI.search(text) is not None)
        or "AKIA" in text or "ASIA" in text or "xox" in text or "xapp-" in text or "AIza" in text
        or "ya29." in text or "GOCSPX-" in text or "eyJ" in text or "-----BEGIN" in text or "hooks.slack" in text
        or ("gl" in text and "t-" in text and _GITLAB.search(text) is not None)
        or ("_" in text and any(word in text for word in _UNDERSCORED))
        or ("-" in text and ("xai-" in text or "pplx-" in text or "nvapi-" in text or "key-" in text))
        or "SG." in text or "earer " in text or "BEARER " in text
    )  # fmt: skip


def _tells_secret(text: str) -> bool:
    """Whether a text may say in a sentence what a password or a key is."""
    return "word is " in text or "key is " in text or "oken is " in text


def names_secret(lowered: str) -> bool:
    """Whether a text in small letters has a word for a secret."""
    return (
        "key" in lowered or "token" in lowered or "secret" in lowered or "passw" in lowered or "pwd" in lowered
        or "credential" in lowered or "passphrase" in lowered or "aws:" in lowered or "aws_" in lowered
        or "authorization" in lowered
        or ("pass" in lowered and any(word in lowered for word in _SHORT))
    )  # fmt: skip
