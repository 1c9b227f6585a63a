"""Rewards for what an answer says: the reference, a pattern, a schema."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any, Literal, NoReturn

from tuneforge import Field, Finding
from tuneforge.kit.records import find_record

from .base import Answer, Rule, Scorer


class Exact(Rule):
    """1 for an answer that is the reference, else 0."""

    compares = True

    type: Literal["exact"] = Field(also=("exact_match", "accuracy"), description="The type of reward.")
    of: Literal["text", "record"] = Field(
        "text",
        description="What must be equal: the text, white space around it aside; or the first JSON object (or list of "
        "objects) in it, whatever the order of keys and whatever stands around it.",
    )

    def lacks(self, reference: str | None) -> str:
        if reference is not None and self.of == "record" and find_record(reference) is None:
            return "whose reference holds no JSON record"
        return super().lacks(reference)

    def scorer(self) -> Scorer:
        if self.of == "text":
            return lambda answer: float(answer.text.strip() == (answer.reference or "").strip())
        return lambda answer: float(find_record(answer.text) == find_record(answer.reference or ""))


class Regex(Rule):
    """1 for an answer in which a regular expression finds something, else 0."""

    type: Literal["regex"] = Field(also=("regexp", "format", "pattern"), description="The type of reward.")
    pattern: str = Field(description="A regular expression of Python's re; its dot matches line breaks, too.")
    whole: bool = Field(False, description="The answer must match as a whole, white space around it aside.")

    def check(self) -> Iterator[Finding]:
        try:
            re.compile(self.pattern, re.DOTALL)
        except re.error as error:
            yield Finding(f"pattern does not compile: {error}", "Mend it; quote it in YAML: '...'.", field="pattern")

    def scorer(self) -> Scorer:
        pattern = re.compile(self.pattern, re.DOTALL)
        found = pattern.fullmatch if self.whole else pattern.search
        return lambda answer: float(found(answer.text.strip()) is not None)


class JsonSchema(Rule):
    """1 for an answer that is JSON and valid against a schema, else 0."""

    type: Literal["json-schema"] = Field(also=("json_schema", "jsonschema"), description="The type of reward.")
    json_schema: dict[str, Any] = Field(
        also=("schema",), description="The JSON schema; by its $schema, of the newest draft where it names none."
    )

    def check(self) -> Iterator[Finding]:
        if _is_plain(self.json_schema) or find_spec("jsonschema") is None:  # the step's own environment has it
            return
        from jsonschema import SchemaError
        from jsonschema.validators import validator_for

        try:
            validator_for(self.json_schema).check_schema(self.json_schema)
        except SchemaError as error:
            place = "".join(f".{part}" for part in error.absolute_path)
            yield Finding(
                f"json_schema{place} is no JSON schema: {error.message}",
                "See https://json-schema.org/understanding-json-schema.",
                field="json_schema",
            )

    def scorer(self) -> Scorer:
        from jsonschema.validators import validator_for
        from referencing import Registry

        # With a registry of its own it does not fetch from the network what a schema refers to.
        validator = validator_for(self.json_schema)(self.json_schema, registry=Registry())

        def score(answer: Answer) -> float:
            try:
                value = json.loads(answer.text, parse_constant=_refuse)
            except (ValueError, RecursionError):
                return 0.0
            return float(validator.is_valid(value))

        return score


def _is_plain(schema: Any) -> bool:
    """Whether a schema has but the usual keywords, each as it should be: a plan has no time to import jsonschema."""
    if not isinstance(schema, dict):
        return isinstance(schema, bool)
    return all(word in _USUAL and _USUAL[word](value) for word, value in schema.items())


_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_USUAL: Mapping[str, Callable[[Any], bool]] = {
    "type": lambda given: given in _TYPES,
    "properties": lambda given: isinstance(given, dict) and all(map(_is_plain, given.values())),
    "required": lambda given: isinstance(given, list) and all(isinstance(name, str) for name in given),
    "items": _is_plain,
    "additionalProperties": _is_plain,
}


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
