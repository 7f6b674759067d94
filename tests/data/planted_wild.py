"""How people write personal data and secrets when nobody tells them how: sentences, the value between ⟨ and ⟩.

Taken from how such things are written, and not from what is found: some of these forms are missed.
"""

from __future__ import annotations

import base64
import random
import string
from collections.abc import Callable
from typing import NamedTuple

from tasks.data.personal.cards import luhn_digit
from tasks.data.personal.ibans import remainder

Make = Callable[[random.Random], str]
ALPHANUMERIC = string.ascii_letters + string.digits
_HEX = string.digits + "abcdef"


class Form(NamedTuple):
    """One way to write a type: makes a sentence with the value between ⟨ and ⟩."""

    type: str
    name: str
    make: Make


def digits(draw: random.Random, count: int) -> str:
    return "".join(draw.choices(string.digits, k=count))


def chars(draw: random.Random, count: int, alphabet: str = ALPHANUMERIC) -> str:
    return "".join(draw.choices(alphabet, k=count))


def _into(*frames: str) -> Callable[[Make], Make]:
    """A maker of values as one of sentences: each of its values in one of these frames, at the bar."""
    return lambda make: lambda draw: draw.choice(frames).replace("|", f"⟨{make(draw)}⟩", 1)


def _human_password(draw: random.Random) -> str:
    word = draw.choice(WORDS)
    number = draw.choice(["1", "12", "77", "123", "2024", digits(draw, 2)])
    return word + draw.choice([number + draw.choice("!#$?*@"), draw.choice("!#$?*@-_") + number, number])


def _signed_password(draw: random.Random) -> str:
    return draw.choice(WORDS) + digits(draw, draw.randint(1, 4)) + draw.choice("!#$?*@")


def _titled_email(draw: random.Random) -> str:
    local = draw.choice(["John.Smith", "Info", "anna_k", "office", "M.Garcia1987"])
    return f"{local}@{draw.choice(['Gmail.Com', 'Hotel-Berlin.De', 'Web.De', 'Firm-Nord.Co.Uk', 'Mail.Firma.Eu'])}"


def _card_digits(draw: random.Random) -> str:
    payload = draw.choice(["4539", "4716", "5412", "2301", "6011"]) + digits(draw, 11)
    return payload + luhn_digit(payload)


def _groups(whole: str, sizes: tuple[int, ...], sign: str) -> str:
    ends = [sum(sizes[: at + 1]) for at in range(len(sizes))]
    return sign.join(whole[end - size : end] for end, size in zip(ends, sizes, strict=True))


def _card_in(*ways: tuple[int, ...], signs: str) -> Make:
    return lambda draw: _groups(_card_digits(draw), draw.choice(ways), draw.choice(signs))


def _ssn(draw: random.Random, sign: str) -> str:
    return f"{draw.randint(100, 665)}{sign}{draw.randint(1, 99):02}{sign}{draw.randint(1, 9999):04}"


def _iban(draw: random.Random) -> str:
    country = draw.choice(sorted(ACCOUNTS))
    alphabets = {"n": string.digits, "a": string.ascii_uppercase, "c": string.digits * 4 + string.ascii_uppercase}
    account = "".join(chars(draw, int(part[:-1]), alphabets[part[-1]]) for part in ACCOUNTS[country].split())
    whole = f"{country}{98 - remainder(f'{country}00{account}'):02}{account}"
    return draw.choice([whole, *(sign.join(whole[at : at + 4] for at in range(0, len(whole), 4)) for sign in " -")])


def _french(draw: random.Random) -> str:
    house = f"{draw.randint(1, 199)}{draw.choice(['', '', ' bis', ' ter', 'B'])}{draw.choice(['', ','])}"
    town = draw.choice(["", f", {draw.randint(10, 95)}{digits(draw, 3)} {draw.choice(['Paris', 'Lyon', 'Nîmes'])}"])
    return f"{house} {draw.choice(FRENCH_STREETS)}{town}"


def _german(draw: random.Random) -> str:
    house = f"{draw.randint(1, 140)}{draw.choice(['', '', 'a'])}"
    code = draw.choice(["", f", {draw.randint(10, 99)}{digits(draw, 3)} Köln"])
    return f"{draw.choice(GERMAN_PLACES)} {house}{code}"


def _unspaced(draw: random.Random) -> str:
    return f"{draw.choice(['Bahnhofstr.', 'Goethestr.', 'Schillerstr.', 'Karl-Marx-Str.'])}{draw.randint(1, 180)}"


def _box(draw: random.Random) -> str:
    box, number = draw.choice(["PO Box", "P.O. Box", "P. O. Box", "Post Office Box", "PO BOX"]), draw.randint(1, 99999)
    english = f"{box} {number}{draw.choice(['', f', Austin, TX 7{digits(draw, 4)}'])}"
    german = (
        f"Postfach {digits(draw, 2)} {digits(draw, 2)} {digits(draw, 2)}, {draw.randint(10, 99)}{digits(draw, 3)} Köln"
    )
    return draw.choice([english, german, f"BP {number}, 750{digits(draw, 2)} Paris"])


def _provider_key(draw: random.Random) -> str:
    return draw.choice(
        [
            f"gsk_{chars(draw, 52)}", f"xai-{chars(draw, 80)}", f"r8_{chars(draw, 37)}", f"pplx-{chars(draw, 48)}",
            f"npm_{chars(draw, 36)}", f"SG.{chars(draw, 22)}.{chars(draw, 43)}", f"key-{chars(draw, 32, _HEX)}",
        ]
    )  # fmt: skip


def _bearer(draw: random.Random) -> str:
    return draw.choice(
        [chars(draw, 40), chars(draw, 64, _HEX), f"{chars(draw, 20)}.{chars(draw, 30)}-{chars(draw, 9)}"]
    )


def _unsigned_jwt(draw: random.Random) -> str:
    head, body = '{"alg":"none","typ":"JWT"}', f'{{"sub":"{digits(draw, 8)}","role":"admin"}}'
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in (head, body)) + "."


def _url_with(draw: random.Random, sign: str, schemes: tuple[str, ...]) -> str:
    login = f"{draw.choice(['admin', 'bob', 'app_user'])}:{chars(draw, draw.randint(2, 6))}{sign}{chars(draw, 4)}"
    return (
        f"Connect to {draw.choice(schemes)}://⟨{login}⟩@{draw.choice(['db.firm.net', '10.20.0.5:5432', 'cache'])}/main"
    )


WORDS = [
    "Strandkorb", "Strong", "String", "Integra", "Interlaken", "Internet", "Yourself", "YourDog", "Change",
    "Changing", "ChangeMe", "Password", "PASSWORD", "password", "Settings", "settings", "Summer", "Fluffy",
]  # fmt: skip
FRENCH_STREETS = [
    "rue de Rivoli", "rue Victor Hugo", "Rue du Faubourg Saint-Honoré", "avenue de la République",
    "av. Jean Jaurès", "bd Voltaire", "boulevard Saint-Michel", "place de la Mairie", "allée des Tilleuls",
    "quai de la Loire", "impasse du Moulin", "chemin des Vignes", "rue de l'Église", "rue du 8 Mai 1945",
    "route de Lyon", "cours Mirabeau",
]  # fmt: skip
GERMAN_PLACES = [
    "Unter den Linden", "Am Markt", "An der Alster", "Am Hang", "Im Winkel", "Auf der Höhe", "Am Alten Hof",
    "Zum Bahnhof", "Hinter den Höfen", "Straße des 17. Juni", "Kurfürstendamm", "Kaiserring",
]  # fmt: skip
# country → its account number by the IBAN registry: so many digits (n), capitals (a), or either (c, mostly digits)
ACCOUNTS: dict[str, str] = {
    country: structure
    for structure, countries in {
        "11n": "NO", "12n": "BE", "14n": "DK FI FO GL SD", "15n": "SI", "16n": "AT BA EE LT MN XK",
        "17n": "HR", "18n": "CR DE ME RS VA", "19n": "AE IL SO TL", "20n": "CZ ES SE SK TN", "21n": "LY PT ST",
        "22n": "IS", "23n": "BI DJ MR", "24n": "HU PL", "25n": "EG", "2a 12n": "FK", "2a 16n": "GE",
        "3n 13c": "KZ LU", "5n 12c": "CH LI", "4a 10n": "NL", "3n 10c 2n": "MK", "4a 13c": "LV", "4a 6n 8c": "BG",
        "4a 14n": "GB IE", "4a 14c": "BH", "3n 16c": "OM", "4a 15n": "IQ", "4a 15c": "GI", "8n 12c": "AD",
        "2c 18c": "MD", "4a 16c": "PK RO", "2n 18c": "SA", "4a 16n": "VG", "6n 16c": "TR", "10n 11c 2n": "FR MC",
        "7n 16c": "GR", "1a 10n 12c": "IT SM", "8n 16c": "AL CY", "4a 20c": "AZ", "4c 4n 16c": "BY", "4c 20n": "DO",
        "4c 20c": "GT", "4a 20n": "HN NI SV", "4n 20c": "LB", "23n 1a 1c": "BR", "4a 21c": "PS QA", "6n 19c": "UA",
        "4a 4n 18c": "JO YE", "4a 22c": "KW", "4a 19n 3a": "MU", "4a 5n 18c": "MT", "4a 20n 3a": "SC", "4a 24c": "LC",
        "14n 15c": "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip
_named = _into("password: |", "PASSWORD=|", "'password': '|'", "DB_PASSWORD='|'", "pwd=|", "user: bob, pass: |")
_at_home = _into("We live at |.", "Ship it to | please.", "(|)")
WILD: list[Form] = [
    Form("password", "word and digits", _named(_human_password)),
    Form(
        "password", "in a sentence", _into("My password is |, I think", "the password was | in May")(_signed_password)
    ),
    Form("password", "short name", _into("pw: |", "login: bob / pw |", "PIN/PW = |")(_signed_password)),
    Form("password", "not English", _into("Passwort: |", "mot de passe : |", "contraseña: |")(_signed_password)),
    Form("email", "titled domain", _into("Write to |.", "<|>", "| wrote", "mailto:|")(_titled_email)),
    Form("card", "dots", _into("Card no. |.", "I paid with |")(_card_in((4, 4, 4, 4), signs="."))),
    Form("card", "uneven groups of four", _into("My card: |.")(_card_in((4, 4, 8), (4, 8, 4), (8, 4, 4), signs=" -."))),
    Form(
        "card", "two or odd groups", _into("My card: |.")(_card_in((8, 8), (6, 10), (4, 6, 6), (5, 5, 6), signs=" -"))
    ),
    Form("ssn", "dots", _into("SSN |", "| is my SSN", "social security no. |")(lambda draw: _ssn(draw, "."))),
    Form(
        "ssn",
        "dots, called social",
        _into("My social is |.", "Social: |", "| is my social")(lambda draw: _ssn(draw, ".")),
    ),
    Form("iban", "any country", _into("IBAN: |", "Pay to |.", "(|)")(_iban)),
    Form("street", "French", _at_home(_french)),
    Form("street", "German place", _at_home(_german)),
    Form("street", "no space before the number", _at_home(_unspaced)),
    Form("street", "box", _into("Write to |.", "(Address: |)")(_box)),
    Form(
        "secret", "bearer", _into("Authorization: Bearer |", 'curl -H "Authorization: Bearer |" https://a.de')(_bearer)
    ),
    Form("secret", "provider's key", _into("We use | here.", "API_KEY=|", "'|'")(_provider_key)),
    Form("jwt", "unsigned", _into("Cookie: session=|", "It was | then", '"|"')(_unsigned_jwt)),
    Form(
        "url_login",
        "curl -u",
        _into("curl -u | https://firm.de/x", "curl -s --user '|' https://firm.de", "curl https://firm.de -u |")(
            lambda draw: f"{draw.choice(['bob', 'admin'])}:{_signed_password(draw)}"
        ),
    ),
    Form("url_login", "at sign", lambda draw: _url_with(draw, "@", ("https", "postgres", "mysql", "ftp"))),
    Form("url_login", "slash", lambda draw: _url_with(draw, "/", ("amqp", "postgres", "mongodb", "redis"))),
    Form("url_login", "slash in a page's address", lambda draw: _url_with(draw, "/", ("https", "ftp"))),
]

# what looks like the above and is none of it
LOOKALIKES: list[Make] = [
    lambda draw: f"public_key: 0x{chars(draw, 40, _HEX)}",
    lambda draw: f"See {draw.choice(['Figure', 'Table', 'Section', 'Chapter'])} {draw.randint(1, 20)}.3.4.5 for it.",
    lambda draw: (
        f"Then the {draw.randint(2, 9)} {draw.choice(['Wise Men Walk', 'Big Dogs Close', 'Old Cars Drive'])} in."
    ),
    lambda draw: f"Upgrade nginx to {draw.randint(11, 19)}.24.{draw.randint(10, 99)}.2 first.",
    lambda draw: (
        f"Seen on Chrome/{draw.randint(90, 140)}.0.{draw.randint(1000, 9000)}.71, v{draw.randint(10, 99)}.20.30.40."
    ),
    lambda draw: (
        f"Order {digits(draw, 3)}-{digits(draw, 7)}-{digits(draw, 7)} and ORD-2024-{digits(draw, 8)} are late."
    ),
    lambda draw: f"Your order id is {digits(draw, 9)}, not SO{digits(draw, 12)}.",
    lambda draw: draw.choice(
        [
            "password: minimum 8 characters",
            "the password is case-sensitive.",
            "password = self.password2",
            "password: your-password-here",
            "password: str = Field(min_length=8)",
            "Change the password: Settings > 2FA",
            "The password is stored as sha256 of 32 bytes.",
            "Reset password: Ctrl+Alt+F2",
        ]
    ),
    lambda draw: draw.choice(
        [
            "Authorization: Bearer <token>",
            "Authorization: Bearer YOUR_ACCESS_TOKEN_HERE",
            "docker run -u 1000:1000 x",
            "curl -u $USER:$PASSWORD https://firm.de",
            "npm_config_registry and r8_counter are names",
            "key-value-store",
        ]
    ),
    lambda draw: draw.choice(
        [f"Open https://firm.de/@bob/{digits(draw, 4)}", f"at http://localhost:{draw.randint(3000, 9999)}/x@2x"]
    ),
    lambda draw: (
        f"He ate {draw.randint(2, 9)} place settings' worth, and {draw.randint(2, 20)} Avenue songs were sung."
    ),
]
