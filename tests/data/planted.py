"""Real text with made-up personal data and secrets in it, and the truth beside it; the same for the same seed.

Only types with a form of their own are planted, in sentences that give them away and in sentences that do not, as their
makers here write them or in one of the ways of `planted_wild`. Beside them stand things that look alike and are none.
"""

from __future__ import annotations

import base64
import random
import re
import string
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from pydoc_data.topics import topics

from tasks.data.personal import find_personal
from tasks.data.personal.cards import luhn_digit
from tasks.data.personal.ibans import LENGTHS, remainder
from tests.data.planted_wild import ALPHANUMERIC as _LETTERS
from tests.data.planted_wild import LOOKALIKES, WILD, Form, Make
from tests.data.planted_wild import chars as _chars
from tests.data.planted_wild import digits as _digits


@dataclass(frozen=True)
class Planted:
    """A value in a text, by its place in characters."""

    start: int
    end: int
    type: str
    form: str = ""  # of `planted_wild`; empty for the plain one


@dataclass
class Passage:
    """A text with what was planted in it; nothing else in it is personal."""

    text: str
    planted: list[Planted] = field(default_factory=list)


def passages(seed: int, count: int) -> Iterator[Passage]:
    """Passages of real prose with one to four planted values and as many hard negatives."""
    draw = random.Random(seed)
    prose = sentences()
    kinds = sorted(MAKERS)
    for number in range(count):
        passage = Passage("")
        for step in range(draw.randint(1, 4)):
            _append(passage, draw.choice(prose))
            kind = kinds[(number + step * 7) % len(kinds)]
            _plant(passage, draw, kind)
            _append(passage, hard_negative(draw))
        yield passage


@dataclass
class Tally:
    """What was found of what was planted: by type, and by type and form."""

    planted: Counter[str] = field(default_factory=Counter)
    claimed: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)

    def precision(self, kind: str) -> float:
        return self.right[kind] / max(1, self.claimed[kind])

    def recall(self, name: str) -> float:
        return self.right[name] / self.planted[name]


def tally(texts: Iterable[Passage]) -> Tally:
    """Search the passages; right is a claim of the very characters and the type that were planted."""
    told = Tally()
    for passage in texts:
        claims = {(each.start, each.end, each.type) for each in find_personal(passage.text)}
        told.claimed.update(kind for *_, kind in claims)
        for each in passage.planted:
            names = [each.type, f"{each.type}, {each.form}"] if each.form else [each.type]
            told.planted.update(names)
            told.right.update(names if (each.start, each.end, each.type) in claims else [])
    return told


def sentences() -> list[str]:
    """Real English prose that is at hand: sentences of Python's own manual, without the programs in it."""
    text = " ".join(" ".join(topics.values()).split())
    found = [sentence.strip() + "." for sentence in text.split(". ")]
    plain = set(string.ascii_letters + " ,.;'-()")
    return [each for each in found if 40 < len(each) < 400 and set(each) <= plain]


def hard_negative(draw: random.Random) -> str:
    """A sentence with something that a careless pattern takes for personal data."""
    return draw.choice(NEGATIVES)(draw)


def _append(passage: Passage, text: str) -> None:
    passage.text += (" " if passage.text else "") + text


def _plant(passage: Passage, draw: random.Random, kind: str) -> None:
    forms = [Form(kind, "", lambda draw: _plain(draw, kind)), *(form for form in WILD if form.type == kind)]
    form = draw.choice(forms)
    before, value, after = re.split("[⟨⟩]", form.make(draw))
    _append(passage, before + value + after)
    end = len(passage.text) - len(after)
    passage.planted.append(Planted(end - len(value), end, kind, form.name))


def _plain(draw: random.Random, kind: str) -> str:
    """A sentence with a value of its maker; of a URL only the login is the value."""
    value = MAKERS[kind](draw)
    login = re.sub("://(.*)@", r"://⟨\1⟩@", value) if kind == "url_login" else f"⟨{value}⟩"
    return draw.choice(FRAMES.get(kind, FRAMES[""])).replace("|", login)


def _email(draw: random.Random) -> str:
    first, last = draw.choice(FIRST), draw.choice(LAST)
    local = draw.choice([f"{first}.{last}", f"{first[0]}{last}{_digits(draw, 2)}", f"{first}_{last}", f"{first}+news"])
    domain = draw.choice(["gmail.com", "web.de", "firma-nord.de", "mail.corp.co.uk", "uni.edu", "post.schön.de"])
    return f"{draw.choice([local, local.title(), local.upper()])}@{domain}"


def _phone(draw: random.Random) -> str:
    area, office, line = draw.choice(["212", "415", "312", "617", "206"]), f"{draw.randint(220, 554)}", _digits(draw, 4)
    berlin, mobile = f"{draw.randint(20, 99)}{_digits(draw, 4)}", f"{draw.randint(20, 99)}{_digits(draw, 5)}"
    london = f"{draw.choice([70, 73, 76])}{_digits(draw, 2)} {_digits(draw, 4)}"
    return draw.choice(
        [
            f"({area}) {office}-{line}", f"{area}-{office}-{line}", f"{area}.{office}.{line}",
            f"+1 {area} {office} {line}", f"+1-{area}-{office}-{line}", f"1-{area}-{office}-{line}",
            f"030 {berlin}", f"030/{berlin}", f"+49 30 {berlin}", f"0171 {mobile}", f"+49171{mobile}",
            f"0049 171 {mobile}", f"020 {london}", f"+44 20 {london}", f"(020) {london}",
        ]
    )  # fmt: skip


def _iban(draw: random.Random) -> str:
    country = draw.choice(["DE", "FR", "AT", "ES", "NL", "GB", "CH"])
    bank = {"NL": "ABNA", "GB": "WEST"}.get(country, "")
    account = bank + str(draw.randint(1, 9)) + _digits(draw, LENGTHS[country] - 5 - len(bank))
    whole = f"{country}{98 - remainder(f'{country}00{account}'):02}{account}"
    grouped = " ".join(whole[at : at + 4] for at in range(0, len(whole), 4))
    return draw.choice([whole, grouped])


def _card(draw: random.Random) -> str:
    start, length = draw.choice([("4539", 16), ("4716", 16), ("5412", 16), ("2301", 16), ("3741", 15), ("6011", 16)])
    payload = start + _digits(draw, length - 1 - len(start))
    whole = payload + luhn_digit(payload)
    if length == 15:
        return draw.choice([whole, f"{whole[:4]} {whole[4:10]} {whole[10:]}"])
    sign = draw.choice(["", " ", "-"])
    return sign.join(whole[at : at + 4] for at in range(0, 16, 4))


def _ssn(draw: random.Random) -> str:
    area = draw.choice([draw.randint(1, 665), draw.randint(667, 899)])
    return f"{area:03}-{draw.randint(1, 99):02}-{draw.randint(1, 9999):04}"


def _ip(draw: random.Random) -> str:
    four = (
        f"{draw.choice([52, 81, 93, 151, 185])}.{draw.randint(10, 250)}.{draw.randint(1, 250)}.{draw.randint(1, 250)}"
    )
    groups = [f"{draw.randint(1, 0xFFFF):x}" for _ in range(6)]
    return draw.choice([four, f"2a02:{':'.join(groups)}:8d1", f"2a00:1450:{groups[0]}:{groups[1]}::{groups[2]}"])


def _street(draw: random.Random) -> str:
    house, name = draw.randint(1, 9999), draw.choice(["Elm", "Maple", "Old Mill", "Washington", "Queen Anne"])
    kind = draw.choice(["Street", "Ave", "Road", "Blvd", "Lane", "Drive"])
    town = draw.choice(["", f", Springfield, IL {_digits(draw, 5)}", ", London NW1 6XE", " Apt 4B"])
    german = draw.choice(["Hauptstraße", "Goethestr.", "Lindenallee", "Birkenweg", "Karl-Marx-Straße", "Marktplatz"])
    code = draw.choice(["", f", {_digits(draw, 5)} Berlin"])
    return draw.choice([f"{house} {name} {kind}{town}", f"{german} {draw.randint(1, 199)}{code}"])


def _url(draw: random.Random) -> str:
    scheme, host = draw.choice(["https", "postgres", "redis", "ftp"]), draw.choice(["db.firm.net", "cache", "10.0.0.5"])
    return f"{scheme}://{draw.choice(FIRST)}:{_chars(draw, 10)}@{host}/main"


def _password(draw: random.Random) -> str:
    return _chars(draw, draw.randint(8, 14)) + draw.choice(["!7", "#2", "9a"])


def _jwt(draw: random.Random) -> str:
    body = base64.urlsafe_b64encode(f'{{"sub":"{_digits(draw, 8)}","admin":true}}'.encode()).decode().rstrip("=")
    return f"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.{body}.{_chars(draw, 43)}"


def _private_key(draw: random.Random) -> str:
    lines = "\n".join(_chars(draw, 64) for _ in range(6))
    kind = draw.choice(["", "RSA ", "EC ", "OPENSSH "])
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{lines}\n-----END {kind}PRIVATE KEY-----"


FIRST = ["anna", "bob", "carlos", "dmitri", "emma", "fatima", "george", "hanna"]
LAST = ["smith", "miller", "nowak", "garcia", "schmidt", "okafor", "tanaka"]
MAKERS: dict[str, Make] = {
    "email": _email,
    "phone": _phone,
    "iban": _iban,
    "card": _card,
    "ssn": _ssn,
    "ip": _ip,
    "street": _street,
    "url_login": _url,
    "password": _password,
    "secret": lambda draw: _chars(draw, draw.randint(24, 40)),
    "jwt": _jwt,
    "private_key": _private_key,
    "openai_key": lambda draw: draw.choice([f"sk-{_chars(draw, 48)}", f"sk-proj-{_chars(draw, 60, _LETTERS + '_-')}a"]),
    "anthropic_key": lambda draw: f"sk-ant-api03-{_chars(draw, 90, _LETTERS + '_-')}AA",
    "aws_key": lambda draw: "AKIA" + _chars(draw, 16, string.ascii_uppercase + "234567"),
    "aws_secret": lambda draw: _chars(draw, 37) + "aZ8",
    "github_token": lambda draw: draw.choice(["ghp_", "gho_", "ghs_"]) + _chars(draw, 36),
    "gitlab_token": lambda draw: f"glpat-{_chars(draw, 20)}",
    "slack_token": lambda draw: f"xoxb-{_digits(draw, 12)}-{_digits(draw, 12)}-{_chars(draw, 24)}",
    "google_key": lambda draw: f"AIza{_chars(draw, 35)}",
    "stripe_key": lambda draw: f"sk_live_{_chars(draw, 24)}",
    "huggingface_token": lambda draw: f"hf_{_chars(draw, 34)}",
}
# what stands before and after a value
FRAMES: dict[str, list[str]] = {
    "": ["See | for more.", "It was |.", "(|)", "The one you want: |, I think.", '"|"', "We have | on file"],
    "phone": ["Call | today.", "My number is |.", "(tel. |)", "She is at | until five.", "Reach me: |"],
    "card": ["My card is |.", "I paid with |, as always.", "Visa |"],
    "ssn": ["My SSN is |.", "He wrote | on the form.", "social security number |"],
    "password": [
        "password: |",
        "The password is set by PASSWORD=|",
        'db_password = "|"',
        "'password': '|'",
        "pwd=| # mine",
    ],
    "secret": ["api_key = '|'", "SECRET_KEY=|", 'auth_token: "|"', "client_secret=|", "export API_TOKEN=|"],
    "aws_secret": ["aws_secret_access_key = |", "AWS_SECRET_ACCESS_KEY=|", "aws: |"],
}


def _isbn(draw: random.Random) -> str:
    return f"ISBN 978-{draw.randint(0, 9)}-{_digits(draw, 3)}-{_digits(draw, 5)}-{draw.randint(0, 9)}"


NEGATIVES: list[Make] = [
    *LOOKALIKES,
    lambda draw: (
        f"That needs version {draw.randint(1, 9)}.{draw.randint(0, 20)}.{draw.randint(0, 20)}.{draw.randint(1, 99)}."
    ),
    lambda draw: f"Your order {_digits(draw, 12)} has left.",
    lambda draw: f"Order no. {_digits(draw, 10)}, invoice {draw.randint(2000, 2026)}-{_digits(draw, 6)}.",
    lambda draw: f"Natalia sold 48/2=24 clips, and 48+24={draw.randint(60, 90)} together: 3 * 1,250,000.00 = 3750000.",
    lambda draw: (
        f"At {draw.randint(0, 23):02}:{draw.randint(0, 59):02}:{draw.randint(0, 59):02} "
        f"on 2024-05-{draw.randint(10, 28)}."
    ),
    lambda draw: f"It is in {_isbn(draw)}.",
    lambda draw: f"The sum is {sha256(_digits(draw, 9).encode()).hexdigest()}.",
    lambda draw: f"Since commit {sha1(_digits(draw, 9).encode(), usedforsecurity=False).hexdigest()} it works.",
    lambda draw: f"The row {uuid.UUID(int=draw.getrandbits(128), version=4)} is gone.",
    lambda draw: (
        f"Written at {draw.randint(1_600_000_000, 1_799_999_999)}, that is {_digits(draw, 3)},{_digits(draw, 3)} ms."
    ),
    lambda draw: f"Use @decorator or std::map, image@2x.png, and pi is 3.14159265358979, not {draw.randint(3, 9)}.",
    lambda draw: "Set password = getpass() and token: str = os.environ['TOKEN'], api_key=\"YOUR_API_KEY\".",
    lambda draw: f"In {draw.randint(1900, 2020)} Wall Street fell; {draw.randint(2, 9)} Apples and 10 Boxes were left.",
    lambda draw: f"The mass is {_digits(draw, 4)}.{_digits(draw, 4)} kg, the ratio 16:9, and the range 1990-2005.",
    lambda draw: "The key: a good night's sleep. The secret: practice. Password rules are strict: eight characters.",
    lambda draw: (
        f"Grid {draw.randint(100, 999)} {draw.randint(100, 999)} {draw.randint(10, 99)} {draw.randint(10, 99)}, lot 12."
    ),
]
