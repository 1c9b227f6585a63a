"""What keeps models from being merged, as far as it is known before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tuneforge import Facts, Finding, Known
from tuneforge.kit.adapters import peft_type, quantized_base, unmergeable

from .base import ModelMerge
from .layers import Passthrough, Slice
from .layout import DEPTH, comparable, depth_of, is_of_tokens
from .values import filters, of_each
from .vocabulary import aligned, same, tokens

_SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("head_dim", "hidden_act", "n_embd", "n_layer", "n_head"),
)
"""What of config.json makes models of one architecture unlike, or gives their equal tensors another meaning."""

_ASIDE = {
    *("architectures", "model_type", "vocab_size", "dtype", "torch_dtype", "use_cache", "max_position_embeddings"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "_name_or_path", "transformers_version", "quantization_config"),
    *("layer_types", *_SIZES),
}
"""What else may differ between models that are merged, or is told of by itself."""

_ASKED = {
    "cohere": ".self_attn.q_norm.weight",
    "falcon": ".ln_attn.weight",
    "gpt_neox": ".attention.masked_bias",
}
"""Model types of which mergekit asks for tensors that not every one has, or that transformers no longer writes."""

_SHOWN = 3
_TUNED = "Merge models that were tuned from one base."
_ALIGN = "Align their embeddings by token: write tokenizer: union, or the number of a model."


class Input(NamedTuple):
    """A model among the inputs, as messages call it; of an adapter, the model that it sits on."""

    name: str
    facts: Facts


def findings(method: ModelMerge, known: Known) -> Iterator[Finding]:
    """All that can be said of merging these inputs in this way."""
    models, base = known.get("models", ()), next(iter(known.get("base", ())), None)
    named = [Input(f"model {number}", model.model) for number, model in enumerate(models)]
    everyone = [*([Input("the base", base)] if base else []), *named]
    yield from _counts(method, len(models))
    for number, model in enumerate(models):
        yield from of_base(f"model {number}", model, base)
    for one in everyone:
        if "quantization_config" in one.facts.config:
            yield Finding(f"{one.name} is quantized", "Merge the full-precision models, and quantize the result.")
        yield from _asked(one)
    align = None if method.donor() is not None else _ALIGN
    for other in everyone[1:]:
        yield from unlike(everyone[0], other, aligned=align is None, stacks=method.stacks, align=align or _TUNED)
    yield from _filters(method, everyone)
    yield from _tokenizers(method, named, base)
    if isinstance(method, Passthrough):
        yield from _stack(method.stack, named)


def _counts(method: ModelMerge, count: int) -> Iterator[Finding]:
    if count < method.least or (method.most is not None and count > method.most):
        wanted = str(method.least) if method.least == method.most else f"{method.least} or more"
        models = "model" if wanted == "1" else "models"
        yield Finding(f"{method.name} merges {wanted} {models}, not {count}", f"Wire {wanted} {models} to it.")
    for option, values in method.each().items():
        if isinstance(values, list) and len(values) != count:
            problem = f"{option} has {_some(len(values), 'value')} for {_some(count, 'model')}"
            yield Finding(problem, "Give one for each model, or one number for all.", field=option)
    if method.divides() and "weights" in method.each():
        weights = of_each(method.each()["weights"], count)
        if all(isinstance(weight, float) for weight in weights) and abs(sum(weights)) < 1e-9:
            fix = "Write normalize: false." if "normalize" in type(method).model_fields else "Write other weights."
            yield Finding("the weights add up to zero, by which nothing can be divided", fix, field="weights")


def _asked(one: Input) -> Iterator[Finding]:
    kind = one.facts.config.get("model_type")
    end = _ASKED.get(str(kind))
    if end is not None and one.facts.tensors and not any(name.endswith(end) for name in one.facts.tensors):
        yield Finding(
            f"{one.name} is a {kind} without weights that mergekit asks for, such as *{end}",
            "Merge models of another architecture, or adapters (merge: adapters).",
        )


def _some(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def of_base(name: str, model: Facts, base: Facts | None) -> Iterator[Finding]:
    """What keeps an adapter from being merged into its own base first."""
    if model.base is None:
        return
    reason = unmergeable(peft_type(model.config))
    if reason:
        yield Finding(f"{name} is an adapter that cannot be merged: {reason}", "Train one that can be, such as lora.")
    rounded = quantized_base(model.config)
    if rounded:
        yield Finding(
            f"{name} is an adapter that was trained on a base rounded to {rounded}, and is merged into the base as it "
            "was, which differs by what the rounding took away",
            "Measure the result.",
            "warning",
        )
    if base is None or model.model == base:
        return
    digests = model.model.digest, base.digest
    if all(digests) and digests[0] == digests[1]:
        return
    certain = all(digests) or not any(digests)
    yield Finding(
        f"{name} is an adapter on another model than the base" + ("" if certain else ", as far as can be told now"),
        "Name the model that the adapter was trained on as the base.",
        "error" if certain else "warning",
    )


def unlike(
    one: Input, other: Input, *, aligned: bool = False, stacks: bool = False, fix: str = _TUNED, align: str = _TUNED
) -> Iterator[Finding]:
    """In what two models are unlike.

    Where their embeddings are `aligned`, or not taken, the number of rows does not count; else `align` is what to do if
    that is all. `fix` is what to do about the rest.
    """
    mine, its = one.facts.config, other.facts.config
    if not mine or not its:
        return
    architectures = [(config.get("architectures") or [config.get("model_type")])[0] for config in (mine, its)]
    if architectures[0] != architectures[1]:
        yield Finding(f"{one.name} is a {architectures[0]}, and {other.name} a {architectures[1]}", fix)
        return
    depth = DEPTH if stacks else ()
    sizes = [name for name in _SIZES if name not in depth and mine.get(name) != its.get(name)]
    told = [f"{name} ({mine.get(name)} and {its.get(name)})" for name in sizes]
    tensors = dict(_other_tensors(one.facts, other.facts, stacks=stacks, vocabulary=aligned))
    if tensors:
        shown = [f"{name} ({what})" for name, what in list(tensors.items())[:_SHOWN]]
        more = f" and {len(tensors) - _SHOWN} more" if len(tensors) > _SHOWN else ""
        told.append(f"{_some(len(tensors), 'tensor')}: {', '.join(shown)}{more}")
    if told:
        rows = [config.get("vocab_size") for config in (mine, its)]
        words = not sizes and rows[0] != rows[1] and not aligned
        yield Finding(f"{one.name} and {other.name} differ in {'; '.join(told)}", align if words else fix)
    elif others := sorted(name for name in {*mine, *its} - _ASIDE if mine.get(name) != its.get(name)):
        listed = ", ".join(f"{name} ({mine.get(name)} and {its.get(name)})" for name in others[:_SHOWN])
        yield Finding(
            f"the settings of {one.name} and {other.name} differ in {listed}: the result has those of {one.name}",
            "Merge models of the same settings, or measure the result.",
            "warning",
        )


def _other_tensors(one: Facts, other: Facts, *, stacks: bool, vocabulary: bool) -> Iterator[tuple[str, str]]:
    """Tensors that two models do not share, each with what is wrong with it; of stacked ones, the layers do not count.

    With `vocabulary`, the number of an embedding's rows does not count, either.
    """
    if not one.tensors or not other.tensors:
        return
    ours, theirs = comparable(one), comparable(other)
    for name in (*ours, *(name for name in theirs if name not in ours)):
        mine, its = ours.get(name), theirs.get(name)
        if mine is None or its is None:
            if not stacks or not any(part.isdigit() for part in name.split(".")):
                yield name, "in one of them only"
        elif mine.shape != its.shape:
            rows = vocabulary and is_of_tokens(mine, one.config) and is_of_tokens(its, other.config)
            if not rows or mine.shape[1:] != its.shape[1:]:
                yield name, f"{list(mine.shape)} and {list(its.shape)}"


def _filters(method: ModelMerge, everyone: Iterable[Input]) -> Iterator[Finding]:
    names = [name for one in everyone for name in one.facts.tensors]
    for option in type(method).model_fields:
        for values in filters(getattr(method, option)):
            yield from _filtered(option, [value.filter for value in values], names)
    if isinstance(method, Passthrough):
        for part in method.stack:
            for values in filters(part.scale):
                yield from _filtered("stack", [value.filter for value in values], names)


def _filtered(option: str, texts: list[str | None], names: list[str]) -> Iterator[Finding]:
    if texts[-1] is not None:
        problem = f"{option} has no value for tensors that none of its filters fits"
        yield Finding(problem, "Let the last value have no filter.", field=option)
    for text in texts:
        if text is not None and names and not any(text in name for name in names):
            problem = f"no tensor has {text} in its name"
            yield Finding(problem, f"There are {', '.join(names[:_SHOWN])} and others.", field=option)


def _tokenizers(method: ModelMerge, models: list[Input], base: Facts | None) -> Iterator[Finding]:
    """Whether the tokens of the models mean the same, and whose tokenizer the result gets."""
    donor = method.donor()
    if donor == "base" and base is None:
        yield Finding("tokenizer: base, but no base is wired", "Write the number of a model.", field="tokenizer")
    elif isinstance(donor, int) and donor >= len(models):
        problem = f"tokenizer {donor} is none of {_some(len(models), 'model')}"
        yield Finding(problem, f"Models have the numbers 0 to {len(models) - 1}.", field="tokenizer")
    everyone = [*([Input("the base", base)] if base else []), *models]
    there = [one for one in everyone if one.facts.tokenizer and (one.facts.tokenizer / "tokenizer.json").exists()]
    if len(there) < len(everyone):
        return  # one that is yet to be made
    first = there[0]
    others = [one for one in there[1:] if not same(_folder(first), _folder(one))]
    for other in others:
        if donor is None and first.facts.config.get("vocab_size") == other.facts.config.get("vocab_size"):
            yield Finding(
                f"the tokenizers of {first.name} and {other.name} give tokens other ids, and their embeddings are "
                "merged row by row",
                "Write tokenizer: union, or the number of a model, for embeddings that are aligned by token.",
                "warning",
                field="tokenizer",
            )
    settled = donor is None or aligned([(_folder(one), one.facts.config) for one in there])
    for one in () if settled else there:
        rows = one.facts.config.get("vocab_size")
        unused = [token for token, number in tokens(_folder(one)).items() if rows and number >= rows]
        if unused:
            problem = f"the tokenizer of {one.name} has {len(unused)} tokens without an embedding, such as {unused[0]}"
            yield Finding(problem, "mergekit cannot align such tokenizers: leave these tokens out.", field="tokenizer")
    templates = {one.facts.template: one.name for one in models if one.facts.template}
    if len(templates) > 1:
        yield Finding(
            f"{' and '.join(list(templates.values())[:2])} have different chat templates, of which the result has one",
            "Merge models that were trained with one template, or choose by tokenizer: whose the result has.",
            "warning",
        )


def _folder(one: Input) -> Path:
    if one.facts.tokenizer is None:
        raise ValueError(f"{one.name} has no tokenizer")
    return one.facts.tokenizer


def _stack(stack: Iterable[Slice], models: list[Input]) -> Iterator[Finding]:
    for number, part in enumerate(stack):
        place = f"stack.{number}"
        if part.model >= len(models):
            problem = f"model {part.model} is none of {_some(len(models), 'model')}"
            yield Finding(problem, f"Models have the numbers 0 to {len(models) - 1}.", field=place)
            continue
        first, end = part.layers
        depth = depth_of(models[part.model].facts.config)
        if first >= end or (depth is not None and end > depth):
            has = f"model {part.model} has layers 0 to {depth - 1}" if depth is not None else "that are none"
            fix = "Write the first layer, and the one after the last."
            yield Finding(f"layers {first} to {end}: {has}", fix, field=place)
