"""A query that may be sent to somebody's database: one SELECT, and nothing in it that two databases read differently.

It is the second guard: the first is a connection that the database itself holds to reading. Covered: statements that
write, lock or stand behind the first one. Not covered: a function that writes, where the database lets it.
"""

from __future__ import annotations

import re

from queue_app.errors import Invalid

HASH_COMMENTS = frozenset({"mysql", "mariadb"})  # where "#" begins a comment; elsewhere it is an operator
# Comments, then texts and quoted names; what is left over in between is the statement itself.
_PIECE = re.compile(
    r"(?P<line>--[^\n]*)"
    r"|(?P<block>/\*.*?\*/)"
    r"|(?P<text>'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`)"
    r"|(?P<open>/\*|['\"`])",
    re.DOTALL,
)
_DOLLAR = re.compile(r"\$\w*\$")
_WRITING = re.compile(
    r"\b(insert|update|delete|merge|into|create|alter|drop|truncate|grant|revoke|call|exec|execute|attach|pragma"
    r"|for\s+(?:no\s+key\s+|key\s+)?share|lock\s+in\s+share\s+mode)\b",
    re.IGNORECASE,
)
_BEGINNING = re.compile(r"[\s(]*(select|with)\b", re.IGNORECASE)


def only_select(query: str, dialect: str) -> str:
    """The query without comments and without the semicolon at its end, so that it can stand in another one.

    Raises:
        Invalid: it is not one SELECT, or it cannot be told; says why
    """
    code = _PIECE.sub(lambda found: _without(found, dialect), query)
    if _DOLLAR.search(code) or (dialect in HASH_COMMENTS and "#" in code):
        raise _unclear("$$" if _DOLLAR.search(code) else "#")
    code = code.rstrip().removesuffix(";")
    if ";" in code:
        raise Invalid("query: there is more than one statement; an export is one SELECT")
    if not _BEGINNING.match(code):
        raise Invalid("query: it does not begin with SELECT or WITH; an export only reads")
    if found := _WRITING.search(code):
        word = " ".join(found[0].upper().split())
        raise Invalid(
            f'query: {word} writes or locks, and an export only reads (a column of that name goes in "quotes")'
        )
    kept = _PIECE.sub(lambda found: found[0] if found["text"] else " ", query)
    return kept.rstrip().removesuffix(";").rstrip()


def _without(found: re.Match[str], dialect: str) -> str:
    """What stands for a comment, a text or a quoted name while the statement is looked at."""
    piece = found[0]
    if found["open"]:
        raise Invalid(f"query: a comment or text that begins with {piece} does not end; close it")
    if found["line"] and dialect in HASH_COMMENTS and not piece[2:3].isspace():
        raise _unclear("--")
    if found["block"] and ("/*" in piece[2:] or piece[2:3] in ("!", "M")):
        raise _unclear("/*")
    if found["text"] and "\\" in piece[:-1] and re.search(r"\\['\"`]", piece):
        raise _unclear("\\" + piece[0])
    return " " if not found["text"] else "''"


def _unclear(sign: str) -> Invalid:
    return Invalid(f"query: {sign} is not the same in every database, so it is not sent; write it another way")
