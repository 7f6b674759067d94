"""Values that nobody has: of the same kind as what they stand for, and out of ranges that are kept free.

Domains reserved for documentation (RFC 2606), numbers for films and books (+1 … 555-01xx), networks for documentation
and for benchmarks (RFC 3849, RFC 2544), areas of social security numbers that are not given out, a German bank code
that cannot be, the range of cards that payment providers test with.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable

from tasks.data.personal.cards import luhn_digit
from tasks.data.personal.ibans import remainder

_FIRST = [
    "Alex", "Robin", "Sam", "Kim", "Jamie", "Casey", "Riley", "Quinn",
    "Avery", "Rowan", "Morgan", "Taylor", "Jordan", "Drew", "Blake", "Reese",
]  # fmt: skip
_LAST = [
    "Marlow", "Tennick", "Ashby", "Corwin", "Delane", "Farrow", "Hollis",
    "Kestrel", "Larkin", "Merrow", "Norcott", "Ostley", "Penrow", "Quill",
]  # fmt: skip
_STREETS = [
    "Sample", "Specimen", "Pattern", "Placeholder", "Fictional", "Invented",
]  # fmt: skip
_PREFIXES = {
    "openai_key": "sk-proj-", "anthropic_key": "sk-ant-", "aws_key": "AKIA", "github_token": "ghp_",
    "gitlab_token": "glpat-", "slack_token": "xoxb-", "google_key": "AIza", "stripe_key": "sk_test_",
    "huggingface_token": "hf_", "jwt": "eyJ",
}  # fmt: skip


class Draw:
    """Numbers and letters that follow from a key, a type, a value and the number of the try."""

    def __init__(self, key: bytes, kind: str, value: str, attempt: int) -> None:
        text = f"{kind}\0{attempt}\0{value}".encode("utf-8", "surrogatepass")
        digest = hmac.new(key, text, hashlib.sha256).digest()
        self._left = int.from_bytes(digest)
        self.letters = base64.b32encode(digest).decode().rstrip("=").lower()

    def below(self, limit: int) -> int:
        self._left, number = divmod(self._left, limit)
        return number

    def of(self, words: list[str]) -> str:
        return words[self.below(len(words))]


def _email(draw: Draw) -> str:
    return f"{draw.of(_FIRST).lower()}.{draw.letters[:10]}@example.org"


def _phone(draw: Draw) -> str:
    area = f"{draw.below(8) + 2}{draw.below(9)}{draw.below(8) + 2}"
    return f"({area}) 555-01{draw.below(100):02}"


def _iban(draw: Draw) -> str:
    account = f"00000000{draw.below(10**10):010}"
    return f"DE{98 - remainder('DE00' + account):02}{account}"


def _card(draw: Draw) -> str:
    payload = f"400000{draw.below(10**9):09}"
    return payload + luhn_digit(payload)


def _ssn(draw: Draw) -> str:
    return f"9{draw.below(100):02}-{draw.below(49) + 1:02}-{draw.below(9999) + 1:04}"


def _ip(draw: Draw) -> str:
    return f"198.{draw.below(2) + 18}.{draw.below(256)}.{draw.below(256)}"


def _street(draw: Draw) -> str:
    return f"{draw.below(90000) + 10000} {draw.of(_STREETS)} Street"


def _url_login(draw: Draw) -> str:
    return f"user-{draw.letters[:8]}:pass-{draw.letters[8:18]}"


def _person(draw: Draw) -> str:
    return f"{draw.of(_FIRST)} {draw.letters[0].upper()}{draw.letters[1:4]} {draw.of(_LAST)}"


def _secret(prefix: str) -> Callable[[Draw], str]:
    return lambda draw: f"{prefix}EXAMPLE{draw.letters[:24]}"


# type → how a surrogate is drawn, and what all of its surrogates look like
KINDS: dict[str, tuple[Callable[[Draw], str], str]] = {
    "email": (_email, r"[a-z]{2,8}\.[a-z2-7]{10}@example\.org"),
    "phone": (_phone, r"\([2-9][0-8][2-9]\) 555-01[0-9]{2}"),
    "iban": (_iban, r"DE[0-9]{2}00000000[0-9]{10}"),
    "card": (_card, r"400000[0-9]{10}"),
    "ssn": (_ssn, r"9[0-9]{2}-[0-4][0-9]-[0-9]{4}"),
    "ip": (_ip, r"198\.1[89]\.[0-9]{1,3}\.[0-9]{1,3}"),
    "street": (_street, r"[1-9][0-9]{4} [A-Z][a-z]+ Street"),
    "url_login": (_url_login, r"user-[a-z2-7]{8}:pass-[a-z2-7]{10}"),
    "person": (_person, r"[A-Z][a-z]+ [A-Z2-7][a-z2-7]{3} [A-Z][a-z]+"),
}
_OTHER = r"(?:" + "|".join(map(re.escape, _PREFIXES.values())) + r"|)EXAMPLE[a-z2-7]{24}"
SHAPE = re.compile("|".join([*(f"(?P<{name}>{shape})" for name, (_, shape) in KINDS.items()), f"(?P<secret>{_OTHER})"]))


def draw_surrogate(key: bytes, kind: str, value: str, attempt: int = 0) -> str:
    """The surrogate for a value: the same for the same key, type, value and try."""
    make, _ = KINDS.get(kind) or (_secret(_PREFIXES.get(kind, "")), "")
    return make(Draw(key, kind, value, attempt))
