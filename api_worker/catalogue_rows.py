"""The rows of the catalogue: what each kind of them holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationInfo, field_validator, model_validator

from api_worker.provider import Method, Tuned

Grade = Literal["P", "S", "M"]
What = Literal[
    "usd_per_million_tokens",
    "minimum_usd",
    "hosting_usd_per_hour",
    "storage_usd_per_month",
    "jobs_at_once",
    "jobs_a_day",
    "epochs_at_most",
    "usd_per_hour",
]
COUNTED = frozenset({"jobs_at_once", "jobs_a_day", "epochs_at_most"})
Measure = Literal["file_bytes", "examples", "example_tokens", "total_tokens"]

Day = Annotated[date, Strict()]
Text = Annotated[str, Field(min_length=1)]
Number = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)]
Whole = Annotated[int, Strict(), Field(ge=0)]
Patterns = Annotated[tuple[Text, ...], Field(min_length=1)]


class Entry(BaseModel, ABC):
    """A row of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    @abstractmethod
    def key(self) -> Hashable:
        """What it is about: two rows of one kind with the same are one too many."""


class Listing(Entry):
    """A provider."""

    api: Text
    title: Text
    slots: Literal["account", "model", "none"]
    serving: str = ""
    machine: str = ""  # whose hours are billed, where an account's `tier` names no other
    note: str = ""
    domains: tuple[Text, ...] = ()  # where its own cloud is reached; whatever ends with one of them is in it
    anywhere: bool = False  # and under names of its customers' own, on any machine but this one
    bills_holdout: bool = False  # it measures on the holdout once an epoch for sure, and bills those tokens
    all_models: bool = False  # its [[model]] rows are all that can be tuned there; else they are those that are known

    @property
    def key(self) -> Hashable:
        return self.api


class Sourced(Entry):
    """What somebody said, and when that was read."""

    source: Text
    grade: Grade
    seen: Day


class BaseModelOffer(Sourced):
    """A model that can be tuned at a provider."""

    provider: Text
    name: Text
    methods: tuple[Method, ...]
    tuned: tuple[Tuned, ...]  # empty: the provider does not say which weights it changes
    billions: Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)] | None = None

    @property
    def key(self) -> Hashable:
        return self.provider, self.name


class OfModels(Sourced):
    """What is said of some models of a provider."""

    provider: Text
    models: Patterns = ("*",)


class Closing(OfModels):
    """The end of something."""

    what: Literal["training", "inference"]
    on: Day  # the first day on which it is over
    who: Text = "everybody"
    instead: Text

    @property
    def key(self) -> Hashable:
        return self.provider, self.what, self.models, self.who


class Figure(OfModels):
    """A price or a limit."""

    what: What
    value: Number
    method: Method | None = None
    tuned: Tuned | None = None
    over_billions: Number | None = None
    up_to_billions: Number | None = None

    @field_validator("value")
    @classmethod
    def _counts_are_whole(cls, value: float, info: ValidationInfo) -> float:
        if info.data.get("what") in COUNTED and value != int(value):
            raise ValueError(f"{info.data['what']} is a whole number")
        return value

    @field_validator("up_to_billions")
    @classmethod
    def _sizes_in_order(cls, most: float | None, info: ValidationInfo) -> float | None:
        if most is not None and most <= (info.data.get("over_billions") or 0):
            raise ValueError("no model is so large and so small at once: it must be above over_billions")
        return most

    @property
    def key(self) -> Hashable:
        sizes = self.over_billions, self.up_to_billions
        return self.provider, self.what, self.models, self.method, self.tuned, sizes


class Limit(Sourced):
    """How much or little of something a file may have, for those whom it is made for."""

    targets: Patterns
    measure: Measure
    severity: Literal["blocking", "warning"]
    minimum: Whole = 0
    maximum: Whole | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Limit:
        if not self.minimum and self.maximum is None:
            raise ValueError("gives neither a minimum nor a maximum")
        if self.maximum is not None and self.maximum < self.minimum:
            raise ValueError("its maximum is below its minimum")
        return self

    @property
    def key(self) -> Hashable:
        return self.targets, self.measure, self.severity


KINDS: dict[str, type[Entry]] = {
    "provider": Listing,
    "model": BaseModelOffer,
    "closing": Closing,
    "figure": Figure,
    "limit": Limit,
}
