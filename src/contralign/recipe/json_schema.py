"""The JSON Schema of recipes, by which editors complete and check them: `contralign schema`.

It is made of the dataclasses that recipes are read into: types, choices and ranges. A file states differences to its
base, so nothing is required; null gives every setting its default. What settings must agree on only a run can tell.
"""

import re
from typing import Any

from pydantic import TypeAdapter

from contralign.contrast.registry import CONTRASTS, MAIN_SETTING
from contralign.recipe.data_settings import DataSettings
from contralign.recipe.model_settings import LoraSettings, ModelSettings
from contralign.recipe.recipe import Recipe
from contralign.recipe.rehearsal import TINY_SHAPE
from contralign.recipe.stage_settings import Stage
from contralign.recipe.trainer_arguments import trainer_arguments
from contralign.training.cal_settings import NONE, CalSettings
from contralign.weighting.registry import WEIGHTINGS


def recipe_schema() -> dict[str, Any]:
    """The schema (draft 2020-12) of a recipe file, with the names of installed plug-ins and TrainingArguments."""
    schema = TypeAdapter(Recipe).json_schema()
    sections = schema.pop("$defs")
    recipe, stage, cal = schema["properties"], sections["Stage"]["properties"], sections["CalSettings"]["properties"]
    _describe(schema, Recipe)
    for kind in (ModelSettings, LoraSettings, DataSettings, Stage, CalSettings):
        _describe(sections[kind.__name__], kind)
    for name, bound in {"alpha": {"minimum": 0}, "beta": {"exclusiveMinimum": 0}, "window": {"minimum": 1}}.items():
        cal[name] |= bound
    cal["weighting"] |= {"enum": list(WEIGHTINGS)}
    cal["contrast"] |= {"anyOf": [{"type": "string", "pattern": _spelled()}, {"type": "object", "required": ["name"]}]}
    stage["data"] = {"$ref": "#/$defs/DataSettings"} | _told(stage["data"])
    recipe["arms"]["additionalProperties"] = {"$ref": "#/$defs/CalSettings"}
    recipe["model"] = {"anyOf": [{"$ref": "#/$defs/ModelSettings"}, {"const": TINY_SHAPE}]} | _told(recipe["model"])
    recipe["trainer"] |= {"properties": _trainer(), "additionalProperties": False}
    recipe["base"] = {"type": "string", "description": "recipe that this one states the difference to"}
    for section in (schema, *sections.values()):
        _loosen(section)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Recipe of contralign"}
    return {**head, **{key: value for key, value in schema.items() if key != "title"}, "$defs": sections}


def _spelled() -> str:
    short = "|".join(f"{name}(:.+)?" if name in MAIN_SETTING else name for name in (*CONTRASTS, NONE))
    return f"^({short})$"


def _trainer() -> dict[str, Any]:
    return {name: _nullable(TypeAdapter(kind).json_schema()) for name, kind in trainer_arguments().items()}


def _told(setting: dict[str, Any]) -> dict[str, Any]:
    return {"description": setting["description"]} if "description" in setting else {}


def _describe(section: dict[str, Any], kind: type) -> None:
    """What the dataclass's docstring says of every setting, as its description."""
    told = dict(re.findall(r"(?m)^ {8}(\w+): ((?:.|\n {12})+)", kind.__doc__ or ""))
    for name, setting in section["properties"].items():
        setting["description"] = " ".join(told[name].split())


def _loosen(section: dict[str, Any]) -> None:
    """Nothing is required, null is a default, one value may stand for a list of one, and other keys are refused."""
    section.pop("required", None)
    section |= {"type": ["object", "null"], "additionalProperties": False}
    section["properties"] = {name: _nullable(setting) for name, setting in section["properties"].items()}


def _nullable(setting: dict[str, Any]) -> dict[str, Any]:
    kind = {key: value for key, value in setting.items() if key not in ("default", "title")}
    choices = [choice for choice in kind.pop("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1:
        return _nullable(kind | choices[0])
    if kind.get("type") == "array":
        return {**_told(kind), "anyOf": [{"type": "null"}, kind["items"], {"type": "array", "items": kind["items"]}]}
    if choices:
        return {**kind, "anyOf": [{"type": "null"}, *choices]}
    if "enum" in kind:
        return {**_told(kind), "enum": [*kind["enum"], None]}
    return kind if "$ref" in kind or "type" not in kind else {**kind, "type": [kind["type"], "null"]}
