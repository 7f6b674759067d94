"""Personal data and secrets found in text, and what only looks like them passed over."""

from __future__ import annotations

import re
import time
from importlib.metadata import entry_points
from importlib.util import find_spec

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_app.errors import Invalid
from tasks.data.personal import Confidence, Search, chosen_types, find_personal, types
from tasks.data.personal.finding import SHOWN, Finding, without_overlaps
from tasks.data.personal.hints import look
from tasks.data.personal.ibans import LENGTHS
from tests.data.planted import MAKERS, Tally, passages, sentences, tally
from tests.data.planted_wild import ACCOUNTS, WILD

LOW = Search(least=Confidence.LOW)
# the least precision and recall on planted text, by type; the precision hangs on how often its lookalikes are drawn
FLOORS = dict.fromkeys(MAKERS, (0.99, 0.99)) | {
    "card": (0.99, 0.80),
    "email": (0.91, 0.99),
    "ip": (0.50, 0.99),
    "password": (0.81, 0.62),
    "phone": (0.95, 0.97),
    "secret": (0.97, 0.97),
    "ssn": (0.97, 0.60),
    "street": (0.97, 0.60),
    "url_login": (0.97, 0.74),
}
# the least recall of the ways of writing that have another than most, and those that are never found
WILD_FLOORS = {
    "iban, any country": 0.98,
    "card, two or odd groups": 0.15,
    "password, in a sentence": 0.92,
    "password, not English": 0.25,
    "street, French": 0.60,
    "street, German place": 0.20,
    "street, box": 0.45,
    "street, no space before the number": 0.72,
}
NEVER_FOUND = {"password, short name", "ssn, dots, called social", "url_login, slash in a page's address"}


def found(text: str, search: Search = LOW) -> list[tuple[str, str]]:
    return [(each.type, text[each.start : each.end]) for each in find_personal(text, search)]


def sure(text: str) -> list[Confidence]:
    return [each.confidence for each in find_personal(text, LOW)]


@pytest.fixture(scope="module")
def told() -> Tally:
    return tally(passages(seed=11, count=3000))


def test_what_is_planted_is_found_and_what_only_looks_like_it_is_not(told: Tally):
    assert set(told.claimed) <= set(FLOORS) == set(MAKERS)
    scores = {kind: (told.precision(kind), told.recall(kind)) for kind in FLOORS}
    missed = {kind: each for kind, each in scores.items() if each[0] < FLOORS[kind][0] or each[1] < FLOORS[kind][1]}
    assert missed == {}


def test_every_way_of_writing_is_found_as_often_as_before_and_only_the_known_ones_never(told: Tally):
    scores = {name: told.recall(name) for name in told.planted if name not in MAKERS}
    assert set(scores) == {f"{each.type}, {each.name}" for each in WILD}
    assert {name for name, recall in scores.items() if recall == 0} == NEVER_FOUND
    written = {name: recall for name, recall in scores.items() if name not in NEVER_FOUND}
    assert {name: recall for name, recall in written.items() if recall < WILD_FLOORS.get(name, 0.97)} == {}


def test_accounts_are_as_long_as_the_registry_has_them_in_every_country():
    assert {
        country: 4 + sum(map(int, re.findall("[0-9]+", account))) for country, account in ACCOUNTS.items()
    } == LENGTHS


def test_real_prose_without_personal_data_has_no_finding():
    prose = sentences()
    assert len(prose) > 300
    assert [each for each in prose if find_personal(each)] == []


def test_nearly_all_real_prose_stops_at_the_first_look():
    prose = sentences()
    assert sum(look(each) == 0 for each in prose) > 0.97 * len(prose)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to müller@exämple.de.", [("email", "müller@exämple.de")]),
        ("иван@почта.рф schreibt", [("email", "иван@почта.рф")]),
        ("(o'brien@firm.ie), 'x@firm.ie'", [("email", "o'brien@firm.ie"), ("email", "x@firm.ie")]),
        ("bob@firm.com.Then he left", [("email", "bob@firm.com")]),
        ("tel. ０３０ ９０１８２０", [("phone", "０３０ ９０１８２０")]),
        ("call 415\u2011392\u20112671", [("phone", "415\u2011392\u20112671")]),
        ("+49\u00a030\u00a0901820", [("phone", "+49\u00a030\u00a0901820")]),
        ("🎉 4539 1488 0343 6467 🎉", [("card", "4539 1488 0343 6467")]),
        ("DE89 3704 0044 0532 0130 00 BIC COBADEFF", [("iban", "DE89 3704 0044 0532 0130 00")]),
        ("Königin-Luise-Straße 5, 14195 Berlin", [("street", "Königin-Luise-Straße 5, 14195 Berlin")]),
        ("221B Baker Street, London NW1 6XE", [("street", "221B Baker Street, London NW1 6XE")]),
        ("ping 2a00:1450:4001:82b::200e", [("ip", "2a00:1450:4001:82b::200e")]),
    ],
)
def test_values_in_any_script_are_found_whole(text: str, expected: list[tuple[str, str]]):
    assert found(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "48/2=24", "<<48/2=24>>24", "version 3.11.4.1", "12:30:45", "ISBN 978-3-16-148410-0", "2024-05-12T10:30:00Z",
        "550e8400-e29b-41d4-a716-446655440000", "d41d8cd98f00b204e9800998ecf8427e", "std::vector", "@app.get",
        "4539 1488 0343 6468", "DE88 3704 0044 0532 0130 00", "000-12-3456", "666-12-3456",
        "300.1.1.1", "1.2.3.4.5", "a::b", "In 1929 Wall Street fell", "password = getpass()", "token: the word",
        "123-00-4567", "x@2x.png", "912-12-3456",
        "the key: sk-ill and risk-averse-people-everywhere", 'api_key="YOUR_API_KEY_GOES_HERE_1234"',
        "3.14159265358979", "$1,250,000.00", "During 5 hours it ran.", "Scoring 3 times", "a Wedding Ring 12",
        "1111111111111111",
        "the 3 Wise Men Walk home", "He bought 3 Large Boxes Way too late", "12 Red Balls Place them", "1 Big Square",
        "2 Right Turns Close to it", "Chapter 12 Second Street of Dreams", "In 1989 Boulevard Records closed",
        "Am Bahnhof 3 Leute", "Am Ende 5 Punkte", "10 per day", "Figure 12.3.4.5", 'section "8.2.4.44"',
        "public_key: 0x04bfcab8722991ae774db48f934ca79cfb7dd991", "password: minimum 8 characters", "password=string",
        "password: your-password-here", "the password is required", "The password is case-sensitive.",
        "the token is opaque", "bearer of internationalisation-bureaucracy", "password = self.password2",
        "token=b64encode(user)", "docker run -u 1000:1000", "First pass: prepare it", "key-value-0123456789",
    ],
)  # fmt: skip
def test_what_only_looks_like_personal_data_is_passed_over(text: str):
    assert found(text, Search()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("password = 'Strong!Pass99'", ("password", "Strong!Pass99")),
        ("password: Password123!", ("password", "Password123!")),
        ("pwd=changeMe2024!", ("password", "changeMe2024!")),
        ("passwd: Integra#77", ("password", "Integra#77")),
        ("passwort: Strandkorb!9", ("password", "Strandkorb!9")),
        ("DB_PASSWORD=Nonesuch7!", ("password", "Nonesuch7!")),
        ("password: Trueblood88", ("password", "Trueblood88")),
        ("password=Your1stDog!", ("password", "Your1stDog!")),
        ("PASSWORD=$ecret-99!", ("password", "$ecret-99!")),
        ("My password is hunter2! since May", ("password", "hunter2!")),
        ("the api key is " + "aB3dE5gH7jK9" * 2, ("secret", "aB3dE5gH7jK9" * 2)),
        ("Authorization: Bearer " + "aB3dE5gH7jK9" * 4, ("secret", "aB3dE5gH7jK9" * 4)),
        ("gsk_" + "aB3dE5gH7jK9" * 4, ("secret", "gsk_" + "aB3dE5gH7jK9" * 4)),
        ("xai-" + "aB3dE5gH7jK9" * 6, ("secret", "xai-" + "aB3dE5gH7jK9" * 6)),
        ("SG." + "aB3dE5gH7j_" * 2 + "." + "aB3dE5gH7jK-" * 3 + "aB3dE5g", None),
        ("key-" + "0123456789abcdef" * 2, ("secret", "key-" + "0123456789abcdef" * 2)),
        ("eyJhbGciOiAibm9uZSJ9.eyJzdWIiOiAiMTIzNDUifQ.", ("jwt", "eyJhbGciOiAibm9uZSJ9.eyJzdWIiOiAiMTIzNDUifQ.")),
        ("amqp://u:p/w1@host/vhost", ("url_login", "u:p/w1")),
        ("mysql://root:p@ss:w0rd@10.20.0.5/x", ("url_login", "root:p@ss:w0rd")),
        ("curl -u bob:hunter2x https://firm.de", ("url_login", "bob:hunter2x")),
        ("John.Smith@Gmail.Com wrote", ("email", "John.Smith@Gmail.Com")),
        ("info@Hotel-Berlin.De", ("email", "info@Hotel-Berlin.De")),
        ("bob@Firm.co.uk.Then he left", ("email", "bob@Firm.co.uk")),
        ("me@correo.py", ("email", "me@correo.py")),
        ("FK88SC123456789012", ("iban", "FK88SC123456789012")),
        ("HN88CABF00000000000250005469", ("iban", "HN88CABF00000000000250005469")),
        ("card no. 4539.1488.0343.6467", ("card", "4539.1488.0343.6467")),
        ("4539 1488 03436467", ("card", "4539 1488 03436467")),
        ("536.22.8726 is my SSN", ("ssn", "536.22.8726")),
        ("Unter den Linden 77", ("street", "Unter den Linden 77")),
        ("Am Markt 3, 50667 Köln", ("street", "Am Markt 3, 50667 Köln")),
        ("Bahnhofstr.7", ("street", "Bahnhofstr.7")),
        ("12 rue de Rivoli, 75001 Paris", ("street", "12 rue de Rivoli, 75001 Paris")),
        ("5, avenue Anatole France", ("street", "5, avenue Anatole France")),
        ("4 bis rue des Écoles", ("street", "4 bis rue des Écoles")),
        ("PO Box 1234, Austin TX 78701", ("street", "PO Box 1234, Austin TX 78701")),
        ("Postfach 12 34, 50667 Köln", ("street", "Postfach 12 34, 50667 Köln")),
        ("12 Twin Oaks Road", ("street", "12 Twin Oaks Road")),
        ("2140 Rolling Hills Drive", ("street", "2140 Rolling Hills Drive")),
    ],
)  # fmt: skip
def test_what_people_write_in_their_own_way_is_found_without_lowering_the_confidence(
    text: str, expected: tuple[str, str] | None
):
    assert found(text, Search()) == ([expected] if expected else [("secret", text)])


@pytest.mark.parametrize(
    "text",
    [
        "bob@example.com", "git@github.com", "192.168.1.17", "203.0.113.77", "2001:db8::12", "fe80::1",
        "4242 4242 4242 4242",
        "(415) 555-0123", "078-05-1120", "4153922671", "AKIAIOSFODNN7EXAMPLE", "https://user:password@host/",
    ],
)  # fmt: skip
def test_what_is_reserved_for_documents_or_says_too_little_is_of_low_confidence(text: str):
    assert sure(text) == [Confidence.LOW]
    assert find_personal(text) == []


def test_a_word_before_a_number_makes_it_sure():
    assert sure("call 4153922671") == [Confidence.MEDIUM]
    assert sure("SSN 123-45-6789") > sure("123-45-6789")
    assert sure("order 212-392-2671") < sure("phone 212-392-2671")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://bob:s3cr3t-pw@host.com/x", [("url_login", "bob:s3cr3t-pw")]),
        ("password=bob@firm.com", [("password", "bob@firm.com")]),
        ("IBAN GB82WEST12345698765432", [("iban", "GB82WEST12345698765432")]),
        ("phone 4539148803436467", [("card", "4539148803436467")]),
    ],
)
def test_of_overlapping_findings_the_most_specific_stands(text: str, expected: list[tuple[str, str]]):
    assert found(text) == expected


def test_of_overlapping_findings_of_one_kind_the_longest_stands():
    short, long = Finding(4, 9, "street", Confidence.HIGH), Finding(2, 20, "street", Confidence.LOW)
    apart = Finding(20, 22, "street", Confidence.LOW)
    assert without_overlaps([short, apart, long]) == [long, apart]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20), st.sampled_from(["email", "phone", "jwt"]))))
def test_kept_findings_never_overlap_and_only_yield_to_others(spans: list[tuple[int, int, str]]):
    every = [Finding(start, start + size, kind, Confidence.HIGH) for start, size, kind in spans]
    kept = without_overlaps(every)
    assert all(left.end <= right.start for left, right in zip(kept, kept[1:], strict=False))
    assert all(any(each.start < one.end and one.start < each.end for one in kept) for each in every)


@given(st.text(alphabet="aA1@.:/=- ()+_é１🎉\"'\n"))
def test_findings_lie_within_the_text_and_in_its_order(text: str):
    spans = [(each.start, each.end) for each in find_personal(text, LOW)]
    assert spans == sorted(spans)
    assert all(0 <= start < end <= len(text) for start, end in spans)


@pytest.mark.parametrize(
    "piece", ["a", "1", "@", ".", "a@", "a.", "1.", "1 ", "1-", "::", "sk-", "eyJ", "key=", "://", "é"]
)
def test_a_megabyte_of_one_thing_takes_less_than_a_second(piece: str):
    text = piece * (1_000_000 // len(piece))
    began = time.process_time()
    find_personal(text, LOW)
    assert time.process_time() - began < 1


def test_a_masked_form_tells_no_more_than_a_third_of_a_value():
    for passage in passages(seed=3, count=200):
        for each in find_personal(passage.text, LOW):
            value, shown = passage.text[each.start : each.end], each.masked(passage.text)
            assert len(shown) - 1 <= len(value) / 3
            assert len(shown) - 1 <= sum(SHOWN.get(each.type, (0, 0)))


def test_only_the_chosen_types_are_found_and_a_family_stands_for_its_types():
    text = "bob@firm.com, 151.20.30.40, ghp_" + "aB3dE5gH7jK9" * 3
    assert [kind for kind, _ in found(text, Search(frozenset({"ip"})))] == ["ip"]
    assert [kind for kind, _ in found(text, Search(frozenset({"secrets"})))] == ["github_token"]
    assert "person" not in chosen_types(frozenset())
    assert "person" in types()


def test_an_unknown_type_is_refused_with_the_nearest():
    with pytest.raises(Invalid, match='"emial"; did you mean "email"'):
        find_personal("bob@firm.com", Search(frozenset({"emial"})))


HAS_PRESIDIO = find_spec("presidio_analyzer") is not None
HAS_MODEL = any(found.name.startswith("en_core_web_") for found in entry_points(group="spacy_models"))


@pytest.mark.skipif(HAS_PRESIDIO, reason="Presidio is installed here")
def test_names_without_presidio_are_refused_with_what_to_install():
    with pytest.raises(Invalid, match="pip install presidio-analyzer"):
        find_personal("Ada Lovelace", Search(frozenset({"persons"})))


@pytest.mark.skipif(not HAS_PRESIDIO or HAS_MODEL, reason="Presidio is not installed here, or a model is as well")
def test_names_without_a_model_are_refused_with_what_to_install():
    with pytest.raises(Invalid, match="spacy download en_core_web_lg"):
        find_personal("Ada Lovelace", Search(frozenset({"persons"})))


@pytest.mark.skipif(not HAS_PRESIDIO or not HAS_MODEL, reason="Presidio or a model for it is not installed here")
def test_names_are_found_where_they_stand_also_far_into_a_long_text():
    persons = Search(frozenset({"persons"}))
    text = "Ada Lovelace wrote to Charles Babbage in London. Trains stand in the yard."
    assert found(text, persons) == [("person", "Ada Lovelace"), ("person", "Charles Babbage")]
    long = "Trains stand in the yard. " * 3000 + text
    (last,) = [each for each in find_personal(long, persons) if long[each.start : each.end] == "Charles Babbage"]
    assert last.masked(long) == "C…"
