"""Tokens counted offline: by a vocabulary that lies in a wheel, by the model's own, or as an estimate that says so.

OpenAI's vocabularies are toktok's; its counts are those of tiktoken's ids on everything tried, at some 100 MB/s a core.
No text is read as a special token there: `<|endoftext|>` within data is seven or eight ordinary tokens and no error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import toktok

from queue_app.errors import Invalid

if TYPE_CHECKING:
    from pathlib import Path

Count = Callable[[Sequence[str]], list[int]]
DEFAULT_MISTRAL = "open-mistral-nemo-2407"

# Which vocabulary a model has, by its name without the organisation; the first that fits.
_FAMILIES = (
    (re.compile(r"gpt-oss"), "o200k_base"),  # harmony's own differs in special tokens alone
    (re.compile(r"(ft:)?(gpt-4o|gpt-4\.1|gpt-4\.5|gpt-5|chatgpt-4o|o[134](-|$))"), "o200k_base"),
    (re.compile(r"(ft:)?(gpt-4|gpt-3\.5|gpt-35)"), "cl100k_base"),
    (re.compile(r"(meta-)?llama-?3"), "llama3"),
    (re.compile(r"qwen-?(2|2\.5|3)-"), "qwen3"),
    (re.compile(r"(open-)?(mistral|mixtral|ministral|codestral)"), "mistral"),
)


@dataclass(frozen=True)
class Counting:
    """A way to count: texts one by one, and what the roles and marks of a talk add."""

    name: str  # of the vocabulary
    exact: bool  # whether it is the vocabulary of the model that will read the texts
    count: Count
    per_message: int = 0  # beside the text, the role and the name
    per_example: int = 0
    counts_roles: bool = True
    note: str = ""


def openai_counting(vocabulary: str, *, exact: bool = True) -> Counting:
    """Counts as OpenAI's cookbook does: 3 a message and its values, 3 an example, 1 for a name.

    Exact for messages of text; the cookbook itself calls the marks "not exact", and tools are counted by their JSON.
    """
    note = "" if exact else f"an estimate by {vocabulary}: the model's own vocabulary is not known here"
    return Counting(vocabulary, exact, _toktok(vocabulary), per_message=3, per_example=3, note=note)


def counting_of_name(model: str) -> Counting | None:
    """The counting of a model known by its name; None where no vocabulary at hand is known to be its own."""
    name = model.lower().rpartition("/")[2]
    vocabulary = next((found for pattern, found in _FAMILIES if pattern.match(name)), None)
    if vocabulary is None:
        return None
    if vocabulary == "mistral":
        return mistral_counting(name)
    if vocabulary in ("llama3", "qwen3"):
        note = "marks of the chat template: 4 a message, without what it may add to the system message"
        return Counting(vocabulary, True, _quicktok(vocabulary), per_message=4, per_example=1, note=note)
    return openai_counting(vocabulary)


def counting_of_folder(folder: Path, look: Callable[[], object] = bool) -> Counting:
    """The counting of a model folder, by its tokenizer.json.

    Raises:
        Permanent: there is none, or a damaged one
    """
    from tasks.data.tokens import TokenCounter

    note = "tokens of the texts; the chat template's own come on top"
    return Counting("tokenizer.json", True, TokenCounter.of_model(folder, look), counts_roles=False, note=note)


def mistral_counting(model: str = DEFAULT_MISTRAL) -> Counting:
    """The counting of one of Mistral's models, by mistral-common.

    Raises:
        Invalid: mistral-common is not installed
    """
    if find_spec("mistral_common") is None:
        raise Invalid(
            "counting Mistral's tokens needs mistral-common: `pip install mistral-common`, or count_tokens=false"
        )
    count, exact = _mistral(model)
    note = (
        "" if exact else f"an estimate by the vocabulary of {DEFAULT_MISTRAL}: mistral-common has none under {model!r}"
    )
    return Counting("mistral-common", exact, count, per_message=2, per_example=1, counts_roles=False, note=note)


def _toktok(vocabulary: str) -> Count:
    def count(texts: Sequence[str]) -> list[int]:
        found: list[int] = toktok.batch_count(texts, vocabulary)
        return found

    return count


@cache
def _quicktok(vocabulary: str) -> Count:
    import quicktok  # numpy comes with it

    encoding: Any = quicktok.get_encoding(vocabulary)
    return lambda texts: [encoding.count(text) for text in texts]


@cache
def _mistral(model: str) -> tuple[Count, bool]:
    """The count of a model that mistral-common knows by name; False with the default's where it knows none."""
    from mistral_common.tokens.tokenizers.mistral import MODEL_NAME_TO_TOKENIZER_CLS

    if model not in MODEL_NAME_TO_TOKENIZER_CLS:
        return _mistral(DEFAULT_MISTRAL)[0], False
    chosen: Any = MODEL_NAME_TO_TOKENIZER_CLS[model]()
    encode = chosen.instruct_tokenizer.tokenizer.encode
    return lambda texts: [len(encode(text, bos=False, eos=False)) for text in texts], True
