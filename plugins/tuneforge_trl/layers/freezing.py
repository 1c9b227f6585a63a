"""Which weights of a model stay as they are while the rest is trained, told by their names and shapes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Literal

from tuneforge import Facts, Finding

from .targets import Shapes, experts, in_block, is_embedding, is_head, is_text

EMBEDDINGS = "embeddings"
_LAYERS = re.compile(r"layers (\d+)(?:-(\d+))?")


class UnknownWeightsError(ValueError):
    """What is to be frozen is not in the model: `problem` and `fix`."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.problem, self.fix = problem, fix


def chosen(what: str, shapes: Shapes) -> set[str]:
    """The names in `shapes` that one entry of `freeze` stands for. Raises UnknownWeightsError if there are none.

    An entry is `embeddings`, `layers 0-7`, `layers 3`, or a pattern of names such as `*.mlp.*`; the name of a module
    stands for all weights in it.
    """
    layers = _LAYERS.fullmatch(what.strip())
    if what.strip() == EMBEDDINGS:
        found = {name for name in shapes if not in_block(name) and is_embedding(name.rpartition(".")[0])}
        if not found:
            raise UnknownWeightsError("the model has no weights that are called embeddings", _offer(what, shapes))
    elif layers:
        first, last = int(layers[1]), int(layers[2] or layers[1])
        blocks = _blocks(shapes)
        if not first <= last < len(blocks):
            there = f"the model has layers 0-{len(blocks) - 1}" if blocks else "the model has no numbered layers"
            raise UnknownWeightsError(f"{what}: {there}", "Count from 0, the last one included, as in layers 0-7.")
        found = {name for block in range(first, last + 1) for name in blocks[block]}
    else:
        found = {name for name in shapes if fnmatchcase(name, what) or fnmatchcase(name, f"{what}.*")}
        if not found:
            raise UnknownWeightsError(f"the model has no weights that are called {what}", _offer(what, shapes))
    return found


def check_freeze(freeze: Sequence[str], has_adapter: bool, model: Facts) -> Iterator[Finding]:
    """Findings on the weights that are to stay as they are."""
    if not freeze:
        return
    if has_adapter or model.base is not None:
        yield Finding(
            "an adapter leaves all weights of the model as they are, so there is nothing to freeze",
            "Leave freeze out; target_modules says which layers get an adapter.",
            field="freeze",
        )
        return
    shapes = with_tied_head({name: tensor.shape for name, tensor in model.tensors.items()}, _is_tied(model))
    if not shapes:
        return
    frozen: set[str] = set()
    for what in freeze:
        try:
            frozen |= chosen(what, shapes)
        except UnknownWeightsError as unknown:
            # Transformers gives the weights of many mixtures other names than their files have.
            level: Literal["error", "warning"] = "warning" if experts(shapes) else "error"
            yield Finding(unknown.problem, unknown.fix, level, field="freeze")
    if frozen >= _but_tied_heads(shapes, frozen, _is_tied(model)):
        yield nothing_left()


def nothing_left() -> Finding:
    return Finding("all of the model is frozen, nothing is left to be trained", "Freeze less of it.", field="freeze")


def with_tied_head(shapes: Shapes, tied: bool) -> dict[str, Sequence[int]]:
    """Weights as the model has them: an output head that is tied to the embedding is not in the file, or not alone."""
    known = dict(shapes)
    embedding = next((shape for name, shape in shapes.items() if _is_token_embedding(name)), None)
    if tied and embedding is not None and not any(is_head(name.rpartition(".")[0]) for name in shapes):
        known["lm_head.weight"] = embedding
    return known


def _but_tied_heads(shapes: Shapes, frozen: Collection[str], tied: bool) -> set[str]:
    """What must be frozen for nothing to be left: of two weights that are tied, either stands for both."""
    ends = {name for name in shapes if is_head(name.rpartition(".")[0]) or _is_token_embedding(name)}
    return set(shapes) - (ends if tied and ends & set(frozen) else set())


def _is_token_embedding(name: str) -> bool:
    layer = name.rpartition(".")[0]
    return not in_block(name) and is_embedding(layer) and "position" not in layer and not layer.endswith("wpe")


def _is_tied(model: Facts) -> bool:
    return bool(model.config.get("tie_word_embeddings", False))


def _blocks(shapes: Shapes) -> list[list[str]]:
    """The weights of each of the repeated blocks: of the longest numbered list of modules in the language model."""
    lists: defaultdict[str, defaultdict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in filter(is_text, shapes):
        parts = name.split(".")
        at = next((index for index, part in enumerate(parts) if part.isdigit()), None)
        if at is not None:
            lists[".".join(parts[:at])][int(parts[at])].append(name)
    longest: Mapping[int, list[str]] = max(lists.values(), key=len, default={})
    return [longest[number] for number in sorted(longest)]


def _offer(what: str, shapes: Iterable[str]) -> str:
    """The nearest names; numbers are left out, so that a hundred layers are one name."""
    known = dict.fromkeys(re.sub(r"\.\d+\.", ".*.", name) for name in shapes)
    modules = dict.fromkeys(name.rpartition(".")[0] for name in known)
    near = get_close_matches(re.sub(r"\.(\d+|\[[^]]*\])\.", ".*.", what), [*known, *modules], 3, 0.5)
    return f"Did you mean {' or '.join(near)}?" if near else f"It has {', '.join([*modules][:12])}."
