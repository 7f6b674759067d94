"""Names of persons, as Presidio finds them: an option, since it needs a language model of its own."""

from __future__ import annotations

from functools import cache
from importlib import import_module
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

_MODELS = ("en_core_web_lg", "en_core_web_md", "en_core_web_sm")
_SURE_SCORE = 0.6


def find(text: str, search: Search) -> Iterator[Finding]:
    """Every name of a person in English text.

    Raises:
        Invalid: Presidio or a model for it is not installed; says what to install
    """
    del search
    for found in _analyzer().analyze(text=text, entities=["PERSON"], language="en"):
        sure = Confidence.MEDIUM if found.score >= _SURE_SCORE else Confidence.LOW
        yield Finding(found.start, found.end, "person", sure)


@cache
def _analyzer() -> Any:
    if find_spec("presidio_analyzer") is None:
        raise Invalid(
            "names of persons are found by Presidio, which is not installed: `pip install presidio-analyzer` and one "
            f'of its models (`python -m spacy download {_MODELS[-1]}`), or leave "person" out of the types'
        )
    model = next((name for name in _MODELS if find_spec(name) is not None), None)
    if model is None:
        raise Invalid(
            f"Presidio is installed, and no language model for it: `python -m spacy download {_MODELS[-1]}` "
            f'(it takes the first of {", ".join(_MODELS)}), or leave "person" out of the types'
        )
    engine = import_module("presidio_analyzer.nlp_engine").NlpEngineProvider(
        nlp_configuration={"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": model}]}
    )
    analyzer = import_module("presidio_analyzer").AnalyzerEngine
    return analyzer(nlp_engine=engine.create_engine(), supported_languages=["en"])
