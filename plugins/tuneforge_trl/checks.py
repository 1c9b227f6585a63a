"""What can be known to go wrong before a training starts, from configurations and tensor names alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tuneforge import Adapter, Facts, Finding, Known, TextData
from tuneforge.artifacts import context_length
from tuneforge.kit.adapters import is_prompt, needs_cache, peft_type

from .advice import advise
from .layers.freezing import check_freeze
from .layers.targets import check_targets, on_head
from .spread.strategies import Ddp

if TYPE_CHECKING:
    from tuneforge import Launch

    from .adapters.base import AdapterType
    from .options import Training


def divisor(number: int, most: int) -> int:
    """The largest divisor of `number` that is at most `most`."""
    return max(n for n in range(1, most + 1) if number % n == 0)


def check_training(options: Training, facts: Known) -> Iterator[Finding]:
    """Findings on the options that every method of this plugin has, and on the model they are for."""
    micro, batch = options.micro_batch_size, options.batch_size
    if micro is not None and batch % micro:
        yield Finding(
            f"batch_size {batch} cannot be made of micro batches of {micro}",
            f"Make micro_batch_size a divisor of {batch}, such as {divisor(batch, micro)}."
            if micro < batch
            else f"Make it {batch} or less: batch_size counts all rows of a step, micro_batch_size those in memory.",
            field="micro_batch_size",
        )
    if getattr(options, "packing", False):
        fix = "Set packing: false, or take another type of adapter."
        yield from check_packing(options.adapter, facts, "packing", fix)
    yield from _check_checkpointing(options, facts)
    chats = not any(issubclass(given.kind, TextData) for given in facts.get("data", ()))
    for given in facts.get("model", ()):
        yield from _check_model(options, given, chats)
    yield from advise(options, facts)


def _check_checkpointing(options: Training, facts: Known) -> Iterator[Finding]:
    adapter = options.adapter
    kind = adapter.kind if adapter and not adapter.checkpointable else next(filter(needs_cache, _given(facts)), None)
    if options.gradient_checkpointing and kind:
        yield Finding(
            f"{kind} adapters cannot be trained with gradient checkpointing, which would compute without them",
            "Leave gradient_checkpointing out, or take another type of adapter.",
            field="gradient_checkpointing",
        )


def check_packing(adapter: AdapterType | None, facts: Known, field: str, fix: str) -> Iterator[Finding]:
    """Findings on an adapter, new or trained on, that is to be trained on packed rows."""
    kind = adapter.kind if adapter and not adapter.packable else next(filter(is_prompt, _given(facts)), None)
    if kind:
        yield Finding(f"{kind} adapters cannot tell the rows of a packed sequence apart", fix, field=field)


def _given(facts: Known) -> list[str]:
    """PEFT's names for the adapters that are trained on."""
    return [peft_type(model.config) for model in facts.get("model", ()) if model.kind is Adapter]


def check_launch(options: Training, launch: Launch, facts: Known) -> Iterator[Finding]:
    """Findings on how a training is spread over several processes."""
    world, micro, batch = launch.world_size, options.micro_batch_size or 1, options.batch_size
    if batch % (world * micro):
        rows = f"micro batches of {micro} rows" if micro > 1 else "a row at least"
        below, above = batch // (world * micro) * world * micro, -(-batch // (world * micro)) * world * micro
        yield Finding(
            f"batch_size {batch} cannot be shared by {world} processes with {rows} each",
            f"Set it to {' or '.join(str(size) for size in (below, above) if size)}, or processes to a divisor.",
            field="batch_size",
        )
    if isinstance(launch.strategy, Ddp):
        return
    sharded = launch.strategy.name
    if options.optimizer == "muon":
        problem = f"muon works on whole matrices, which no process has with {sharded}"
        yield Finding(problem, "Set optimizer: adamw, or strategy: ddp.", field="optimizer")
    if options.keep == "best" or options.patience is not None:
        yield Finding(
            f"the best weights cannot be set aside while {sharded} has them cut up among processes",
            "Set keep: last and leave patience out, or set strategy: ddp.",
            field="keep" if options.keep == "best" else "patience",
        )
    if options.adapter and not options.adapter.shardable:
        yield Finding(
            f"{options.adapter.kind} cannot be cut up by {sharded}",
            "Take lora, or strategy: ddp, with which every process holds the model.",
            field="adapter.type",
        )
    for given in facts.get("model", ()):
        quantized = given.model.config.get("quantization_config")
        if isinstance(quantized, dict) and quantized.get("load_in_8bit"):
            yield Finding(
                f"8-bit weights cannot be cut up by {sharded}",
                "Take 4 bits, or strategy: ddp, with which every process holds the model.",
            )


def check_head(who: str, given: Facts) -> Iterator[Finding]:
    """A finding on an adapter that a loss would go past: the fused ones read the head's own weights."""
    if given.kind is Adapter and on_head(given.config.get("target_modules")):
        yield Finding(
            f"{who} is an adapter with a part on the output head, and losses go by the head's own weights",
            "Merge it into its base first (merge: adapter).",
        )


def _check_model(options: Training, given: Facts, chats: bool) -> Iterator[Finding]:
    if chats and given.tokenizer is not None and given.template is None:
        yield Finding(
            "the model has no chat template, so conversations cannot be written as it would read them",
            "Take the model's chat or instruct version, or add a chat_template.jinja to its folder.",
        )
    context = context_length(given.model.config)
    if options.max_length is not None and context is not None and options.max_length > context:
        yield Finding(
            f"max_length {options.max_length} is more than the model's context of {context} tokens",
            f"Set it to {context} or less, or leave it out.",
            field="max_length",
        )
    yield from check_head("the model", given)
    yield from check_freeze(options.freeze, options.adapter is not None, given)
    if options.adapter is None:
        if given.kind is not Adapter and "quantization_config" in given.config:
            yield Finding(
                "a quantized model cannot be trained as a whole",
                "Train an adapter on it (`adapter: {type: lora}`), or start from its full-precision version.",
                field="adapter",
            )
        return
    if given.kind is Adapter:
        yield Finding(
            "the model is already an adapter, and one adapter cannot be put on another",
            "Leave adapter: out to train that adapter on, or merge it into its base first (merge: adapter).",
            field="adapter",
        )
    yield from options.adapter.check(given)
    targets = getattr(options.adapter, "target_modules", None)
    if targets is not None:
        yield from check_targets(targets, given.model)
