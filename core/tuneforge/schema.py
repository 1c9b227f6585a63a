"""The JSON schema of recipes with the plugins at hand, by which editors complete and check them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from .documents import VARIABLE
from .hints import blocks_in
from .inputs import Input, inputs_of
from .launch.options import LaunchOptions
from .plugins import Plugins
from .recipe import RELEASE_NAME, STEP_NAME
from .stages import STAGES, Config, Method

_VARIABLE = {"$ref": "#/$defs/variable"}


def recipe_schema(plugins: Plugins) -> dict[str, Any]:
    """A draft 2020-12 schema."""
    # All in one go, since blocks of two plugins may bear one name.
    blocks = dict.fromkeys(block for method in plugins for _, block in _options(method))
    strategies = dict.fromkeys(kind for method in plugins for kind in method.strategies)
    named = [kind for offered in (plugins.trackers, plugins.extensions) for _, kind in offered]
    offered = [*plugins, *named, *blocks, *strategies]
    configs, made = models_json_schema([(block, "validation") for block in offered], ref_template="#/$defs/{model}")
    definitions: dict[str, Any] = made.get("$defs", {})
    references: dict[Any, str] = {block: str(config["$ref"]) for (block, _), config in configs.items()}
    steps = [_step(method, references) for method in plugins]
    for block in definitions.values():
        for option, schema in block.get("properties", {}).items():
            # A variable may stand for the word that tells several blocks apart: then more than one will do.
            block["properties"][option] = _or_variable(_any_of(schema))
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
            "trackers": {
                "type": ["object", "null"],
                "description": "Tools that a run is told of, with their options; false leaves one out.",
                "additionalProperties": False,
                "properties": {
                    name: _named(tracker, configs[tracker, "validation"]) for name, tracker in plugins.trackers
                },
            },
            "extensions": {
                "type": ["object", "null"],
                "description": "What adds steps, with its options; false switches one off.",
                "additionalProperties": False,
                "properties": {
                    name: _named(extension, configs[extension, "validation"]) for name, extension in plugins.extensions
                },
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


def _options(block: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type[BaseModel]]]:
    """Every option of a block and of those inside it, by its path, with the block that holds it."""
    for name, info in block.model_fields.items():
        yield (*path, name), block
        for inner in blocks_in(info.annotation):
            yield from _options(inner, (*path, name))


def _or_variable(schema: dict[str, Any]) -> dict[str, Any]:
    """A value or `${name}`, and the same of what a list or a block of names holds."""
    inside: dict[str, Any] = {
        key: _or_variable(schema[key]) for key in ("items", "additionalProperties") if isinstance(schema.get(key), dict)
    }
    inside |= {key: [_or_variable(one) for one in schema[key]] for key in ("prefixItems", "anyOf") if key in schema}
    return {"anyOf": [schema | inside, _VARIABLE]}


def _each(method: type[Method], references: Mapping[Any, str]) -> dict[str, Any]:
    """Options with lists of their values, or a list of blocks of options."""
    values: dict[str, list[dict[str, Any]]] = {}
    for path, block in _options(method):
        values.setdefault(".".join(path), []).append({"$ref": f"{references[block]}/properties/{path[-1]}"})
    single = {name: given[0] if len(given) == 1 else {"anyOf": given} for name, given in values.items()}
    lists = {
        name: {"anyOf": [{"type": "array", "minItems": 1, "uniqueItems": True, "items": value}, _VARIABLE]}
        for name, value in single.items()
    }
    options: dict[str, Any] = {"type": "object", "minProperties": 1, "additionalProperties": False}
    return {
        "description": "Repeat the step, and what depends on it, for each of these values.",
        "anyOf": [
            options | {"properties": lists},
            {"type": "array", "minItems": 1, "uniqueItems": True, "items": options | {"properties": single}},
        ],
    }


def _completed(method: type[Method], references: Mapping[Any, str]) -> dict[str, Any]:
    """`with:` beside `each:`, which may give what an option lacks, inside of a block too."""
    options = {
        name: {} if blocks_in(info.annotation) else {"$ref": f"{references[method]}/properties/{name}"}
        for name, info in method.model_fields.items()
    }
    return {"type": "object", "additionalProperties": False, "properties": options}


def _step(method: type[Method], references: Mapping[Any, str]) -> dict[str, Any]:
    inputs = inputs_of(method)
    configured = [] if all(not option.is_required() for option in method.model_fields.values()) else ["with"]
    return {
        "type": "object",
        "description": (method.__doc__ or "").strip(),
        "additionalProperties": False,
        "required": [method.stage, *(name for name, wanted in inputs.items() if wanted.required)],
        "if": {"required": ["each"]},
        "then": {"properties": {"with": _completed(method, references)}},
        "else": {"required": configured, "properties": {"with": {"$ref": references[method]}}},
        "properties": {
            method.stage: {"const": method.name, "description": (method.__doc__ or "").strip().split("\n")[0]},
            **{key: _wire(wanted) for key, wanted in inputs.items()},
            "with": {"type": "object"},
            "each": _each(method, references),
            **({"launch": _launch(method, references)} if method.strategies else {}),
            "as": {
                "type": "string",
                "pattern": f"^{RELEASE_NAME.pattern}$",
                "description": "The name to register the result under.",
            },
        },
    }


def _launch(method: type[Method], references: Mapping[Any, str]) -> dict[str, Any]:
    shared = LaunchOptions.model_json_schema()["properties"]
    shared["strategy"] |= {"enum": [kind.name for kind in method.strategies]}
    settings = {kind.name: {"anyOf": [{"$ref": references[kind]}, {"type": "null"}]} for kind in method.strategies}
    return {
        "type": "object",
        "description": "Spreads the step over several processes.",
        "additionalProperties": False,
        "properties": {name: _or_variable(option) for name, option in shared.items()} | settings,
    }


def _named(named: type[Config], config: dict[str, Any]) -> dict[str, Any]:
    plain: list[dict[str, Any]] = [{"const": False}]
    if all(not option.is_required() for option in named.model_fields.values()):
        plain.append({"type": "null"})
    return {"anyOf": [config, *plain], "description": (named.__doc__ or "").strip().split("\n")[0]}


def _any_of(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_any_of(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {"anyOf" if name == "oneOf" else name: _any_of(part) for name, part in schema.items()}


def _wire(wanted: Input) -> dict[str, Any]:
    one = {"type": "string", "description": f"A step, or registry:<reference>: {wanted}."}
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]} if wanted.many else one
