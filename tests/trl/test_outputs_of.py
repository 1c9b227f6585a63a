"""The layers by which attention and MLP end, found in the module trees of many architectures."""

import pytest
import torch
from peft import get_peft_model
from transformers import (
    AutoModelForCausalLM,
    FalconConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    Phi3Config,
    PhiConfig,
    Qwen2Config,
)

from tuneforge import StepError
from tuneforge.kit.bottleneck import BottleneckConfig, BottleneckLayer, outputs_of, register

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 64,
    "pad_token_id": 0,
}
MODELS = {
    "llama": (LlamaConfig(**SMALL), "self_attn.o_proj", "mlp.down_proj"),
    "qwen2": (Qwen2Config(**SMALL, num_key_value_heads=2), "self_attn.o_proj", "mlp.down_proj"),
    "gemma2": (Gemma2Config(**SMALL, num_key_value_heads=2, head_dim=8), "self_attn.o_proj", "mlp.down_proj"),
    "phi": (PhiConfig(**SMALL), "self_attn.dense", "mlp.fc2"),
    "phi3": (Phi3Config(**SMALL), "self_attn.o_proj", "mlp.down_proj"),
    "gpt_neox": (GPTNeoXConfig(**SMALL), "attention.dense", "mlp.dense_4h_to_h"),
    "falcon": (FalconConfig(**SMALL), "self_attention.dense", "mlp.dense_4h_to_h"),
    "gpt2": (GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=64), "attn.c_proj", "mlp.c_proj"),
}
IDS = torch.arange(12).reshape(1, 12)


@pytest.mark.parametrize("name", MODELS)
def test_where_a_bottleneck_goes(name: str) -> None:
    config, attention, mlp = MODELS[name]
    model = AutoModelForCausalLM.from_config(config).eval()
    assert outputs_of(model, "attention") == [attention]
    assert outputs_of(model, "mlp") == [mlp]
    register()
    with torch.no_grad():
        before = model(IDS).logits
        wrapped = get_peft_model(
            model, BottleneckConfig(size=4, target_modules=[attention, mlp], task_type="CAUSAL_LM")
        )
        layers = [module for module in wrapped.modules() if isinstance(module, BottleneckLayer)]
        assert len(layers) == 4
        # To begin with, it computes as before; then it does not; switched off, it does again.
        assert torch.equal(wrapped(IDS).logits, before)
        for layer in layers:
            torch.nn.init.normal_(layer.bottleneck_up["default"].weight)
        assert not torch.allclose(wrapped(IDS).logits, before, atol=1e-3)
        with wrapped.disable_adapter():
            assert torch.equal(wrapped(IDS).logits, before)
    trained = [name for name, weight in wrapped.named_parameters() if weight.requires_grad]
    assert len(trained) == 16 and all("bottleneck_" in name for name in trained)
    with pytest.raises(ValueError, match="cannot be merged"):
        wrapped.merge_and_unload()


def test_a_model_without_these_parts() -> None:
    model = AutoModelForCausalLM.from_config(MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=64))
    with pytest.raises(StepError, match="no layers with a part called mlp"):
        outputs_of(model, "mlp")
