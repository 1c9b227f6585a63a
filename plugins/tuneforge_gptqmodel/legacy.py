"""What the two dead libraries share: a model as transformers 4 reads it, and running what they wrote without them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tuneforge.artifacts import read_json, read_template
from tuneforge.kit.folders import write_json

from .layers import SIDEWAYS
from .numbers import unpacked
from .older import older_config

if TYPE_CHECKING:
    from .options import Calibrated

_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")


def tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """See `engine.Library`. Built from tokenizer.json: transformers 4 does not know the classes of transformers 5."""
    settings = read_json(folder / "tokenizer_config.json")
    given = {name: settings.get(name) for name in _SPECIAL}
    special = {name: token["content"] if isinstance(token, dict) else token for name, token in given.items() if token}
    made: Any = PreTrainedTokenizerFast
    found: PreTrainedTokenizerBase = made(tokenizer_file=str(folder / "tokenizer.json"), **special)
    found.chat_template = read_template(folder)
    return found


def full(folder: Path, scratch: Path) -> Any:
    """See `engine.Library`."""
    return AutoModelForCausalLM.from_pretrained(older(folder, scratch), torch_dtype="auto").eval()


def quantized(options: Calibrated, out: Path, folder: Path, scratch: Path) -> Any:
    """The model with the weights that the packed ones stand for: neither library runs on a CPU what it makes."""
    model = full(folder, scratch)
    weights = unpacked(out, options.rounding)
    if model.config.model_type in SIDEWAYS:
        weights = {name: weight.T for name, weight in weights.items()}
    model.load_state_dict({**model.state_dict(), **_others(out), **weights})
    return model


def older(folder: Path, scratch: Path) -> Path:
    """A folder with the model's weights, and its configuration in the words of transformers 4."""
    made = scratch / "older"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    for path in folder.glob("*.safetensors*"):
        (made / path.name).symlink_to(path)
    write_json(made / "config.json", older_config(read_json(folder / "config.json")))
    return made


def _others(out: Path) -> dict[str, Any]:
    """Tensors that are not packed: AWQ scales norms, too."""
    from safetensors.torch import load_file

    found = {name: tensor for path in sorted(out.glob("*.safetensors")) for name, tensor in load_file(path).items()}
    return {
        name: tensor
        for name, tensor in found.items()
        if not name.endswith((".qweight", ".qzeros", ".scales", ".g_idx"))
    }
