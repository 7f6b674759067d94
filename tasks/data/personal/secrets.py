"""Keys and tokens: each provider's own form where there is one, else what a word for a secret is given as its value."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING

from tasks.data.personal.finding import Confidence, Finding
from tasks.data.personal.hints import ASSIGNMENT, TOKENS, has_token, names_secret

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.personal.search import Search

NEEDS = TOKENS | ASSIGNMENT

_FREE, _OVER = r"(?<![A-Za-z0-9_])", r"(?![A-Za-z0-9_])"
_WORD = r"[A-Za-z0-9_\-]"

# type → its forms. Quantifiers are possessive, so that a long run is looked at once.
_FORMS: dict[str, str] = {
    "anthropic_key": rf"sk-ant-{_WORD}{{20,400}}+",
    "openai_key": rf"sk-(?!ant-|or-)(?:(?:proj|svcacct|admin|None)-{_WORD}{{20,400}}+|[A-Za-z0-9]{{32,100}}+)",
    "aws_key": r"(?:AKIA|ASIA)[A-Z2-7]{16}",
    "github_token": r"(?:gh[pousr]_[A-Za-z0-9]{36,255}+|github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{40,80}+)",
    "gitlab_token": rf"gl(?:pat|dt|rt|ft|ptt|cbt|imt|agent|soat)-{_WORD}{{20,100}}+",
    "slack_token": r"(?:xox[abeoprs]-[0-9A-Za-z\-]{10,250}+|xapp-[0-9]-[0-9A-Za-z\-]{20,250}+"
    r"|(?<=hooks\.slack\.com/services/)T[A-Z0-9]{6,14}/B[A-Z0-9]{6,14}/[A-Za-z0-9]{16,40}+)",
    "google_key": rf"(?:AIza{_WORD}{{35}}|GOCSPX-{_WORD}{{28}}|ya29\.{_WORD}{{30,400}}+)",
    "stripe_key": r"(?:[srp]k_(?:live|test)_[0-9A-Za-z]{16,247}+|whsec_[0-9A-Za-z+/]{24,80}+)",
    "huggingface_token": r"hf_[A-Za-z0-9]{30,60}+",
    "jwt": r"eyJ[A-Za-z0-9_\-]{8,2000}+\.eyJ[A-Za-z0-9_\-]{8,8000}+\.[A-Za-z0-9_\-]{0,2000}+",
    # hosted models, then what else lies about in the same files
    "secret": r"(?:gsk_[A-Za-z0-9]{40,60}+|xai-[A-Za-z0-9]{60,100}+|r8_[A-Za-z0-9]{30,45}+|pplx-[A-Za-z0-9]{40,60}+"
    rf"|tgp_v1_{_WORD}{{30,60}}+|fw_[A-Za-z0-9]{{20,40}}+|nvapi-{_WORD}{{50,90}}+|sk-or-v1-[0-9a-f]{{64}}"
    rf"|npm_[A-Za-z0-9]{{36}}|SG\.{_WORD}{{22}}\.{_WORD}{{43}}|dop_v1_[0-9a-f]{{64}}|key-[0-9a-f]{{32}})",
}
TYPES = (*_FORMS, "aws_secret", "private_key", "password")

# ASCII: the beginnings are literals, and `\b`-like tests would ask Unicode's tables at every character
_TOKEN = re.compile(_FREE + "(?:" + "|".join(f"(?P<{name}>{form})" for name, form in _FORMS.items()) + ")" + _OVER)
_AWS_SECRET = re.compile(r"(?<![A-Za-z0-9/+])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])")
_AWS_WORD_CHARACTERS, _AWS_PAIR_CHARACTERS = 40, 100  # from the word, and from the other half of the pair
_KEY_BEGINS = re.compile(r"-----BEGIN (?:[A-Z0-9]{2,12} ){0,2}PRIVATE KEY(?: BLOCK)?-----")
_KEY_ENDS = re.compile(r"-----END (?:[A-Z0-9]{2,12} ){0,2}PRIVATE KEY(?: BLOCK)?-----")

_BEARER = re.compile(r"bearer\s{1,3}([A-Za-z0-9_\-.~+/]{20,2000}+={0,2})", re.IGNORECASE)

_SIGN = re.compile(r"[:=](?<=[\w\"'` \])].)(?:>|={1,2})?\s{0,3}|(?P<prose>\s(?:is|was|ist|lautet):?\s{1,3})")
_NAME = re.compile(
    r"(?P<name>passw(?:or)?d|passphrase|passwort|pwd|(?<![a-z])pass|secret|token|credentials?|"
    r"authorization|(?:api|access|private|auth|signing|encryption|client|account|shared|master)[ _\-]?key"
    r"|(?<!public_)(?<!primary_)(?<!foreign_)(?<=_)key)"
    r"(?:[ _\-]?(?:key|id|value|access[_\-]key))?[\"'`\])]{0,2}\s{0,3}$",
    re.IGNORECASE,
)
_NAME_CHARACTERS = 48
_VALUE = re.compile(
    r"\"(?P<double>[^\"\n]{4,300})|'(?P<single>[^'\n]{4,300})|`(?P<back>[^`\n]{4,300})|(?P<plain>[^\s\"'`,;)}\]]{4,300})"
)
# what says that a value stands for another: all of its words do, or it is a piece of a program or of a template
_STANDS_FOR = re.compile(
    r"your|my|our|some|the|an?|this|that|here|goes|with|in|insert|change(?:me)?|replace(?:me)?|enter|add|set|use|example|"
    r"sample|dummy|fake|test|redacted|hidden|removed|none|null|nil|true|false|undefined|required|optional|empty|"
    r"passw(?:or)?d|passphrase|passwort|pass|pwd|secret|token|credentials?|key|api|access|auth|client|user|username|login|"
    r"name|id|value|string|str|bytes|int|secretstr|text|x+"
)
_BETWEEN_WORDS = re.compile(r"[\s_\-./:]+")
_TEMPLATE = re.compile(
    r"[<\[{(]|[$%](?:[{(]|[A-Za-z_][A-Za-z0-9_]*%?$)|%[sd]|([x*.])\1{2}|"
    r"(?:os|process|env|environ|self|cls|this|config|settings|request|args|options|params|props|ctx|app|app_config)\."
)
_CALL_OR_NAME = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*[(\[].*|[A-Za-z]+(?:[_.][A-Za-z_.]*)+")
_URL = re.compile(r"[a-z][a-z0-9+.\-]*://", re.IGNORECASE)
_PASSWORDS = ("pass", "pwd")
_PASSWORD_CHARACTERS, _SECRET_CHARACTERS = 6, 16
_SECRET_BITS = 3.2  # of entropy a character: above words, and above what repeats; random hex has nearly 4


def find(text: str, search: Search) -> Iterator[Finding]:
    """Every key and token; those that say they are examples are LOW."""
    del search
    lowered = text.lower()
    if has_token(text):
        yield from _tokens(text)
        yield from _bearers(text)
        yield from _private_keys(text)
    if names_secret(lowered):
        yield from _assigned(text)
    if "AKIA" in text or "ASIA" in text or "aws" in lowered:
        yield from _aws_secrets(text)


def entropy_bits(value: str) -> float:
    """Shannon's entropy of a value's own characters, in bits a character."""
    size = len(value)
    return -sum(count / size * math.log2(count / size) for count in Counter(value).values())


def _tokens(text: str) -> Iterator[Finding]:
    for match in _TOKEN.finditer(text):
        low = "EXAMPLE" in match[0] or len(set(match[0])) < 10
        yield Finding(match.start(), match.end(), match.lastgroup or "", Confidence.LOW if low else Confidence.HIGH)


def _bearers(text: str) -> Iterator[Finding]:
    for match in _BEARER.finditer(text):
        if any(map(str.isdigit, match[1])) and entropy_bits(match[1]) > _SECRET_BITS:
            low = "EXAMPLE" in match[1]
            yield Finding(*match.span(1), "secret", Confidence.LOW if low else Confidence.HIGH)


def _private_keys(text: str) -> Iterator[Finding]:
    at = 0
    while (begins := _KEY_BEGINS.search(text, at)) is not None:
        ends = _KEY_ENDS.search(text, begins.end())
        at = ends.end() if ends else len(text)  # one cut off is still a key
        if at - begins.end() > 60:
            low = "EXAMPLE" in text[begins.end() : begins.end() + 40]
            yield Finding(begins.start(), at, "private_key", Confidence.LOW if low else Confidence.HIGH)


def _assigned(text: str) -> Iterator[Finding]:
    before = 0  # a name does not reach over the sign before it
    for sign in _SIGN.finditer(text):
        name = _NAME.search(text[max(before, sign.start() - _NAME_CHARACTERS) : sign.start()])
        before = sign.end()
        match = _VALUE.match(text, sign.end()) if name else None
        if name is None or match is None:
            continue
        group = match.lastgroup or "plain"
        value = match[group].rstrip(".") if group == "plain" else match[group]
        sure = _sure_of_value(name["name"].lower(), value, quoted=group == "double")
        if sign["prose"] and sure is not None and not _is_no_word(value):
            sure = None  # "the password is required"
        if sure is not None:
            start = match.start(group)
            yield Finding(start, start + len(value), _type_of(name["name"]), sure)


def _type_of(name: str) -> str:
    return "password" if name.lower().startswith(_PASSWORDS) else "secret"


def _sure_of_value(name: str, value: str, *, quoted: bool) -> Confidence | None:
    """How sure it is that the value of what has this name is a secret; None where it is none."""
    if _stands_for_another(value) or _URL.match(value):
        return None
    if name.startswith(_PASSWORDS):
        spaced = " " in value and not quoted
        if len(value) < _PASSWORD_CHARACTERS or spaced or (name == "pass" and value.isalpha()):  # "first pass: read"
            return None
        return _sure_of_password(value)
    if len(value) < _SECRET_CHARACTERS or " " in value or entropy_bits(value) < _SECRET_BITS:
        return None
    return Confidence.LOW if "EXAMPLE" in value else Confidence.MEDIUM


def _stands_for_another(value: str) -> bool:
    if _TEMPLATE.match(value) or _CALL_OR_NAME.fullmatch(value.rstrip(":")):
        return True
    words = [word for word in _BETWEEN_WORDS.split(value.lower()) if word]
    said = [_STANDS_FOR.fullmatch(word) is not None for word in words]
    # a number is a word's where that one is addressed to the reader: your-key-1234, and not password-1234
    return any(said) and all(
        each or (word.isdigit() and len(words) > 2) for word, each in zip(words, said, strict=True)
    )


def _is_no_word(value: str) -> bool:
    """Whether a value that stands in a sentence can be nothing but a password or a key."""
    letters, digits = any(map(str.isalpha, value)), any(map(str.isdigit, value))
    return letters and digits and (len(value) >= _SECRET_CHARACTERS or any(map(_is_sign, value)))


def _sure_of_password(value: str) -> Confidence:
    if "EXAMPLE" in value or " " in value:
        return Confidence.LOW
    kinds = sum(any(test(character) for character in value) for test in (str.isalpha, str.isdigit, _is_sign))
    return Confidence.MEDIUM if kinds > 1 else Confidence.LOW


def _is_sign(character: str) -> bool:
    return not character.isalnum() and character not in ".-_/"


def _aws_secrets(text: str) -> Iterator[Finding]:
    """Forty characters of base64 with "aws" or an access key close before."""
    for match in _AWS_SECRET.finditer(text):
        before = text[max(0, match.start() - _AWS_PAIR_CHARACTERS) : match.start()]
        near = "AKIA" in before or "ASIA" in before or "aws" in before[-_AWS_WORD_CHARACTERS:].lower()
        # a Git commit, and any other SHA-1, has letters of one case
        mixed = all(re.search(letters, match[0]) for letters in ("[a-z]", "[A-Z]", "[0-9]"))
        if near and mixed and entropy_bits(match[0]) > _SECRET_BITS:
            low = "EXAMPLE" in match[0]
            yield Finding(match.start(), match.end(), "aws_secret", Confidence.LOW if low else Confidence.HIGH)
