"""The JSON schema of recipes with the plugins at hand, by which editors complete and check them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

from .documents import VARIABLE
from .inputs import Input, inputs_of
from .launch import LaunchOptions, Strategy
from .plugins import Plugins
from .recipe import RELEASE_NAME, STEP_NAME
from .stages import STAGES, Method


def recipe_schema(plugins: Plugins) -> dict[str, Any]:
    """A draft 2020-12 schema."""
    # All in one go, since blocks of two plugins may bear one name.
    kinds = dict.fromkeys(kind for method in plugins for kind in method.strategies)
    configs, made = models_json_schema(
        [(config, "validation") for config in (*plugins, *kinds)], ref_template="#/$defs/{model}"
    )
    definitions: dict[str, Any] = made.get("$defs", {})
    steps = [
        _step(method, configs[method, "validation"], {kind: configs[kind, "validation"] for kind in method.strategies})
        for method in plugins
    ]
    for block in definitions.values():
        for option, schema in block.get("properties", {}).items():
            block["properties"][option] = {"anyOf": [schema, {"$ref": "#/$defs/variable"}]}
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


def _step(method: type[Method], config: dict[str, Any], strategies: Mapping[type[Strategy], Any]) -> dict[str, Any]:
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
            **({"launch": _launch(strategies)} if strategies else {}),
            "as": {
                "type": "string",
                "pattern": f"^{RELEASE_NAME.pattern}$",
                "description": "The name to register the result under.",
            },
        },
    }


def _launch(strategies: Mapping[type[Strategy], Any]) -> dict[str, Any]:
    shared = LaunchOptions.model_json_schema()["properties"]
    shared["strategy"] |= {"enum": [kind.name for kind in strategies]}
    return {
        "type": "object",
        "description": "Spreads the step over several processes.",
        "additionalProperties": False,
        "properties": shared | {kind.name: settings for kind, settings in strategies.items()},
    }


def _wire(wanted: Input) -> dict[str, Any]:
    one = {"type": "string", "description": f"A step, or registry:<reference>: {wanted}."}
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]} if wanted.many else one
