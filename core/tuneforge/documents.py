"""YAML as plain data in which every value remembers its line; overrides and variables included."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from .errors import Finding
from .fields import Mark, Text

Keys = tuple[str | int, ...]

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_-]*)\}")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML 1.2's idea of scalars: `1e-4` is a number, `no` and `on` are words."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 - PyYAML's own class attribute


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)


class Document:
    """A recipe's text as data. `problems` collects what is wrong with the text itself.

    `text` is what the file at `path` held once; then the file is not read, and need not be there.
    """

    def __init__(self, path: Path, shown: str | None = None, text: str | None = None) -> None:
        self.path = path
        self.shown = shown or str(path)
        self.text = path.read_text(encoding="utf-8") if text is None else text
        self.problems: list[Finding] = []
        self.settings: list[str] = []
        """The overrides, as they were given."""
        self._places: dict[Keys, str] = {}
        self._stands_for: dict[Keys, Keys] = {}
        self.data: Any = self._parse(self.text, self.shown, path.absolute().parent, ())

    def place(self, keys: Sequence[str | int]) -> str:
        """Where this value, or the nearest one around it, is written."""
        known = tuple(keys)
        for end in range(len(known), 0, -1):
            if known[:end] in self._stands_for:
                known = self._stands_for[known[:end]] + known[end:]
                break
        while known and known not in self._places:
            known = known[:-1]
        return self._places.get(known, self.shown)

    def stand_for(self, keys: Keys, written: Keys) -> None:
        """From now on, what is at `keys`, and inside, is where `written` is: it was made of that."""
        self._stands_for[keys] = written

    def override(self, setting: str) -> None:
        """Applies one `a.b.c=value`; its value is YAML and its relative paths start in the working folder."""
        self.settings.append(setting)
        name, equals, value = setting.partition("=")
        label = f"--set {name.strip()}"
        keys = name.strip().split(".")
        if not equals or not all(keys):
            self._problem(f"--set {setting}", "not of the form key.key=value", "For example --set steps.sft.with.r=8")
            return
        if not isinstance(self.data, dict):
            return
        if keys[0] in ("steps", "vars"):
            block = self.data.get(keys[0])
            known = block if isinstance(block, dict) else {}
            if len(keys) < 2 or keys[1] not in known:
                self._problem(label, f"the recipe has no {' '.join(keys[:2])}", _near(".".join(keys[1:2]), known))
                return
        keys = self._as_written(keys)
        at: Any = self.data
        for depth, key in enumerate(keys[:-1]):
            if isinstance(at, list) and key.isdecimal() and int(key) < len(at):
                at = at[int(key)]
                continue
            if isinstance(at, dict) and at.get(key) is None:
                at[key] = {}
            if not isinstance(at, dict) or not isinstance(at[key], (dict, list)):
                self._problem(label, f"{'.'.join(keys[: depth + 1])} is a plain value and has nothing inside it", "")
                return
            at = at[key]
        last: Any = keys[-1]
        if isinstance(at, list):
            if not (last.isdecimal() and int(last) < len(at)):
                self._problem(label, f"{'.'.join(keys[:-1])} has no item {last}", f"It has {len(at)}, counted from 0.")
                return
            last = int(last)
        where = tuple(int(key) if key.isdecimal() else key for key in keys)
        before = len(self.problems)
        parsed = self._parse(value, label, Path.cwd(), where)
        if len(self.problems) == before:
            at[last] = parsed

    def _as_written(self, keys: list[str]) -> list[str]:
        """The keys, with those in one that are written as one: `adapter.r` of `each:`."""
        at: Any = self.data
        found: list[str] = []
        while keys:
            ends = range(len(keys), 1, -1) if isinstance(at, dict) and keys[0] not in at else ()
            length = next((end for end in ends if ".".join(keys[:end]) in at), 1)
            key, keys = ".".join(keys[:length]), keys[length:]
            found.append(key)
            at = at.get(key) if isinstance(at, dict) else None
        return found

    def substitute(self) -> None:
        """Replaces `${name}` by the value of `vars: {name: ...}` everywhere; a variable may use those before it."""
        if not isinstance(self.data, dict):
            return
        variables = self.data.get("vars")
        if variables is None:
            variables = {}
        if not isinstance(variables, dict):
            self._problem(self.place(("vars",)), "vars must map names to values", "Write vars: {rank: 16}")
            return
        values: dict[str, Any] = {}
        for name, value in variables.items():
            values[name] = self._fill(value, values, ("vars", name))
        for key, value in self.data.items():
            if key != "vars":
                self.data[key] = self._fill(value, values, (key,))

    def _fill(self, value: Any, values: Mapping[str, Any], keys: Keys) -> Any:
        if isinstance(value, dict):
            return {key: self._fill(inner, values, (*keys, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._fill(inner, values, (*keys, index)) for index, inner in enumerate(value)]
        if not isinstance(value, Text) or "${" not in value:
            return value
        for name in VARIABLE.findall(value):
            if name not in values:
                self._problem(self.place(keys), f"${{{name}}} is not defined", _near(name, values, "vars"))
                return value
        whole = VARIABLE.fullmatch(value)
        if whole:
            return values[whole[1]]
        mark = value.mark
        start = VARIABLE.match(value)
        if start and isinstance(values[start[1]], Text):
            mark = Mark(mark.place, values[start[1]].mark.folder)  # a path begins where its first part was written
        return Text(VARIABLE.sub(lambda found: str(values[found[1]]), value), mark)

    def _parse(self, text: str, shown: str, folder: Path, keys: Keys) -> Any:
        try:
            node = yaml.compose(text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            at = error.problem_mark or error.context_mark
            place = f"{shown}:{at.line + 1}:{at.column + 1}" if at and shown == self.shown else shown
            self._problem(place, f"not valid YAML: {error.problem or error.context}", "")
            return None
        except (yaml.YAMLError, UnicodeEncodeError) as error:  # an argument of the command may be no text at all
            self._problem(shown, f"not valid YAML: {error}", "")
            return None
        self._places[keys] = shown
        try:
            return self._build(node, shown, folder, keys, ()) if node is not None else None
        except RecursionError:
            self._problem(shown, "blocks are nested too deeply", "A recipe needs about five levels.")
            return None

    def _build(self, node: yaml.Node, shown: str, folder: Path, keys: Keys, above: tuple[yaml.Node, ...]) -> Any:
        place = shown
        if shown == self.shown:
            place = f"{shown}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
        self._places[keys] = place
        if node in above:
            self._problem(place, "an anchor that contains itself", "Remove the alias.")
            return None
        above = (*above, node)
        if isinstance(node, yaml.MappingNode):
            mapping: dict[str, Any] = {}
            for key_node, value_node in node.value:
                at = f"{shown}:{key_node.start_mark.line + 1}:{key_node.start_mark.column + 1}"
                if not isinstance(key_node, yaml.ScalarNode):
                    self._problem(at, "a key must be a plain word", "")
                    continue
                key = str(key_node.value)
                if key in mapping:
                    self._problem(at, f"{key} is written twice in one block", "Keep one of them.")
                    continue
                mapping[key] = self._build(value_node, shown, folder, (*keys, key), above)
                if shown == self.shown:
                    self._places[(*keys, key)] = at
            return mapping
        if isinstance(node, yaml.SequenceNode):
            return [self._build(item, shown, folder, (*keys, i), above) for i, item in enumerate(node.value)]
        value = node.value
        try:
            match node.tag.rpartition(":")[2]:
                case "null":
                    return None
                case "bool":
                    return value.lower() == "true"
                case "int":
                    return int(value, 0) if value.lstrip("+-")[:2] in ("0o", "0x") else int(value)
                case "float":
                    return float(value)
        except ValueError:  # tagged as a number by hand, or with thousands of digits
            self._problem(place, f"{value[:40]} is not a number", "")
        return Text(value, Mark(place, folder))

    def _problem(self, place: str, problem: str, fix: str) -> None:
        self.problems.append(Finding(problem, fix, place=place))


def _near(word: str, names: Mapping[str, Any], what: str = "") -> str:
    close = get_close_matches(word, list(names), 1, 0.6)
    if close:
        return f"Did you mean {close[0]}?"
    return f"There are: {', '.join(names)}." if names else f"Define it under {what}:." if what else ""
