"""GPTQ and AWQ by gptqmodel, loaded again by transformers."""

from __future__ import annotations

import math
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from tuneforge import Facts, Model, QuantizedModel, Step, StepError
from tuneforge.kit.packed import examples
from tuneforge.kit.quantized_models import load_quantized

from .awq import Awq
from .calibration import Rows
from .gptq import Gptq
from .layers import shapes

if TYPE_CHECKING:
    from .options import Calibrated

disable_progress_bar()

_SMALL = 100e6
"""Parameters of a model that is packed before a compiler is done."""


def tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """See `engine.Library`."""
    found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return found


def full(folder: Path, scratch: Path) -> Any:
    """See `engine.Library`."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()


def quantize(options: Calibrated, folder: Path, dtype: torch.dtype, rows: Rows, out: Path, step: Step) -> None:
    """See `engine.Library`."""
    from gptqmodel import BACKEND, GPTQModel  # starts threads: after the worker has forked

    on_cpu = {"backend": BACKEND.TORCH_AWQ} if isinstance(options, Awq) else {}
    facts = Model.facts(folder)
    # Left to itself, it would take bfloat16 on a CPU, whatever the model is stored in.
    loaded = GPTQModel.load(str(folder), _config(options, facts, step.scratch), dtype=dtype)
    _check_layers(loaded, {*shapes(facts)}, isinstance(options, Awq))
    layers = loaded.model.config.get_text_config().num_hidden_layers

    def done(layer_idx: int, submodule_finalized: bool) -> None:
        if submodule_finalized:
            step.progress(layer_idx + 1, layers)

    loaded.layer_callback = done
    given = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in rows]
    with chdir(step.scratch):  # it keeps a log in the working folder
        loaded.quantize(given, batch_size=1, **on_cpu)
    loaded.save(str(out))


def quantized(options: Calibrated, out: Path, folder: Path, scratch: Path) -> Any:
    """See `engine.Library`."""
    return load_quantized(QuantizedModel(out, ""), dtype="auto")


def _check_layers(loaded: Any, wanted: set[str], is_awq: bool) -> None:
    """Raises StepError, before the hours that it takes, if it would round other layers than those that are stored."""
    from gptqmodel.utils.model import find_modules, get_layers_with_prefixes

    network = loaded.model
    groups = loaded.simple_layer_modules(network.config, loaded.quantize_config, is_awq_quantize=is_awq)
    parts = {part for group in groups for part in group}
    blocks, names = get_layers_with_prefixes(network, loaded.extract_layers_node())
    blocks = dict(zip(names, blocks or (), strict=True))
    found = {f"{name}.{part}" for name, block in blocks.items() for part in find_modules(block) if part in parts}
    if found != wanted:
        told = {"would leave": sorted(wanted - found), "would round, which are not to be,": sorted(found - wanted)}
        raise StepError(
            f"gptqmodel {' and '.join(f'{does} {examples(names)}' for does, names in told.items() if names)}",
            "Take quantize: gguf or bitsandbytes, or report the model's architecture.",
        )


def _config(options: Calibrated, facts: Facts, scratch: Path) -> Any:
    from gptqmodel import QuantizeConfig

    parameters = sum(math.prod(tensor.shape) for tensor in facts.tensors.values())
    common: dict[str, Any] = {
        "bits": options.bits,
        "group_size": options.group_size,
        # Its other way of packing takes less memory and gives the same bits, but is compiled first, for a minute.
        "pack_impl": "original" if parameters < _SMALL else "cpu",
        "offload_to_disk_path": str(scratch / "offload"),
    }
    if isinstance(options, Gptq):
        # Groups in the order of use are free of what act_order costs, but of a whole row there is one group only.
        grouped = not options.act_order and options.group_size > 0
        order = {"desc_act": options.act_order, "act_group_aware": grouped}
        return QuantizeConfig(**common, **order, sym=options.symmetric, damp_percent=options.damping)
    assert isinstance(options, Awq)
    return QuantizeConfig(**common, quant_method="awq", format="gemm", sym=not options.zero_point)
