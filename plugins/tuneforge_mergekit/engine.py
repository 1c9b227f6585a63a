"""Merging models with mergekit, and seeing that the result is sound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants
from mergekit.architecture import get_architecture_info
from mergekit.common import ModelReference, set_config_value
from mergekit.config import (
    InputModelDefinition,
    InputSliceDefinition,
    MergeConfiguration,
    OutputSliceDefinition,
)
from mergekit.graph import Executor
from mergekit.io.tasks import LoaderCache
from mergekit.options import MergeOptions
from mergekit.plan import MergePlanner
from mergekit.tokenizer import TokenizerInfo
from transformers import AutoConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast, set_seed

from tuneforge import Adapter, Model, Step, StepError
from tuneforge.artifacts import read_json, read_template, read_tensors

from . import dare
from .base import ModelMerge, bytes_of
from .describing import describe
from .inputs import dtype_of, folders, references
from .layers import Passthrough
from .sanity import verify
from .vocabulary import aligned


class InOrder(MergeConfiguration):  # type: ignore[misc]
    """A configuration whose models have an order, that of the inputs; in mergekit's own it is that of a set."""

    order: list[ModelReference]

    def referenced_models(self) -> list[ModelReference]:
        return self.order


def carry_out(method: ModelMerge, models: Sequence[Model | Adapter], base: Model | None, step: Step) -> None:
    """Merges models as `method` says into `step.out`, and adds what was found of the result to the step's figures."""
    torch.set_num_threads(step.threads)
    with offline(), _tokens_in_order():
        giver = _merge(method, folders(models, base, step), base is not None, step)
        step.log("loading the merged model, to see that it is sound")
        step.metrics(**verify(step.out, giver))


@contextmanager
def offline() -> Iterator[None]:
    """Nothing is fetched: mergekit takes what it does not find on disk for the name of a repository."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def _tokens_in_order() -> Iterator[None]:
    """A tokenizer tells its tokens in the order of their ids. By itself it has another order each time, in which
    mergekit gives new ids to those of a union."""
    kind: Any = PreTrainedTokenizerFast
    told = kind.get_vocab

    def in_order(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
        return dict(sorted(told(tokenizer).items(), key=itemgetter(1)))

    kind.get_vocab = in_order
    try:
        yield
    finally:
        kind.get_vocab = told


def _merge(method: ModelMerge, found: Sequence[Path], based: bool, step: Step) -> Path:
    """Writes the merge of the models in these folders, of which the last is the base if there is one.

    Gives the folder of the one whose chat template and stop tokens it has.
    """
    dare.offer()
    inputs = references(found, step)
    models = inputs[:-1] if based else inputs
    donor, root = method.donor(), found[-1] if based else found[0]
    aligning = donor is not None and not aligned([(folder, read_json(folder / "config.json")) for folder in found])
    dtype = method.dtype or _common_dtype(method, found, root)
    config = InOrder(
        order=inputs,
        merge_method=method.way(),
        base_model=inputs[-1] if based else inputs[0] if method.between else None,
        dtype=method.compute_dtype,
        out_dtype=dtype,
        tokenizer_source=(inputs[donor] if isinstance(donor, int) else donor) if aligning else None,
        parameters=method.parameters(),
        **_layers(method, models),
    )
    options = MergeOptions(device="cpu", out_shard_size=bytes_of(method.shard_size), clone_tensors=method.stacks)
    try:
        tokenizer = _run(config, options, step)
    except (RuntimeError, ValueError) as error:
        reason = str(error).replace(f"{Path(inputs[0].model.path).parent}/", "model ")
        raise StepError(
            f"mergekit cannot merge these models: {reason}", "Merge others, tuned from one base."
        ) from error
    giver = found[donor] if isinstance(donor, int) else root if donor else found[0]
    if donor == "union":  # of whose tokens none has changed its id; but a base may have no template
        giver = next((folder for folder in (root, *found) if read_template(folder)), root)
    layers = None
    if isinstance(method, Passthrough):
        # With what transformers derives from a layer's place, which is another now.
        settings = [AutoConfig.from_pretrained(folder).to_dict() for folder in found]
        layers = [(settings[part.model], layer) for part in method.stack for layer in range(*part.layers)]
    describe(step.out, root, giver, tokenizer, union=donor == "union", dtype=dtype, layers=layers)
    return giver


def _common_dtype(method: ModelMerge, found: Sequence[Path], root: Path) -> str | None:
    """What to store weights as where that is not what comes of itself; None where it is."""
    kinds = [{name: tensor.dtype for name, tensor in read_tensors(folder).items()} for folder in found]
    mixed = any(kind.get(name, dtype) != dtype for kind in kinds for name, dtype in kinds[0].items())
    return dtype_of(root) if method.compute_dtype or mixed else None


def _layers(method: ModelMerge, models: Sequence[ModelReference]) -> dict[str, Any]:
    """What each model gives, as mergekit has it: by whole models, or by their layers."""
    if isinstance(method, Passthrough):
        sources = [
            InputSliceDefinition(model=models[part.model], layer_range=part.layers, parameters=part.parameters())
            for part in method.stack
        ]
        return {"slices": [OutputSliceDefinition(sources=[source]) for source in sources]}
    given = zip(models, method.parameters_of(len(models)), strict=True)
    return {"models": [InputModelDefinition(model=model, parameters=parameters) for model, parameters in given]}


def _run(config: InOrder, options: MergeOptions, step: Step) -> PreTrainedTokenizerBase | None:
    """Has mergekit write the weights into `step.out`, one tensor after the other; gives the tokenizer it made, if any.

    This is what mergekit's own command does, but for what that writes besides: a model card, a log with paths.
    """
    LoaderCache.loaders.clear()  # of another merge in this process
    LoaderCache().setup(options=options)
    architecture = get_architecture_info(config, options)
    described = (config.base_model or config.order[0]).config()
    if config.slices:
        ranges = [part.sources[0].layer_range for part in config.slices]
        key = next(iter(architecture.modules.values())).architecture.num_layers_config_key()
        set_config_value(described, key or "num_hidden_layers", sum(end - first for first, end in ranges))
    planner = MergePlanner(config, architecture, options=options, out_model_config=described)
    targets = planner.plan_to_disk(str(step.out))
    tokenizer = None
    set_seed(step.seed)  # for what is kept by lot
    for done, (_, value) in enumerate(Executor(targets).run(quiet=True), start=1):
        if isinstance(value, TokenizerInfo):
            tokenizer = value.tokenizer
        step.progress(done, len(targets))
    LoaderCache.loaders.clear()
    return tokenizer
