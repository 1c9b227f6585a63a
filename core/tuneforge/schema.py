"""The JSON schema of recipes with the plugins at hand, by which editors complete and check them."""

from __future__ import annotations

from typing import Any

from .inputs import Input, inputs_of
from .plugins import Plugins
from .stages import STAGES, Method


def recipe_schema(plugins: Plugins) -> dict[str, Any]:
    """A draft 2020-12 schema."""
    definitions: dict[str, Any] = {}
    steps = []
    for method in plugins:
        config = method.model_json_schema(ref_template="#/$defs/{model}")
        definitions |= config.pop("$defs", {})
        name = f"{method.stage}.{method.name}"
        definitions[name] = config
        steps.append(_step(method, name))
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
            "seed": {"type": "integer", "minimum": 0, "default": 0},
            "vars": {"type": "object", "description": "Values to be used as ${name}."},
            "plugins": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Local plugins: files or modules.",
            },
            "steps": {"type": "object", "minProperties": 1, "additionalProperties": {"$ref": "#/$defs/step"}},
        },
        "$defs": {
            **definitions,
            "variable": {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_-]*\}"},
            # Told by stage, so that an editor's message is about the method that was meant.
            "step": {"type": "object", "oneOf": [{"required": [stage]} for stage in STAGES], "anyOf": steps},
        },
    }


def _step(method: type[Method], name: str) -> dict[str, Any]:
    inputs = inputs_of(method)
    return {
        "type": "object",
        "description": (method.__doc__ or "").strip(),
        "additionalProperties": False,
        "required": [method.stage, *(name for name, wanted in inputs.items() if wanted.required)],
        "properties": {
            method.stage: {"const": method.name, "description": (method.__doc__ or "").strip().split("\n")[0]},
            **{key: _wire(wanted) for key, wanted in inputs.items()},
            "with": {"$ref": f"#/$defs/{name}"},
            "as": {"type": "string", "description": "The name to register the result under."},
        },
    }


def _wire(wanted: Input) -> dict[str, Any]:
    one = {"type": "string", "description": f"A step, or registry:<reference>: {wanted}."}
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]} if wanted.many else one
