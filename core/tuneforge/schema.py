"""The JSON schema of recipes with the plugins at hand, by which editors complete and check them."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from .documents import VARIABLE
from .inputs import Input, inputs_of
from .plugins import Plugins
from .recipe import RELEASE_NAME, STEP_NAME
from .stages import STAGES, Method


def recipe_schema(plugins: Plugins) -> dict[str, Any]:
    """A draft 2020-12 schema."""
    # All in one go, since blocks of two plugins may bear one name.
    configs, made = models_json_schema([(method, "validation") for method in plugins], ref_template="#/$defs/{model}")
    definitions: dict[str, Any] = made.get("$defs", {})
    steps = [_step(method, configs[method, "validation"]) for method in plugins]
    for block in definitions.values():
        for option, schema in block.get("properties", {}).items():
            # A variable may stand for the word that tells several blocks apart: then more than one will do.
            block["properties"][option] = {"anyOf": [_any_of(schema), {"$ref": "#/$defs/variable"}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tuneforge recipe",
        "type": "object",
        "additionalProperties": False,
        "required": ["steps"],
        "properties": {
            "name": {"type": "string"},
            "description": {"type": "string"},
            "seed": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1, "default": 0},
            "vars": {"type": "object", "description": "Values to be used as ${name}."},
            "plugins": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Local plugins: files or modules.",
            },
            "steps": {
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"pattern": f"^{STEP_NAME.pattern}$"},
                "additionalProperties": {"$ref": "#/$defs/step"},
            },
        },
        "$defs": {
            **definitions,
            "variable": {"type": "string", "pattern": VARIABLE.pattern},
            # Told by stage, so that an editor's message is about the method that was meant.
            "step": {"type": "object", "oneOf": [{"required": [stage]} for stage in STAGES], "anyOf": steps},
        },
    }


def _step(method: type[Method], config: dict[str, Any]) -> dict[str, Any]:
    inputs = inputs_of(method)
    configured = [] if all(not option.is_required() for option in method.model_fields.values()) else ["with"]
    return {
        "type": "object",
        "description": (method.__doc__ or "").strip(),
        "additionalProperties": False,
        "required": [method.stage, *(name for name, wanted in inputs.items() if wanted.required), *configured],
        "properties": {
            method.stage: {"const": method.name, "description": (method.__doc__ or "").strip().split("\n")[0]},
            **{key: _wire(wanted) for key, wanted in inputs.items()},
            "with": config,
            "as": {
                "type": "string",
                "pattern": f"^{RELEASE_NAME.pattern}$",
                "description": "The name to register the result under.",
            },
        },
    }


def _any_of(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_any_of(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {"anyOf" if name == "oneOf" else name: _any_of(part) for name, part in schema.items()}


def _wire(wanted: Input) -> dict[str, Any]:
    one = {"type": "string", "description": f"A step, or registry:<reference>: {wanted}."}
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]} if wanted.many else one
