"""Which layers of a model get an adapter, told by the names and shapes of its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches

from tuneforge import Facts, Finding

Shapes = Mapping[str, Sequence[int]]
"""Of every weight of a model, by name: its shape."""

_WEIGHTS = ("weight", "qweight", "weight_packed")
"""What the matrix of a linear layer is called: as it is, by GPTQ and AWQ, and by compressed-tensors."""
_HEADS = ("lm_head", "embed_out", "output_projection", "output", "head", "score", "classifier")
_TEXTLESS = ("vision", "visual", "audio", "image")


def linear_layers(shapes: Shapes) -> list[str]:
    """The linear layers that `auto` stands for, in the order of `shapes`: those of the repeated blocks.

    Fused projections are among them, and so is the expert of a mixture that every token passes. Embeddings, the output
    head and a classification score lie outside the blocks; routers are left out, since to train them upsets the balance
    of a mixture. Of a state space mixer only in_proj is taken: fused kernels read the other matrices past their
    modules, so that an adapter there would do nothing.
    """
    mixtures, mixers = _mixtures(shapes), _mixers(shapes)
    return [
        layer
        for layer, shape in _matrices(shapes)
        if in_block(layer)
        and not is_embedding(layer)
        and not _in_experts(layer)
        and not _is_router(layer, shape, mixtures)
        and not _past_its_module(layer, mixers)
    ]


def in_block(name: str) -> bool:
    """Whether a layer lies inside a numbered list of modules."""
    return any(part.isdigit() for part in name.split(".")[:-1])


def is_embedding(layer: str) -> bool:
    """Whether a layer is an embedding, of tokens or of positions; `embed_out` is GPT-NeoX's output head."""
    last = layer.rsplit(".", 1)[-1]
    return last in ("wte", "wpe") or ("embed" in last and last not in _HEADS)


def is_head(layer: str) -> bool:
    """Whether a layer is the output head, or the score of a classifier."""
    return not in_block(layer) and layer.rsplit(".", 1)[-1] in _HEADS


def on_head(targets: object) -> bool:
    """Whether layers by name, as the configuration of an adapter has them, are told to include the output head."""
    return isinstance(targets, list) and any(is_head(str(name)) for name in targets)


def is_text(name: str) -> bool:
    """Whether a weight belongs to the language model, and not to what sees or hears for it."""
    return not any(word in part for part in name.split(".") for word in _TEXTLESS)


def experts(shapes: Shapes) -> int:
    """How many experts the model's mixtures have; 0 if it has none."""
    return max(_mixtures(shapes).values(), default=0)


def check_targets(targets: str | Sequence[str], model: Facts) -> Iterator[Finding]:
    """Findings on the layers that an adapter is asked for, as far as the model's weights are known."""
    shapes = {name: tensor.shape for name, tensor in model.tensors.items()}
    if not shapes:
        return
    if isinstance(targets, str):
        count = experts(shapes) if targets == "auto" else 0
        if count:
            yield Finding(
                f"the {count} experts of each mixture get no adapter, all other layers do",
                "They are no linear layers but slices of one tensor. Leave adapter: out to train them too.",
                "warning",
                "adapter.target_modules",
            )
        return
    for target in targets:
        yield from _check_target(target, shapes, tied=_tied(model))


def _check_target(target: str, shapes: Shapes, tied: bool) -> Iterator[Finding]:
    mixtures = _mixtures(shapes)
    matrices = dict(_matrices(shapes))
    named = [layer for layer in matrices if _ends(layer, target)]
    inside = [layer for layer in matrices if not is_embedding(layer) and not is_head(layer) and not _in_experts(layer)]
    usable = [layer for layer in inside if not _is_router(layer, matrices[layer], mixtures)]
    if any(layer in usable for layer in named):
        if all(_past_its_module(layer, _mixers(shapes)) for layer in named):
            yield Finding(
                f"fused kernels read {target} past its module, so that an adapter on it may do nothing",
                "Take in_proj, or set auto.",
                "warning",
                "adapter.target_modules",
            )
        return
    names = sorted({layer.rsplit(".", 1)[-1] for layer in usable})
    near = get_close_matches(target, names, 3, 0.5)
    if target.rsplit(".", 1)[-1] in _HEADS and (not named or any(is_head(layer) for layer in named)):
        shared = " and the embedding as well, tied to it" if tied else ""
        problem, fix = f"{target} is the output head{shared}, which gets no adapter", "Leave it out."
    elif any(_in_experts(layer) for layer in named):
        problem, fix = f"{target} lies in the experts of a mixture, which get no adapter", "Leave it out."
    elif any(layer in inside for layer in named):
        problem, fix = f"{target} is the router of a mixture, which gets no adapter", "Leave it out."
    else:
        problem = f"the model has no linear layer {target!r} to put an adapter on"
        fix = f"Did you mean {' or '.join(near)}?" if near else f"It has {', '.join(names)}; or set auto."
    yield Finding(problem, fix, field="adapter.target_modules")


def _tied(model: Facts) -> bool:
    return bool(model.config.get("tie_word_embeddings", False))


def _ends(layer: str, target: str) -> bool:
    return layer == target or layer.endswith(f".{target}")


def _matrices(shapes: Shapes) -> Iterator[tuple[str, Sequence[int]]]:
    for name, shape in shapes.items():
        layer, _, last = name.rpartition(".")
        if len(shape) == 2 and last in _WEIGHTS:
            yield layer, shape


def _in_experts(layer: str) -> bool:
    return "experts" in layer.split(".")


def _mixtures(shapes: Shapes) -> dict[str, int]:
    """Of every mixture of experts, by the name of its block: how many experts it has.

    A file may hold each expert's matrices by themselves; transformers makes one tensor of three dimensions of them.
    """
    found: dict[str, int] = {}
    for name, shape in shapes.items():
        block, inside, rest = name.partition(".experts.")
        if inside:
            number = rest.split(".", 1)[0]
            count = int(number) + 1 if number.isdigit() else shape[0] if len(shape) == 3 else 0
            found[block] = max(found.get(block, 0), count)
    return found


def _is_router(layer: str, shape: Sequence[int], mixtures: Mapping[str, int]) -> bool:
    """Whether a layer weighs experts: one output for each of them, or one for the expert that is always asked."""
    *above, last = layer.split(".")
    if "router" in (*above, last):
        return True
    count = mixtures.get(".".join(above))
    return count is not None and (last == "gate" or shape[0] in (1, count))


def _mixers(shapes: Shapes) -> set[str]:
    """The state space mixers (Mamba, Mamba 2, and the hybrids): each has a decay A and a skip connection D."""
    decays = [name.removesuffix(".A_log") for name in shapes if name.endswith(".A_log")]
    return {mixer for mixer in decays if f"{mixer}.D" in shapes}


def _past_its_module(layer: str, mixers: set[str]) -> bool:
    above, _, last = layer.rpartition(".")
    return above in mixers and last != "in_proj"
