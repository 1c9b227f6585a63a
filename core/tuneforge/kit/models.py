"""Model and adapter artifacts: loading them, and writing them so that equal weights give equal bytes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import (
    PeftConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptTuningConfig,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.logging import disable_progress_bar

from tuneforge import Adapter, Artifact, Model, RewardAdapter, StepError
from tuneforge.artifacts import read_json, read_tensors

from . import bottleneck
from .adapters import is_prompt, peft_type
from .folders import clean_json, copy_tokenizer, stored_stops, write_json
from .packed import FLOATS, stored_type

bottleneck.register()


def device() -> torch.device:
    """The device models run on: this process's CUDA device, else Apple's, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def full_model(artifact: Artifact) -> Artifact:
    """The artifact that holds the full weights: this one, or the one an adapter sits on."""
    if not isinstance(artifact, (Adapter, RewardAdapter)):
        return artifact
    if artifact.base is None:
        raise StepError("the adapter does not say which model it was trained on", "Train it again from that model.")
    return full_model(artifact.base)


def stored_dtype(artifact: Artifact) -> torch.dtype:
    """The floating-point type in which most of the (base) model's weights are stored."""
    stored = stored_type(read_tensors(full_model(artifact).path))
    found: torch.dtype = getattr(torch, FLOATS.get(stored, "float32"))
    return found


def inference_dtype(artifact: Artifact) -> torch.dtype:
    """The type to compute answers in: as the weights are stored, on a CPU float32, which it is quicker in."""
    return torch.float32 if device().type == "cpu" else stored_dtype(artifact)


def tokenizer_folder(artifact: Artifact) -> Path:
    """The folder with the tokenizer and chat template of a model or adapter: its own, else its base's."""
    own = (artifact.path / "tokenizer.json").exists() or artifact.base is None
    return artifact.path if own else tokenizer_folder(artifact.base)  # type: ignore[arg-type]  # own if base is None


def load_tokenizer(artifact: Artifact) -> PreTrainedTokenizerBase:
    """The tokenizer of a model or adapter, with its chat template."""
    # An adapter has no config.json, and which tokenizer class is right depends on the model's.
    config = AutoConfig.from_pretrained(full_model(artifact).path)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(tokenizer_folder(artifact), config=config)
    return tokenizer


def load_model(
    artifact: Model | Adapter,
    *,
    dtype: torch.dtype,
    trainable: bool = False,
    on: torch.device | None = None,
    quantization: Any = None,
) -> PreTrainedModel | PeftModel:
    """A model on the device of `device()` or on the given one, its weights in `dtype`; an adapter comes on its base.

    Ready for inference unless `trainable`: then in training mode, and of an adapter exactly its own weights are to be
    trained. `quantization` is how transformers is to round the model's weights while it loads them.
    """
    disable_progress_bar()
    place = on or device()
    rounded = {} if quantization is None else {"quantization_config": quantization, "device_map": {"": place}}
    model: Any = AutoModelForCausalLM.from_pretrained(full_model(artifact).path, dtype=dtype, **rounded)
    if isinstance(artifact, Adapter):
        name = model.name_or_path
        prompt = is_prompt(peft_type(read_json(artifact.path / "adapter_config.json")))
        load = _load_prompt_to_train if prompt and trainable else PeftModel.from_pretrained
        model = load(model, artifact.path, is_trainable=trainable)
        # What the file says is a digest, which PEFT would look up on the Hub whenever it saves a checkpoint.
        model.peft_config["default"].base_model_name_or_path = name
    # What is quantized is where it shall be, and some of it cannot be moved.
    loaded: PreTrainedModel | PeftModel = (model if rounded else model.to(place)).train(trainable)
    return loaded


def _load_prompt_to_train(model: PreTrainedModel, folder: Path, is_trainable: bool) -> PeftModel:
    """A prompt or prefix as a new one with the weights of the old: PEFT loads them for inference only."""
    stored: Any = PeftConfig.from_pretrained(str(folder))
    kind = PrefixTuningConfig if stored.peft_type == "PREFIX_TUNING" else PromptTuningConfig
    # Without what its vectors began as, or by what network they were written: they are all that there is of it.
    names = ("num_virtual_tokens", "token_dim", "num_transformer_submodules", "num_attention_heads", "num_layers")
    config = kind(task_type=stored.task_type, **{name: getattr(stored, name) for name in names})
    wrapped: Any = get_peft_model(model, config)
    set_peft_model_state_dict(wrapped, load_file(folder / "adapter_model.safetensors"))
    return wrapped  # type: ignore[no-any-return]


def save_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | Path,
    folder: Path,
    dtype: torch.dtype | None,
    like: Path | None = None,
    terminator: int | None = None,
    state: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Writes a model artifact into `folder`, weights in `dtype`; the model itself is cast to it.

    A model whose weights are rounded cannot be cast: `dtype` is None, and its quantization_config joins config.json.

    `tokenizer` is an object, or the folder whose tokenizer files are copied. `like` is the folder of the model that
    this one descends from without a change of architecture: its config.json and generation_config.json are kept to the
    letter, so that what reads the one reads the other, but for `terminator`, which the model's answers are to end at:
    it joins the stop tokens of generation_config.json if it is not among them. `state` are the weights where the model
    does not hold them, being cut up among processes.
    """
    disable_progress_bar()
    cast: Any = model
    if like is not None:
        # A trainer may have changed the one it has, which transformers then refuses to save.
        cast.generation_config = GenerationConfig()
    if dtype is None:
        cast.save_pretrained(folder, state_dict=state)
    elif state is None:
        cast.to(dtype).save_pretrained(folder)
    else:
        floating = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
        cast.save_pretrained(folder, state_dict=floating)
    rounded = read_json(folder / "config.json").get("quantization_config") if dtype is None else None
    for name in ("config.json", "generation_config.json"):
        if like is not None:
            (folder / name).unlink(missing_ok=True)
            if (like / name).exists():
                shutil.copyfile(like / name, folder / name)
        clean_json(folder / name)
    if rounded is not None:
        write_json(folder / "config.json", read_json(folder / "config.json") | {"quantization_config": rounded})
    if terminator is not None:
        _stop_at(terminator, folder)
    save_tokenizer(tokenizer, folder)


def save_adapter(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase | Path,
    folder: Path,
    base: Artifact,
    given: tuple[PeftConfig, dict[str, torch.Tensor]] | None = None,
    state: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Writes the adapter called `default` of `model` as an adapter artifact into `folder`, naming `base` by digest.

    `tokenizer` is an object, or the folder whose tokenizer files are copied: with them the folder is enough for a chat.
    `given` is the adapter's configuration and weights where these are other than the model's: made from them, for the
    base as it was. `state` are all weights where the model does not hold them, being cut up among processes.
    """
    settings, own = given or (
        model.peft_config["default"],
        get_peft_model_state_dict(model, state_dict=state, adapter_name="default", save_embedding_layers=False),
    )
    # Cloned, as safetensors refuses tensors that share memory.
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in own.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = settings.to_dict()
    config |= {
        "base_model_name_or_path": f"sha256:{base.digest.removeprefix('sha256:')}",
        "revision": None,
        "inference_mode": True,
    }
    sets = {name: sorted(value) for name, value in config.items() if isinstance(value, (set, frozenset))}
    write_json(folder / "adapter_config.json", config | sets)
    save_tokenizer(tokenizer, folder)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase | Path, folder: Path) -> None:
    """Writes a tokenizer with its chat template into `folder`: an object, or the folder whose files are copied."""
    if isinstance(tokenizer, Path):
        copy_tokenizer(tokenizer, folder)
        return
    tokenizer.save_pretrained(folder)
    clean_json(folder / "tokenizer_config.json")


def _stop_at(terminator: int, folder: Path) -> None:
    stops = stored_stops(folder)
    if terminator in stops:
        return
    path, config = folder / "generation_config.json", read_json(folder / "config.json")
    special = {name: config[name] for name in ("bos_token_id", "pad_token_id") if name in config}
    kept = read_json(path) if path.exists() else special
    write_json(path, kept | {"eos_token_id": [*stops, terminator] if stops else terminator})
