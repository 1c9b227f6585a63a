"""What answers are compared with: the model as it came in, or another artifact; in memory once where that will do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from peft import PeftModel

from tuneforge import Adapter, Model
from tuneforge.artifacts import read_json
from tuneforge.kit.adapters import peft_type
from tuneforge.kit.models import full_model

from ..adapters.engine import Adapted
from ..adapters.reference import REF, make_alike

Place = Literal["off", "copy"] | Path | Model | Adapter
"""Where the reference is: the model with its adapter switched off; a copy of that adapter, made before it is trained;
an adapter in a folder, to be put on the same model; or an artifact, to be loaded beside it."""


def place(model: Model | Adapter, reference: Model | Adapter | None, adapted: Adapted) -> Place:
    """Where the reference of a training of `model` is; None as `reference` stands for the model as it comes in."""
    given = reference or model
    fresh = adapted.config is not None  # an adapter that begins as nothing is about to be put on the model
    if not fresh and not isinstance(adapted.model, PeftModel):
        return given
    if given.digest == model.digest:
        return "off" if fresh else "copy"
    # Some adapters begin by taking something from the base: then that is no longer what it was.
    untouched = fresh or isinstance(model, Adapter)
    base = full_model(model)
    if untouched and given.digest == base.digest:
        return "off"
    if untouched and isinstance(given, Adapter) and full_model(given).digest == base.digest:
        config: Any = adapted.config or adapted.model.peft_config["default"]
        if peft_type(read_json(given.path / "adapter_config.json")) == config.peft_type == "LORA":
            return given.path
    return given


def stand_by(model: Any, reference: Place | None) -> None:
    """Puts the adapter that is the reference on the model, where it is one."""
    if isinstance(reference, Path):
        model.load_adapter(str(reference), REF, is_trainable=False)
        # What the file says is a digest, which PEFT would look up on the Hub whenever it saves a checkpoint.
        model.peft_config[REF].base_model_name_or_path = model.peft_config["default"].base_model_name_or_path
    elif reference == "copy":
        model.add_adapter(REF, model.peft_config["default"])
        make_alike(model)
