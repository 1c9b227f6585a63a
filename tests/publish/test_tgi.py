"""The method `publish: tgi`: the release is what text-generation-inference 3.3.7 takes.

Cited below are its docs/source/reference/launcher.md and conceptual/lora.md, and its sources: what it reads of a folder
is what transformers 4.51, its own pin, reads.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import minijinja
import pytest
import yaml

from tests.gguf.small_models import rewrite
from tests.publish.commands import commands, options
from tests.publish.test_templates import DATED
from tuneforge import Adapter, Facts, Model, QuantizedModel, StepError
from tuneforge.artifacts import read_json
from tuneforge.kit.models import load_tokenizer
from tuneforge_publish import Tgi
from tuneforge_publish.templates import CONVERSATIONS
from tuneforge_publish.tgi_bundle import model_config, tokenizer_config, verified

# Of docs/source/reference/launcher.md.
KNOWN = {
    *("--model-id", "--revision", "--max-total-tokens", "--max-input-tokens", "--dtype", "--lora-adapters"),
    "--tokenizer-config-path",
}


def served(release: Path) -> dict[str, list[str]]:
    """The launcher's options, the same in the card's docker command and in the compose file."""
    (docker,) = (words for words in commands(release) if words[:2] == ["docker", "run"])
    (service,) = yaml.safe_load((release / "compose.yaml").read_text())["services"].values()
    image = docker.index(service["image"])
    assert docker[image + 1 :] == service["command"]
    told = options(docker[:image])
    assert told["-p"] == service["ports"] == ["127.0.0.1:8080:80"], "the image listens on 80 (Dockerfile: PORT=80)"
    token = ["HF_TOKEN"] if service["command"][1] == "org/base" else None
    assert told.get("-e") == service.get("environment") == token, "a model may be gated"
    assert told["--shm-size"] == ["1g"] == [service["shm_size"]] and told["--gpus"] == ["all"]
    assert told["--volume"] == ["$PWD:/release:ro"] and service["volumes"] == [".:/release:ro"]
    launcher = options(service["command"])
    assert launcher.keys() - {""} <= KNOWN
    return launcher


def test_a_model_is_served_from_the_top(made: Any, tmp_path: Path) -> None:
    """`--model-id`: "a local directory containing the necessary files"; `--dtype` of float16 and bfloat16;
    `--max-input-tokens` below `--max-total-tokens` (reference/launcher.md)."""
    to = tmp_path / "out"
    made.publish(tmp_path / "receipt", [made.base], [made.report], Tgi, to=to, context=100)
    told = served(to)
    assert told["--model-id"] == ["/release"] and told["--dtype"] == ["bfloat16"]
    assert told["--max-total-tokens"] == ["100"] and told["--max-input-tokens"] == ["99"]
    card = (to / "README.md").read_text()
    assert "To let others in, give it one with `--api-key`" in card
    assert "maintenance mode" in card and "recommend vLLM or SGLang" in card
    (question,) = (words for words in commands(to) if words[0] == "curl")
    assert json.loads(question[-1])["model"] == "tgi", "router/src/lib.rs: any other name is an adapter's"


def test_files_are_written_as_older_versions_of_transformers_read_them(made: Any, tmp_path: Path) -> None:
    """flash_llama_modeling.py takes `rope_theta`, or 10000 without a word; AutoTokenizer of 4.51 knows no
    TokenizersBackend; router/src/server.rs reads the template from tokenizer_config.json or chat_template.json only."""
    to = tmp_path / "out"
    made.publish(tmp_path / "receipt", [made.base], method=Tgi, to=to)
    assert "rope_theta" not in read_json(made.base.path / "config.json"), "or this test shows nothing"
    config = read_json(to / "config.json")
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]
    assert config["torch_dtype"] == "bfloat16" and "rope_scaling" not in config
    told = read_json(to / "tokenizer_config.json")
    assert told["tokenizer_class"] == "PreTrainedTokenizerFast"
    tokenizer, engine = load_tokenizer(made.base), minijinja.Environment()
    for messages in CONVERSATIONS:
        text = engine.render_str(
            told["chat_template"], messages=messages, add_generation_prompt=True, bos_token=None, eos_token="<|im_end|>"
        )
        assert text == tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    assert (to / "model.safetensors").read_bytes() == (made.base.path / "model.safetensors").read_bytes()


def test_a_template_may_tell_the_day() -> None:
    """router/src/infer/chat_template.rs of 3.3.7 has `strftime_now`, which Llama 3.2 and Granite call."""
    assert "strftime_now('%d %B %Y')" in verified(DATED, {})


def test_scaled_rotary_embeddings_are_told_in_the_old_words() -> None:
    rope = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "original_max_position_embeddings": 8192}
    config = model_config({"rope_parameters": rope, "dtype": "float16"})
    assert config["rope_theta"] == 5e5 and config["torch_dtype"] == "float16"
    assert config["rope_scaling"] == {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}
    assert tokenizer_config({"extra_special_tokens": ["<a>"]}) == {"additional_special_tokens": ["<a>"]}


def test_adapters_are_served_beside_their_base(made: Any, tmp_path: Path) -> None:
    """`LORA_ADAPTERS=myadapter=/some/path/to/adapter`, asked for by name (conceptual/lora.md); its configuration is
    read by PEFT 0.15."""
    to = tmp_path / "out"
    made.publish(tmp_path / "receipt", [made.adapter], method=Tgi, to=to)
    told = served(to)
    assert told["--model-id"] == ["/release/base"] and told["--lora-adapters"] == ["sft=/release"]
    assert "--max-total-tokens" not in told, "then it takes as many as the GPU has room for"
    config = read_json(to / "adapter_config.json")
    assert config["base_model_name_or_path"] == "base" and (config["peft_type"], config["r"]) == ("LORA", 2)
    assert len(config) <= 11 < len(read_json(made.adapter.path / "adapter_config.json"))
    (question,) = (words for words in commands(to) if words[0] == "curl")
    assert json.loads(question[-1])["model"] == "sft"
    assert read_json(to / "base" / "tokenizer_config.json")["chat_template"]


def test_a_base_on_the_hub_gets_the_adapters_template(made: Any, tmp_path: Path) -> None:
    to = tmp_path / "out"
    made.publish(tmp_path / "receipt", [made.adapter], method=Tgi, to=to, base_model="org/base")
    told = served(to)
    assert told["--model-id"] == ["org/base"]
    assert told["--tokenizer-config-path"] == ["/release/tokenizer_config.json"]
    assert read_json(to / "tokenizer_config.json")["chat_template"]


def test_a_quantized_model_keeps_its_configuration(made: Any, quantized: QuantizedModel, tmp_path: Path) -> None:
    """utils/quantization.py reads bits, group_size, quant_method, sym and desc_act; `--dtype` "cannot be used with"
    quantized weights (reference/launcher.md)."""
    to = tmp_path / "out"
    made.publish(tmp_path / "receipt", [quantized], method=Tgi, to=to)
    settings = read_json(to / "config.json")["quantization_config"]
    assert settings == {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True, "desc_act": False}
    assert "--dtype" not in served(to)
    rewrite(quantized.path / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    with pytest.raises(StepError, match="cannot load what is already rounded"):
        made.publish(tmp_path / "again", [quantized], method=Tgi, to=tmp_path / "other")
    rewrite(quantized.path / "config.json", quantization_config=settings)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{% for m in messages %}{{ m.content.encode() }}{% endfor %}", "cannot read the chat template"),
        ("{% for m in messages %}{{ loop.first }} {{ m.content }}{% endfor %}", "of a conversation, and"),
    ],
)
def test_a_template_that_its_engine_renders_otherwise_is_refused(
    made: Any, tmp_path: Path, template: str, problem: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in made.base.path.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(StepError, match=problem):
        made.publish(tmp_path / "receipt", [Model(folder, "6" * 64)], method=Tgi, to=tmp_path / "out")


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "cannot load what is already rounded"),
        ({"quantization_config": {"quant_method": "hqq"}}, "does not read models quantized by hqq"),
        ({"quantization_config": {"quant_method": "gptq", "checkpoint_format": "gptq_v2"}}, "the GPTQ format gptq_v2"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 5}}, "GPTQ with 5 bits"),
        ({"quantization_config": {"quant_method": "awq", "bits": 8}}, "AWQ with 4 bits only"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e6}}}, "a kind for each kind of layer"),
    ],
)
def test_a_model_that_it_cannot_read_is_found_before_anything_runs(
    tmp_path: Path, config: dict[str, Any], problem: str
) -> None:
    known = Facts(Model, {"model_type": "llama", **config}, template="x")
    (finding,) = Tgi(to=tmp_path / "out").check({"artifacts": [known]})
    assert finding.level == "error" and problem in finding.problem and "publish: vllm" in finding.fix


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"target_modules": ["q_proj", "embed_tokens"]}, "puts no adapter on embed_tokens"),
        ({"target_modules": "all-linear"}, "by name, not by a pattern"),
        ({"rank_pattern": {"q_proj": 4}}, "ranks of their own"),
        ({"use_dora": True}, "it is a DoRA"),
    ],
)
def test_an_adapter_that_it_would_pass_over_is_found_before_anything_runs(
    tmp_path: Path, config: dict[str, Any], problem: str
) -> None:
    """`LoraWeights.prepare_weights` is asked for the layers of `adapter_layers` (models/__init__.py); of what else
    there is, the log has a line."""
    base = Facts(Model, {"model_type": "llama"})
    known = Facts(Adapter, {"peft_type": "LORA", "r": 8, **config}, template="x", base=base)
    (finding,) = Tgi(to=tmp_path / "out").check({"artifacts": [known]})
    assert finding.level == "error" and problem in finding.problem


def test_an_architecture_without_code_of_its_own_is_warned_of(tmp_path: Path) -> None:
    known = Facts(Model, {"model_type": "qwen3"}, tokenizer=tmp_path)
    findings = list(Tgi(to=tmp_path / "out").check({"artifacts": [known]}))
    assert [finding.level for finding in findings] == ["warning", "warning"]
    assert "qwen3 models" in findings[0].problem and "no chat template" in findings[1].problem
