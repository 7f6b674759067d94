"""Which settings an installed axolotl knows, and which values of a file have a wrong type, in its own words.

Run as a program by axolotl's interpreter: `{"plugins": […], "settings": {…}}` on stdin, the answer as the last line of
stdout. Only axolotl's fields are asked, not its rules over several of them: those need the card that it trains on.
"""

from __future__ import annotations

import importlib
import json
import sys
from importlib.metadata import version
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

PLACES = ("axolotl.utils.schemas.config", "axolotl.utils.config.models.input.v0_4_1")  # the second: before 0.8


def describe(plugins: list[str], settings: dict[str, Any]) -> dict[str, Any]:
    """The version, a tree of all keys (null: anything may stand below), and what is wrong with the settings."""
    models = [_schema(), *_plugin_schemas(plugins)]
    keys: dict[str, Any] = {}
    problems = []
    for model in models:
        keys |= _keys(model, ())
        problems += [problem for name, value in settings.items() for problem in _problems(model, name, value)]
    return {"version": version("axolotl"), "keys": keys, "problems": problems}


def _schema() -> type[BaseModel]:
    for place in PLACES:
        try:
            found: type[BaseModel] = importlib.import_module(place).AxolotlInputConfig
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("axolotl.utils"):
                raise
        else:
            return found
    raise ModuleNotFoundError(f"this axolotl has its settings in none of {', '.join(PLACES)}")


def _plugin_schemas(plugins: list[str]) -> list[type[BaseModel]]:
    """What plugins add to the settings."""
    if not plugins:
        return []
    base = importlib.import_module("axolotl.integrations.base")
    named = [name for name in (base.load_plugin(plugin).get_input_args() for plugin in plugins) if name]
    return [getattr(importlib.import_module(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in named]


def _keys(model: type[BaseModel], above: tuple[type[BaseModel], ...]) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        below = _below(field.annotation, (*above, model))
        aliases = (alias for alias in (field.alias, field.validation_alias) if isinstance(alias, str))
        keys |= dict.fromkeys((name, *aliases), below)
    return keys


def _below(annotation: Any, above: tuple[type[BaseModel], ...]) -> dict[str, Any] | None:
    """The keys of all mappings that an annotation allows; None: it names none, or lets anything stand there."""
    models = list(_models(annotation))
    if not models or any(model in above or model.model_config.get("extra") == "allow" for model in models):
        return None
    keys: dict[str, Any] = {}
    for model in models:
        keys |= _keys(model, above)
    return keys


def _models(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _problems(model: type[BaseModel], name: str, value: Any) -> list[dict[str, Any]]:
    field = model.model_fields.get(name)
    if field is None or value is None:
        return []
    try:
        TypeAdapter(field.rebuild_annotation()).validate_python(value)
    except ValidationError as error:
        return [{"where": [name, *found["loc"]], "message": found["msg"]} for found in error.errors()]
    except PydanticUserError:  # an annotation that does not stand alone: axolotl itself looks at it when it begins
        return []
    except (TypeError, AttributeError, LookupError) as error:  # of a check of axolotl's own that expected another type
        return [{"where": [name], "message": f"its check fails with {type(error).__name__}: {error}"}]
    return []


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    sys.stdout.write("\n" + json.dumps(describe(asked["plugins"], asked["settings"])) + "\n")
