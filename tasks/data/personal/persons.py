"""Names of persons, as Presidio finds them: an option, since it needs a language model of its own and 10 ms a text."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from queue_app.errors import Invalid
from tasks.data.personal.finding import Confidence, Finding
from tasks.data.personal.hints import ALWAYS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.data.personal.search import Search

TYPES = ("person",)
NEEDS = ALWAYS
OPTIONAL = True  # searched for only where it is asked for by name

_MODELS = ("en_core_web_lg", "en_core_web_md", "en_core_web_sm")  # the better first; also under longer names
_SURE_SCORE = 0.6
_MOST_CHARACTERS = 50_000  # spaCy takes up to 10 KB of memory a character, and refuses a million


def find(text: str, search: Search) -> Iterator[Finding]:
    """Every name of a person in English text.

    Raises:
        Invalid: Presidio or a model for it is not installed; says what to install
    """
    del search
    for start, part in _parts(text):
        for found in _analyzer().analyze(text=part, entities=["PERSON"], language="en"):
            sure = Confidence.MEDIUM if found.score >= _SURE_SCORE else Confidence.LOW
            yield Finding(start + found.start, start + found.end, "person", sure)


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """The text in parts that fit into memory, each with where it begins; a name on a border may be lost."""
    start = 0
    while len(text) - start > _MOST_CHARACTERS:
        end = text.rfind(" ", start + 1, start + _MOST_CHARACTERS)
        end = end if end > 0 else start + _MOST_CHARACTERS
        yield start, text[start:end]
        start = end
    yield start, text[start:]


@cache
def _analyzer() -> Any:
    if find_spec("presidio_analyzer") is None:
        raise Invalid(
            "names of persons are found by Presidio, which is not installed: `pip install presidio-analyzer` and one "
            f'of its models (`python -m spacy download {_MODELS[0]}`), or leave "person" out of the types'
        )
    installed = sorted(found.name for found in entry_points(group="spacy_models"))
    model = next((name for model in _MODELS for name in installed if name.startswith(model)), None)
    if model is None:
        raise Invalid(
            f"Presidio is installed, and no language model for it: `python -m spacy download {_MODELS[0]}` "
            f'(or, smaller and less sure, {" or ".join(_MODELS[1:])}), or leave "person" out of the types'
        )
    engine = import_module("presidio_analyzer.nlp_engine").NlpEngineProvider(
        nlp_configuration={"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": model}]}
    )
    language = engine.create_engine()
    language.nlp["en"].select_pipes(enable=["ner"])  # what else the model has would take as long again
    analyzer = import_module("presidio_analyzer").AnalyzerEngine
    return analyzer(nlp_engine=language, supported_languages=["en"])
