"""The method `publish: vllm`: the release is what `vllm serve` of vLLM 0.33 takes.

Cited below are vLLM's docs/features/lora.md and docs/deployment/docker.md, its vllm/engine/arg_utils.py, where the
options are, and vllm/lora/peft_helper.py, where adapters are refused.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.gguf.small_models import rewrite
from tests.publish.commands import commands, options
from tuneforge import Adapter, Facts, Model, QuantizedModel, StepError
from tuneforge.artifacts import read_json
from tuneforge_publish import Vllm
from tuneforge_trl.adapters.adalora import AdaLora
from tuneforge_trl.adapters.lora import Dora

# Of vllm/engine/arg_utils.py and vllm/entrypoints/serve/utils/cli_args.py.
KNOWN = {
    *("--revision", "--served-model-name", "--max-model-len", "--dtype", "--enable-lora", "--max-lora-rank"),
    *("--max-loras", "--lora-modules", "--chat-template", "--host", "--port"),
}


def served(release: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The options of the card's `vllm serve` and of the compose file's command."""
    (command,) = (words for words in commands(release) if words[:2] == ["vllm", "serve"])
    (service,) = yaml.safe_load((release / "compose.yaml").read_text())["services"].values()
    told = options(command[2:]), options(service["command"])
    for each in told:
        assert each.keys() - {""} <= KNOWN
    return told


def test_a_model_is_served_from_the_top(made: Any, tmp_path: Path) -> None:
    """The image's entry point is `vllm serve`, its model comes first, the folder is a volume, `ipc: host` or `shm_size`
    is for what processes share, and port 8000 is published (docs/deployment/docker.md)."""
    to = tmp_path / "out"
    made.publish(tmp_path / "receipt", [made.base], [made.report], Vllm, to=to, title="Order Taker", context=100)
    told, contained = served(to)
    assert told[""] == ["."] and contained[""] == ["/release"]
    for each in (told, contained):
        assert each["--served-model-name"] == ["order-taker"] and each["--port"] == ["8000"]
        assert each["--max-model-len"] == ["100"] and each["--dtype"] == ["bfloat16"]
    ((name, service),) = yaml.safe_load((to / "compose.yaml").read_text())["services"].items()
    assert name == "vllm" and service["image"] == "vllm/vllm-openai:v0.33.0"
    assert service["volumes"] == [".:/release:ro"] and service["ipc"] == "host"
    assert service["ports"] == ["127.0.0.1:8000:8000"] and "--host" not in contained
    assert told["--host"] == ["127.0.0.1"], "nobody is asked for a key"
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    (question,) = (words for words in commands(to) if words[0] == "curl")
    assert "http://localhost:8000/v1/chat/completions" in question
    assert json.loads(question[-1])["model"] == "order-taker"
    assert read_json(to / "config.json")["architectures"] == ["LlamaForCausalLM"]
    assert "one conversation of 100 tokens" in (to / "README.md").read_text()


@pytest.mark.slow  # loads an adapter with PEFT
def test_adapters_are_served_beside_their_base(made: Any, tmp_path: Path) -> None:
    """`--lora-modules {name}={path}` with `--enable-lora` (docs/features/lora.md), a rank among those of `MaxLoRARanks`
    (vllm/config/lora.py); the adapter's folder is PEFT's, on the base that is there."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    to = tmp_path / "out"
    twin = Adapter(made.adapter.path, "2" * 64, made.base)
    step = made.entry("dpo", twin.digest, Adapter.kind, "align: dpo", {"model": ["sft"]}, made.base.digest)
    lineage = made.lineage | {"steps": [*made.lineage["steps"], step]}
    replace(made, lineage=lineage).publish(tmp_path / "receipt", [made.adapter, twin], method=Vllm, to=to)
    told, contained = served(to)
    assert told[""] == ["base"] and contained[""] == ["/release/base"]
    assert told["--lora-modules"] == ["sft=sft", "dpo=dpo"]
    assert contained["--lora-modules"] == ["sft=/release/sft", "dpo=/release/dpo"]
    assert told["--max-lora-rank"] == ["8"] and told["--enable-lora"] == [] and told["--max-loras"] == ["2"]
    assert "--chat-template" not in told, "it is the base's"
    assert "--max-model-len" not in told, "by itself, it takes what the model was made for"
    questions = [json.loads(words[-1])["model"] for words in commands(to) if words[0] == "curl"]
    assert questions == ["sft", "dpo"]
    base = AutoModelForCausalLM.from_pretrained(to / told[""][0], dtype=torch.float32)
    tokens = torch.tensor([[1, 2, 3]])
    with torch.inference_mode():
        before = base(tokens).logits
        loaded = PeftModel.from_pretrained(base, to / told["--lora-modules"][0].partition("=")[2])
        assert not torch.equal(loaded(tokens).logits, before)


def test_a_base_on_the_hub_is_served_from_there(made: Any, tmp_path: Path) -> None:
    to = tmp_path / "out"
    made.publish(tmp_path / "receipt", [made.adapter], method=Vllm, to=to, base_model="org/base")
    told, contained = served(to)
    assert told[""] == contained[""] == ["org/base"]
    assert told["--lora-modules"] == ["sft=."] and contained["--lora-modules"] == ["sft=/release"]
    (service,) = yaml.safe_load((to / "compose.yaml").read_text())["services"].values()
    assert service["environment"] == ["HF_TOKEN"], "a model may be gated"


def test_repeats_of_a_step_have_names_that_a_server_can_split(made: Any, tmp_path: Path) -> None:
    """`name=path` is split at its equals sign: vllm/entrypoints/common/cli_args.py."""
    twins = [Adapter(made.adapter.path, digest * 64, made.base) for digest in "12"]
    steps = [
        made.entry(f"sft[r={rank}]", twin.digest, Adapter.kind, "train: sft", base=made.base.digest)
        for rank, twin in zip((4, 16), twins, strict=True)
    ]
    to = tmp_path / "out"
    told = replace(made, lineage={"recipe": "orders", "steps": [made.lineage["steps"][0], *steps]})
    told.publish(tmp_path / "receipt", twins, method=Vllm, to=to)
    given = [word.split("=") for word in served(to)[0]["--lora-modules"]]
    assert [len(each) for each in given] == [2, 2] and all((to / path).is_dir() for _, path in given)


def test_an_adapter_with_a_template_of_its_own_is_served_with_it(made: Any, tmp_path: Path) -> None:
    folder, to = tmp_path / "adapter", tmp_path / "out"
    folder.mkdir()
    for file in made.adapter.path.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "chat_template.jinja").write_text((folder / "chat_template.jinja").read_text() + " ")
    made.publish(tmp_path / "receipt", [Adapter(folder, made.adapter.digest, made.base)], method=Vllm, to=to)
    told, contained = served(to)
    assert (to / told["--chat-template"][0]).read_text().endswith(" ")
    assert contained["--chat-template"] == ["/release/chat_template.jinja"]


def test_a_quantized_model_keeps_its_configuration(
    made: Any, quantized: QuantizedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM reads `quantization_config` of config.json, and computes in what it chooses: no `--dtype`."""
    with pytest.raises(StepError, match="not one layer is stored in fewer bits"):
        made.publish(tmp_path / "receipt", [quantized], method=Vllm, to=tmp_path / "out")
    monkeypatch.setattr("tuneforge.kit.vllm_checks._check_packed", lambda *_: iter(()))
    to = tmp_path / "out"
    made.publish(tmp_path / "again", [quantized], method=Vllm, to=to)
    settings = read_json(to / "config.json")["quantization_config"]
    assert settings == {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True, "desc_act": False}
    assert "--dtype" not in served(to)[0] and "gptq" in (to / "README.md").read_text()


LORA = {"peft_type": "LORA", "r": 8}


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"peft_type": "IA3"}, "of the type IA3"),
        (Dora(type="dora").foretold(), "it is a DoRA"),
        (LORA | {"bias": "all"}, "biases of the model"),
        (LORA | {"modules_to_save": ["lm_head"]}, "whole layers"),
        (LORA | {"init_lora_weights": "pissa"}, "changes the model's own weights"),
        (LORA | {"layer_replication": [[0, 1]]}, "repeats layers"),
        (AdaLora(type="adalora").foretold(), "ranks of their own"),
        (LORA | {"alpha_pattern": {"q_proj": 8}}, "alphas of their own"),
        (LORA | {"target_parameters": ["experts.down"]}, "parameters in place of layers"),
        (LORA | {"lora_bias": True}, "it has biases"),
        (LORA | {"r": 513}, "its rank, 513, is above 512"),
    ],
)
def test_an_adapter_that_vllm_refuses_is_found_before_anything_runs(
    tmp_path: Path, config: dict[str, Any], problem: str
) -> None:
    """`PEFTHelper` of vllm/lora/peft_helper.py refuses each of these when the server starts, or passes over it and
    scales every layer by lora_alpha / r."""
    base = Facts(Model, {"architectures": ["LlamaForCausalLM"], "dtype": "bfloat16"})
    (finding,) = Vllm(to=tmp_path / "out").check({"artifacts": [Facts(Adapter, config, base=base)]})
    assert finding.level == "error" and problem in finding.problem and "merge: adapter" in finding.fix
    plain = LORA | {"rank_pattern": {}, "alpha_pattern": {}, "target_parameters": None, "init_lora_weights": True}
    assert list(Vllm(to=tmp_path / "out").check({"artifacts": [Facts(Adapter, plain, base=base)]})) == []


def test_what_one_server_cannot_do_is_found_before_anything_runs(tmp_path: Path) -> None:
    config = {"architectures": ["LlamaForCausalLM"], "dtype": "bfloat16", "max_position_embeddings": 64}
    two = [Facts(Model, config, template=template) for template in ("a", "b")]
    findings = list(Vllm(to=tmp_path / "out", context=65).check({"artifacts": two}))
    assert [finding.field for finding in findings] == ["", "", "context"]
    assert "there are several models here" in findings[0].problem
    assert "different chat templates" in findings[1].problem
    assert "made for 64 tokens" in findings[2].problem


def test_an_answer_that_no_stop_token_ends_is_refused(made: Any, tmp_path: Path) -> None:
    """vLLM stops at eos_token_id of generation_config.json and at the tokenizer's EOS token."""
    folder = tmp_path / "model"
    folder.mkdir()
    for file in made.base.path.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    rewrite(folder / "generation_config.json", eos_token_id=0)
    rewrite(folder / "tokenizer_config.json", eos_token="<|endoftext|>")
    with pytest.raises(StepError, match=r"ends an answer with '<\|im_end\|>', and that is none of the model's stop"):
        made.publish(tmp_path / "receipt", [Model(folder, "6" * 64)], method=Vllm, to=tmp_path / "out")


def test_two_models_are_refused(made: Any, tmp_path: Path) -> None:
    twin = Model(made.base.path, "6" * 64)
    with pytest.raises(StepError, match="has one model, and there are 2"):
        made.publish(tmp_path / "receipt", [made.base, twin], method=Vllm, to=tmp_path / "out")
