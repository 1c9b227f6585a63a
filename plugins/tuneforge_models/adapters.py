"""A PEFT adapter's folder: which of its files make the adapter, and what is wrong with it on its base."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tuneforge import Adapter, Facts, Finding, Model, StepError
from tuneforge.artifacts import Tensor, read_json
from tuneforge.kit.adapters import peft_type

from .folders import TOKENIZER, TOKENIZER_CONFIG, TOKENIZER_FILES, read_header, unsound

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
SETTINGS = (CONFIG, *TOKENIZER_FILES, "LICENSE*", "NOTICE*")
"""Patterns of every file that makes an adapter, but its weights."""

_SAVED = "Name an adapter as PEFT's save_pretrained writes it."
_IS_MODEL = "It is a model: take model: off the step."
_LORA = re.compile(r"base_model\.model\.(.+)\.lora_A(?:\.default)?\.weight")


def weights(folder: Path) -> list[str]:
    """The files of weights."""
    return [WEIGHTS]


def lacking(names: Collection[str], what: str) -> Iterator[Finding]:
    """What a repository with files of these names misses to be an adapter; `what` is how it is called."""
    if CONFIG not in names:
        is_model = "config.json" in names
        fix = "It is a model: take model: off the step." if is_model else _SAVED
        yield Finding(f"{what} has no {CONFIG}", fix)
    elif WEIGHTS not in names:
        pickles = [name for name in sorted(names) if fnmatch(name, "*.bin")]
        if pickles:
            yield Finding(
                f"{what} has its weights as a pickle alone ({', '.join(pickles)}), which can run code when opened",
                "Where you trust it, save it once as safetensors with PEFT's save_pretrained.",
            )
        else:
            yield Finding(f"{what} has no {WEIGHTS}", _SAVED)


def foreign(folder: Path) -> Iterator[Finding]:
    """What its settings say that cannot be used here."""
    broken = list(unsound(folder, CONFIG, TOKENIZER_CONFIG))
    if broken:
        yield from broken
        return
    config = read_json(folder / CONFIG)
    if not peft_type(config):
        yield Finding(f"{CONFIG} names no peft_type", _SAVED)
    task = config.get("task_type")
    if task not in (None, "CAUSAL_LM"):
        yield Finding(f"the adapter is for {task}, not for a causal language model", "Take another adapter.")


def problems(folder: Path) -> list[Finding]:
    """Why a folder is no adapter that can be used; nothing when it is one."""
    names = [file.name for file in folder.iterdir()]
    found = [*lacking(names, str(folder))] or [*foreign(folder)]
    try:
        read_header(folder / WEIGHTS) if not found else None
    except ValueError as error:
        found.append(Finding(f"{WEIGHTS} {error}", "Get the file again."))
    return found


def facts(folder: Path, base: Facts) -> Facts:
    """The facts of a sound adapter on its base; no tensors while its weights are not there."""
    known = Adapter.facts(folder, base)
    return (
        known
        if (folder / WEIGHTS).exists()
        else Facts(Adapter, known.config, {}, known.tokenizer, known.template, base)
    )


def misfits(adapter: Facts) -> Iterator[Finding]:
    """Layers of a LoRA adapter that its base has not, or has in another size: it was trained on another model."""
    base = adapter.model.tensors
    wrong = []
    for name, tensor in adapter.tensors.items():
        found = _LORA.fullmatch(name)
        layer: Tensor | None = base.get(f"{found[1]}.weight") if found and base else tensor
        if layer is None and found and found[1].rpartition(".")[2] == "lm_head":
            continue  # tied to the embeddings, a head has no tensor of its own
        if layer is None or (found and len(layer.shape) == 2 and tensor.shape[1] not in layer.shape):
            wrong.append(str(found and found[1]))
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        named = adapter.config.get("base_model_name_or_path")
        fix = f"It was trained on {named}." if named else "Load the model that it was trained on."
        yield Finding(f"the adapter does not fit its base: {wrong[0]}{more}", fix)


def take_over(folder: Path, out: Path, bring: Callable[[Path, Path], object], base: Model) -> None:
    """Brings every file that makes the adapter into `out`; its settings name `base` by digest."""
    for finding in problems(folder):
        raise StepError(finding.problem, finding.fix)
    patterns = SETTINGS if (folder / TOKENIZER).exists() else (CONFIG, "LICENSE*", "NOTICE*")
    found = {file for pattern in (*patterns, WEIGHTS) for file in folder.glob(pattern) if file.is_file()}
    for file in sorted(found):
        if file.name != CONFIG:
            target = out / file.relative_to(folder)
            target.parent.mkdir(exist_ok=True)
            bring(file, target)
    config: dict[str, Any] = read_json(folder / CONFIG)
    config |= {"base_model_name_or_path": f"sha256:{base.digest}", "revision": None, "inference_mode": True}
    (out / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
