"""What bytes become, and which are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.data.encoding import Undecodable, decode

FRENCH = "Le café était fermé. Nous avons déjeuné à l’hôtel, où l’été rend les gens heureux. " * 3
GERMAN = "Die Straße war naß, und die Bäume trugen schon gelbe Blätter; über den Dächern lag ein Himmel. " * 3
ENGLISH = "“Well,” he said, “it’s a long way – and it’s late.” They went on through the dark wood. " * 3
POLISH = "Żółte liście leżały na ścieżce, a dziewczyna szła powoli w stronę rzeki, myśląc o jutrze. " * 3
RUSSIAN = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. " * 3
HUNGARIAN = "Az őszi szél fújt a hegyek között, és a kisfiú nézte a tűz fényét, míg őrült kutyák ugattak. " * 3
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。" * 4
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\t"))


@given(TEXT.map(lambda text: text.lstrip("\ufeff")))
def test_utf8_comes_out_as_it_went_in_unless_all_of_it_was_encoded_twice(text: str):
    decoded = decode(text.encode())
    if decoded.repair is None:
        assert decoded.text == text
    else:
        assert decoded.repair == "utf-8 read as cp1252"
        assert set(text) & set("ÂÃÐÑâ"), "only these begin what was encoded twice"
        assert decoded.text.encode() == bytes_behind(text)


def bytes_behind(spoilt: str) -> bytes:
    """What was read as cp1252, sign by sign, to become a spoilt text."""
    return b"".join(sign.encode("latin-1") if ord(sign) < 256 else sign.encode("cp1252") for sign in spoilt)


@given(st.text(st.characters(max_codepoint=0x24F, exclude_categories=["Cc"]).filter(lambda sign: sign not in "ÂÃÐÑâ")))
def test_letters_that_begin_nothing_encoded_twice_are_never_repaired(text: str):
    decoded = decode(text.encode())
    assert (decoded.text, decoded.repair, decoded.suspicious) == (text, None, False)


@pytest.mark.parametrize(
    ("text", "codec"), [(POLISH, "utf-16-le"), (ENGLISH, "utf-16-be"), (JAPANESE, "iso2022_jp"), (RUSSIAN, "utf-32-le")]
)
def test_an_encoding_with_bytes_below_the_space_is_read_once_it_is_named(text: str, codec: str):
    decoded = decode(text.encode(codec), fallback=codec)
    assert (decoded.text, decoded.repair) == (text, codec)


def test_a_named_encoding_makes_no_text_of_a_binary_file():
    with pytest.raises(Undecodable, match=r"line 1: control character U\+007F does not belong in text"):
        decode(b"\x7fELF\x02\x01\0\0", fallback="cp1252")


def test_a_codec_that_does_not_tell_where_it_failed_is_no_bug():
    with pytest.raises(Undecodable, match="not undefined: .*save it as UTF-8"):
        decode(b"\xe9", fallback="undefined")


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_every_line_end_becomes_a_newline(end: str):
    assert decode(f"one{end}two{end}".encode()).text == "one\ntwo\n"


def test_a_byte_order_mark_is_no_part_of_the_text_and_no_repair():
    decoded = decode(b"\xef\xbb\xbfyard")
    assert (decoded.text, decoded.repair) == ("yard", None)


@pytest.mark.parametrize("codec", ["utf-16", "utf-32"])
def test_wide_encodings_are_known_by_their_mark(codec: str):
    decoded = decode(POLISH.encode(codec))
    assert (decoded.text, decoded.repair) == (POLISH, codec)


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        (FRENCH, "cp1252"),
        (GERMAN, "cp1252"),
        (ENGLISH, "cp1252"),
        ("Le café est fermé.", "cp1252"),
        (POLISH, "cp1250"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8_r"),
    ],
)
def test_a_certain_encoding_is_repaired(text: str, codec: str):
    decoded = decode(text.encode(codec))
    assert (decoded.text, decoded.repair) == (text, codec)


@pytest.mark.parametrize(
    ("text", "codec"), [(HUNGARIAN, "cp1250"), (JAPANESE, "shift_jis"), (FRENCH, "mac_roman"), (GERMAN, "cp850")]
)
def test_a_doubtful_encoding_is_refused_and_read_once_it_is_named(text: str, codec: str):
    text = text.replace("’", "'")  # cp850 has none
    with pytest.raises(
        Undecodable, match=r"line 1, byte \d+: .* encoding is not certain; save it as UTF-8, or name it"
    ):
        decode(text.encode(codec))
    assert decode(text.encode(codec), fallback=codec).text == text


def test_a_file_of_two_encodings_is_refused_where_the_second_begins():
    with pytest.raises(Undecodable, match="line 2, byte 9: byte 0xe9 is not UTF-8"):
        decode("café\n".encode() + b"caf\xe9\n")


@pytest.mark.parametrize("text", [FRENCH, ENGLISH, RUSSIAN, GERMAN])
def test_text_encoded_twice_is_restored(text: str):
    twice = text.encode().decode("cp1252", "surrogateescape")
    spoilt = "".join(chr(ord(sign) - 0xDC00) if ord(sign) > 0xDC00 else sign for sign in twice).encode()
    decoded = decode(spoilt)
    assert (decoded.text, decoded.repair) == (text, "utf-8 read as cp1252")


def test_text_that_is_only_partly_encoded_twice_is_kept_and_reported():
    decoded = decode("Straße, StraÃŸe".encode())
    assert (decoded.text, decoded.repair, decoded.suspicious) == ("Straße, StraÃŸe", None, True)


@pytest.mark.parametrize("text", ["FIANCÉ… and ÉCLAT…", "Ângela e João", "«À» fut «É»", "SÃO PAULO"])
def test_capitals_with_accents_are_not_taken_for_damage(text: str):
    decoded = decode(text.encode())
    assert (decoded.text, decoded.repair, decoded.suspicious) == (text, None, False)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"\x89PNG\r\n\x1a\n\x00", "line 2, byte 6: byte 0x1a does not belong in text: a binary file"),
        (b"one\ntwo\0", "line 2, byte 7: byte 0x00 does not belong in text"),
        (b"one\x1b[31mred", "line 1, byte 3: byte 0x1b does not belong"),
        ("one\ntwo\x9d".encode(), "line 2: control character U\\+009D does not belong in text"),
        ("a\0b".encode("utf-16"), "line 1: control character U\\+0000"),
        (b"\xff\xfea", "line 1, byte 2: not utf-16: truncated data"),
    ],
)
def test_what_is_no_text_is_refused_with_its_place(raw: bytes, problem: str):
    with pytest.raises(Undecodable, match=problem):
        decode(raw)


def test_a_named_encoding_that_does_not_fit_is_refused():
    with pytest.raises(Undecodable, match="line 1, byte 0: not ascii"):
        decode(b"\xe9t\xe9", fallback="ascii")


@given(st.binary() | st.binary().map(lambda raw: b"\xff\xfe" + raw))
def test_any_bytes_are_either_text_or_refused_with_their_line(raw: bytes):
    try:
        told = decode(raw).text
    except Undecodable as error:
        told = str(error).partition(":")[0]
        refused = True
    else:
        refused = False
    assert told.startswith("line ") if refused else not set(told) & {"\r", "\0"}
