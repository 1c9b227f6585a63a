"""A reward that a person wrote: a function of a file, or of a package."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, Literal

from tuneforge import Field, Finding, Function, StepError
from tuneforge.functions import code_of, names_of

from .base import Answer, Rule, Scorer

_TOLD = ("prompt", "answer", "reference")


class Custom(Rule):
    """What a function of yours says: `def score(prompt, answer, reference): ...` gives a number for each answer.

    It is called by these names, of which it may leave some out: the messages of the prompt, the answer's text, and the
    reference's or None. What it raises ends the step; so does what is no finite number.
    """

    type: Literal["function"] = Field(also=("python", "custom", "reward_func"), description="The type of reward.")
    function: Function = Field(
        also=("path", "reward_funcs", "custom_reward_function"),
        description="file.py:name, relative to the recipe, or package.module:name. It counts by its content.",
    )

    @property
    def called(self) -> str:
        return self.name or self.function.rpartition(":")[2]

    def check(self) -> Iterator[Finding]:
        where, _, name = self.function.rpartition(":")
        code = code_of(where)
        if code is None:
            what = f"{where} does not exist" if where.endswith(".py") else f"there is no module {where} here"
            fix = "Write file.py:name, relative to the recipe, or the name of an installed module."
            yield Finding(what, fix, field="function")
            return
        try:
            known = names_of(code)
        except SyntaxError as error:
            yield Finding(f"{code.name}:{error.lineno} is no Python: {error.msg}", "Mend it.", field="function")
            return
        if name not in known:
            if "*" in known:  # it may come from there
                return
            own = ", ".join(sorted(found for found, node in known.items() if isinstance(node, ast.FunctionDef)))
            yield Finding(f"{code.name} has no function {name}", f"It has {own or 'none'}.", field="function")
            return
        if isinstance(known[name], ast.AsyncFunctionDef):
            yield Finding(f"{name} of {code.name} is async", "Write it with a plain def.", field="function")
        unknown = _unknown(known[name])
        if unknown:
            yield Finding(
                f"{name} of {code.name} asks for {', '.join(unknown)}",
                f"A reward is told {', '.join(_TOLD)}: `def {name}(prompt, answer, reference)`.",
                field="function",
            )

    def scorer(self) -> Scorer:
        where, _, name = self.function.rpartition(":")
        function: Callable[..., Any] = getattr(_module(where), name)
        parameters = inspect.signature(function).parameters.values()
        every = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        wanted = [told for told in _TOLD if every or told in {parameter.name for parameter in parameters}]

        def score(answer: Answer) -> float:
            told = {"prompt": answer.prompt, "answer": answer.text, "reference": answer.reference}
            given = function(**{name: told[name] for name in wanted})
            if not isinstance(given, (int, float)):  # numpy's and torch's numbers are floats, or say so by item()
                given = given.item() if hasattr(given, "item") else given
            if not isinstance(given, (int, float)):
                raise TypeError(f"it gave {given!r}, which is no number")
            return float(given)

        return score


def _unknown(node: ast.AST) -> list[str]:
    """Parameters without a default that nothing is told for; of what is no function, none are known."""
    if not isinstance(node, ast.FunctionDef):
        return []
    given = node.args
    positional = [*given.posonlyargs, *given.args]
    asked = positional[: len(positional) - len(given.defaults)]
    asked += [one for one, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default is None]
    return [one.arg for one in asked if one.arg not in _TOLD]


def _module(where: str) -> Any:
    if not where.endswith(".py"):
        return import_module(where)
    path = Path(where)
    spec = spec_from_file_location(f"tuneforge_reward_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise StepError(f"{path} cannot be imported", "Is it a file of Python?")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module
