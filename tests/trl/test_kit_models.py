"""Loading and writing models and adapters."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file

from tuneforge import Adapter, Model, StepError
from tuneforge.kit.models import (
    device,
    full_model,
    load_model,
    load_tokenizer,
    save_adapter,
    save_model,
    stored_dtype,
    tokenizer_folder,
)


@pytest.fixture
def adapter(base: Model, tmp_path: Path) -> Adapter:
    folder = tmp_path / "adapter"
    folder.mkdir()
    config = LoraConfig(r=4, target_modules=["v_proj", "q_proj", "down_proj"], init_lora_weights=False)
    torch.manual_seed(0)
    lora: Any = get_peft_model(load_model(base, dtype=torch.float32), config)
    save_adapter(lora, base.path, folder, base)
    return Adapter(folder, "a" * 64, base)


def test_loaded_for_inference_or_for_training(base: Model, adapter: Adapter) -> None:
    model = load_model(base, dtype=torch.float32)
    assert not model.training and model.dtype == torch.float32 and model.device == device()
    assert load_model(base, dtype=torch.bfloat16, trainable=True).training
    fixed = load_model(adapter, dtype=torch.float32)
    assert isinstance(fixed, PeftModel) and not fixed.training
    assert not any(weight.requires_grad for weight in fixed.parameters())
    trainable = load_model(adapter, dtype=torch.float32, trainable=True)
    names = [name for name, weight in trainable.named_parameters() if weight.requires_grad]
    assert names and all("lora" in name for name in names)


def test_an_adapter_is_loaded_on_the_base_it_comes_with(base: Model, adapter: Adapter, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.symlink_to(base.path)
    ids = torch.tensor([[5, 6, 7]])
    one, other = (
        load_model(Adapter(adapter.path, adapter.digest, Model(path, base.digest)), dtype=torch.float32)(ids).logits
        for path in (base.path, moved)
    )
    assert torch.equal(one, other)
    assert not torch.allclose(one, load_model(base, dtype=torch.float32)(ids).logits, atol=1e-3)
    with pytest.raises(StepError, match="does not say which model"):
        full_model(Adapter(adapter.path, adapter.digest))


def test_an_adapter_folder_is_enough_for_a_chat(base: Model, adapter: Adapter) -> None:
    assert tokenizer_folder(adapter) == adapter.path
    assert load_tokenizer(adapter).chat_template == load_tokenizer(base).chat_template
    assert type(load_tokenizer(adapter)) is type(load_tokenizer(base))
    (adapter.path / "tokenizer.json").unlink()
    assert tokenizer_folder(adapter) == base.path
    config = json.loads((adapter.path / "adapter_config.json").read_text())
    assert config["target_modules"] == ["down_proj", "q_proj", "v_proj"]
    assert "peft_version" not in config


def test_stored_dtype(base: Model, adapter: Adapter) -> None:
    assert stored_dtype(base) == stored_dtype(adapter) == torch.bfloat16


def test_a_model_from_nothing(base: Model, tmp_path: Path) -> None:
    """Written with a tokenizer object, after that tokenizer was used with padding, as it is written from the files."""
    model: Any = load_model(base, dtype=torch.float32)
    (tmp_path / "new").mkdir()
    save_model(model, load_tokenizer(base), tmp_path / "new", torch.float16)
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    assert config["dtype"] == "float16"
    assert "transformers_version" not in config and "_name_or_path" not in config
    assert {weight.dtype for weight in load_file(tmp_path / "new" / "model.safetensors").values()} == {torch.float16}
    settings = json.loads((tmp_path / "new" / "tokenizer_config.json").read_text())
    assert settings == json.loads((base.path / "tokenizer_config.json").read_text())
    assert not list(Model.missing(tmp_path / "new"))


def test_a_terminator_where_config_json_alone_tells_the_stop_tokens(base: Model, tmp_path: Path) -> None:
    shutil.copytree(base.path, tmp_path / "like")
    (tmp_path / "like" / "generation_config.json").unlink()
    own = json.loads((base.path / "config.json").read_text())
    for name, stop in (("same", own["eos_token_id"]), ("new", 77)):
        (tmp_path / name).mkdir()
        model: Any = load_model(base, dtype=torch.float32)
        save_model(model, base.path, tmp_path / name, torch.bfloat16, like=tmp_path / "like", terminator=stop)
    assert not (tmp_path / "same" / "generation_config.json").exists()
    written = json.loads((tmp_path / "new" / "generation_config.json").read_text())
    assert written["eos_token_id"] == [own["eos_token_id"], 77]
    assert written["pad_token_id"] == own["pad_token_id"]


def test_a_descendant_keeps_what_it_does_not_change(base: Model, tmp_path: Path) -> None:
    model: Any = load_model(base, dtype=torch.float32)
    model.generation_config.temperature = 0.3  # transformers would refuse to save this without do_sample
    model.config.pad_token_id = 5
    (tmp_path / "new").mkdir()
    save_model(model, base.path, tmp_path / "new", torch.bfloat16, like=base.path)
    for name in ("config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"):
        assert (tmp_path / "new" / name).read_text().split() == (base.path / name).read_text().split(), name
    assert (tmp_path / "new" / "model.safetensors").read_bytes() == (base.path / "model.safetensors").read_bytes()
