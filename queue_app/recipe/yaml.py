"""YAML as the user wrote it: plain JSON values, the line each stands on, and everything that is wrong with them."""

from __future__ import annotations

import math
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from queue_app.errors import Invalid
from queue_app.job_type import nearest

MOST_CHARACTERS = 256 * 1024
MOST_VALUES = 20_000  # aliases count as often as they are used

TAG = "tag:yaml.org,2002:"
SCALARS = frozenset(TAG + name for name in ("null", "bool", "int", "float"))
TEXTS = frozenset({TAG + "str", TAG + "timestamp"})  # JSON has no dates: they stay as written
MERGE = TAG + "merge"

Where = tuple[str | int, ...]


class Document:
    """A YAML mapping with the line of every value; it collects what is wrong and raises all of it at once."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.data: dict[str, Any] = {}
        self.lines: dict[Where, int] = {(): 1}
        self.overrides: dict[Where, str] = {}
        self.unread: set[Where] = set()  # values that could not be read: nothing more is to be said about them
        self._problems: dict[str, int] = {}

    def line(self, where: Where) -> int:
        """The line of the value, or of the nearest thing around it."""
        return next(self.lines[where[:n]] for n in range(len(where), -1, -1) if where[:n] in self.lines)

    def overridden(self, where: Where) -> str | None:
        """The dotted key of the override that the value comes from."""
        found = (self.overrides.get(where[:n]) for n in range(len(where), 0, -1))
        return next((key for key in found if key is not None), None)

    def add(self, where: Where, message: str) -> None:
        """Note a problem; the same one at the same place counts once."""
        if where in self.unread:
            return
        key = self.overridden(where)
        place = f"--set {key}" if key is not None else f"{self.origin} line {self.line(where)}"
        step = f' step "{where[1]}":' if len(where) > 1 and where[0] == "steps" else ""
        self._problems.setdefault(f"{place}:{step} {message}", self.line(where))

    def add_unread(self, where: Where, message: str) -> None:
        """Note that there is no value to work with."""
        self.add(where, message)
        self.unread.add(where)

    def raise_problems(self) -> None:
        """Raise one `Invalid` with a line for each problem, in the order of the file."""
        if self._problems:
            raise Invalid("\n".join(sorted(self._problems, key=self._problems.__getitem__)))


def read_document(text: str, origin: str, what: str = "a recipe is a mapping with `name` and `steps`") -> Document:
    """Read strict YAML 1.2 whose top level is a mapping; single values that cannot be used are noted in the document.

    `what` says what is expected, for the one who gave something else.

    Raises:
        Invalid: it is no such thing at all; names line and column
    """
    if len(text) > MOST_CHARACTERS:
        raise Invalid(f"{origin} line 1: longer than {MOST_CHARACTERS:,} characters; {what}")
    document = Document(origin)
    try:
        root = _compose(text)
        if root is None:
            raise Invalid(f"{origin} line 1: the file is empty; {what}")
        if not isinstance(root, MappingNode):
            raise Invalid(f"{origin} line {_line(root)}: {what}, not {_kind_of(root)}")
        document.data = _Reader(document).value(root, ()) or {}
    except MarkedYAMLError as error:
        raise Invalid(f"{origin} {_position(error)}: {_explanation(error)}") from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        said = f"the control character {chr(error.character)!r} is not allowed in YAML; remove it"
        raise Invalid(f"{origin} line {line} column {column}: {said}") from error
    except RecursionError as error:
        raise Invalid(f"{origin} line 1: nested too deeply; {what}") from error
    return document


def override(document: Document, dotted: str, text: str) -> None:
    """Set `steps.STEP.KEY`, `steps.STEP.matrix.AXIS`, `name` or `cap_usd` to a YAML value.

    A plain scalar needs no quotes, so that `*.txt` is a text; what starts with `[`, `{` or a quote is read as YAML.
    """
    where = tuple(dotted.split("."))
    document.overrides[where] = dotted
    steps = document.data.get("steps")
    if where in (("name",), ("cap_usd",)):
        document.data[dotted] = _override_value(document, where, text)
    elif where[0] != "steps" or not (len(where) == 3 or (len(where) == 4 and where[2] == "matrix")):
        document.add(where, "what can be set is `name`, `cap_usd`, `steps.STEP.KEY` and `steps.STEP.matrix.AXIS`")
    elif not isinstance(steps, dict) or where[1] not in steps:
        document.add(where, f"there is no such step{nearest(where[1], steps if isinstance(steps, dict) else [])}")
    elif isinstance(step := steps[where[1]], dict):  # any other step is reported where it is read
        target = step.setdefault("matrix", {}) if len(where) == 4 else step
        if isinstance(target, dict):
            target[where[-1]] = _override_value(document, where, text)


def read_value(text: str, origin: str) -> Any:
    """One value as it is typed on a command line, by the rule of `override`.

    Raises:
        Invalid: it is no YAML value
    """
    document = Document(origin)
    value = _override_value(document, (), text)
    document.raise_problems()
    return value


def _override_value(document: Document, where: Where, text: str) -> Any:
    try:
        node = _compose(text) if text.startswith(("[", "{", '"', "'")) else _plain(text)
        return _Reader(document).value(node, where) if node else None
    except (YAMLError, RecursionError) as error:
        said = _explanation(error) if isinstance(error, MarkedYAMLError) else "it cannot be read"
        document.add_unread(where, f"{text!r} is not a YAML value: {said}; put quotes around a text")
        return None


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.composer.warn_double_anchors = False  # YAML allows it: the last one counts
    return yaml


def _compose(text: str) -> Node | None:
    node: Node | None = _yaml().compose(text)
    return node


def _plain(text: str) -> ScalarNode:
    return ScalarNode(_yaml().resolver.resolve(ScalarNode, text, (True, False)), text)


class _Reader:
    """Turns nodes into plain values. Aliases are copied out, so their number is limited."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.constructor = _yaml().constructor
        self.values = 0
        self.open: set[int] = set()

    def value(self, node: Node, where: Where) -> Any:
        self.values += 1
        if self.values > MOST_VALUES:
            raise Invalid(
                f"{self.document.origin} line {_line(node)}: more than {MOST_VALUES:,} values; use fewer aliases"
            )
        if isinstance(node, ScalarNode):
            return self.scalar(node, where)
        if id(node) in self.open:
            self.document.add_unread(where, "the alias stands inside the very thing it repeats; write it out")
            return None
        self.open.add(id(node))
        tag, known = str(node.tag), {TAG + "map", TAG + "seq"}
        if tag not in known:
            self.document.add(where, f"the tag {_short(tag)} has no meaning here; remove it")
        made = self.sequence(node, where) if isinstance(node, SequenceNode) else self.mapping(node, where)
        self.open.discard(id(node))
        return made

    def scalar(self, node: ScalarNode, where: Where) -> Any:
        tag = str(node.tag)
        if tag in TEXTS:
            if not _is_storable(node.value):
                self.document.add_unread(
                    where, "the text holds a NUL or half a character (a lone surrogate); remove it"
                )
            return str(node.value)
        if tag not in SCALARS:
            self.document.add_unread(where, f"the tag {_short(tag)} has no meaning here; remove it")
            return None
        try:
            made = self.constructor.construct_object(node)
        except (ValueError, KeyError):  # as in `!!int many`, or a number of thousands of digits
            made = math.nan
        if isinstance(made, float) and not math.isfinite(made):
            self.document.add_unread(where, f"{node.value[:40]} is not a number that can be used; write another")
            return None
        return made

    def sequence(self, node: Node, where: Where) -> list[Any]:
        for index, item in enumerate(node.value):
            self.document.lines[*where, index] = _line(item)
        return [self.value(item, (*where, index)) for index, item in enumerate(node.value)]

    def mapping(self, node: Node, where: Where) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, merged in node.value:
            if key.tag == MERGE:
                made |= self.merged(merged, where)
        first: dict[str, int] = {}
        for key, item in node.value:
            if key.tag == MERGE:
                continue
            if not isinstance(key, ScalarNode) or not _is_storable(key.value):
                kind = "one with NUL or half a character" if isinstance(key, ScalarNode) else _kind_of(key)
                self.document.add(where, f"a key must be a text, not {kind} (line {_line(key)})")
                continue
            name, here = str(key.value), (*where, str(key.value))
            self.document.lines[here] = _line(key)
            if name in first:
                told = f'"{name}" is given twice, first on line {first[name]}; keep one of them'
                self.document.add(here, told)
            first.setdefault(name, _line(key))
            made[name] = self.value(item, here)
        return made

    def merged(self, node: Node, where: Where) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for source in reversed(node.value) if isinstance(node, SequenceNode) else [node]:
            value = self.value(source, where)
            if isinstance(value, dict):
                made |= value
            else:
                self.document.add(where, f"`<<` (line {_line(node)}) takes a mapping or a list of mappings")
        return made


def _is_storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1 if node.start_mark else 1


def _short(tag: str) -> str:
    return "!!" + tag.removeprefix(TAG) if tag.startswith(TAG) else tag


def _kind_of(node: Node) -> str:
    return "a list" if isinstance(node, SequenceNode) else "a mapping" if isinstance(node, MappingNode) else "a text"


def _position(error: MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f"line {mark.line + 1} column {mark.column + 1}" if mark else "line 1"


ADVICE = {
    "\\t": "indent with spaces",
    "mapping values are not allowed": "put quotes around a text that contains a colon",
    "another document": "a recipe is one document; remove the second `---`",
    "undefined alias": 'put quotes around a text that starts with "*", or define the anchor before it',
    "cannot start any token": "put quotes around a text that starts with this character",
}


def _explanation(error: MarkedYAMLError) -> str:
    said = f"{error.problem} {error.context or ''}".strip()
    advice = next((advice for sign, advice in ADVICE.items() if sign in said), "check brackets, quotes and indentation")
    return f"this is not YAML: {said}; {advice}"
