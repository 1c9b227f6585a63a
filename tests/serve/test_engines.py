"""The real servers, started by the command, answer the openai client as transformers does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import openai
import pytest
import torch
from openai import OpenAI
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from tests.chat.conftest import House, alive, eventually
from tests.chat.test_command import descendants
from tests.chat.test_transformers import QUESTION, TINY, generated, say
from tests.gguf.conftest import converter  # noqa: F401  # a fixture
from tests.serve.conftest import Open, Serving
from tuneforge import Adapter, Model
from tuneforge.kit.models import load_model, load_tokenizer, save_adapter
from tuneforge_gguf.export import export

pytestmark = pytest.mark.slow

PROMPTS = [say(QUESTION), say("Hello", "Hello!", "And again"), say("Hello", system="Answer in JSON.")]
ALPHA, RANK = 32, 8


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, converter: Path) -> House:  # noqa: F811
    """The built-in model, an adapter that changes it a lot, and both for llama.cpp."""
    folder = tmp_path_factory.mktemp("served")
    house = House(folder, {"PATH": f"{Path(sys.executable).parent}:{os.defpath}"})
    model = house.take("tiny", "model", shutil.copytree(TINY, folder / "tiny"))
    base = Model(TINY, model)
    torch.manual_seed(0)
    # Of the attention, llama.cpp keeps queries and keys in another order; values and the rest are as they are.
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, init_lora_weights=False, target_modules=["v_proj", "down_proj"])
    (folder / "adapter").mkdir()
    save_adapter(
        get_peft_model(load_model(base, dtype=torch.float32), config), load_tokenizer(base), folder / "adapter", base
    )
    weights = load_file(folder / "adapter/adapter_model.safetensors")
    house.take("tuned", "adapter", folder / "adapter", model)
    (folder / "file").mkdir()
    export(TINY, folder / "file", "bf16", converter, log=print)
    file = house.take("file", "gguf", folder / "file")
    (folder / "lora").mkdir()
    write_lora(weights, folder / "lora/adapter.gguf")
    house.take("lora", "gguf-adapter", folder / "lora", model)
    step = {"name": "file", "kind": "gguf", "digest": file, "inputs": {"model": [model]}, "wires": {}}
    step |= {"stage": "quantize", "method": "gguf", "status": "done", "seconds": 1.0, "metrics": {}}
    record = {"id": "r", "recipe": "r", "status": "done", "started": "2026-01-01T00:00:00+00:00", "steps": [step]}
    house.registry.write_run("r", record)
    return house


def write_lora(weights: dict[str, torch.Tensor], file: Path) -> None:
    """A LoRA adapter in llama.cpp's format."""
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", ALPHA)
    names = {"self_attn.v_proj": "attn_v", "mlp.down_proj": "ffn_down"}
    for name, weight in weights.items():
        layer, rest = name.partition("layers.")[2].split(".", 1)
        module, kind = rest.removesuffix(".weight").rsplit(".", 1)
        ours = f"blk.{layer}.{names[module]}.weight.{kind.lower()}"
        writer.add_tensor(ours, weight.float().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def expected(house: House, name: str) -> list[str]:
    """The greedy answers of transformers alone."""
    base = Model(TINY, house.registry.resolve("tiny"))
    digest = house.registry.resolve(name)
    artifact = base if name == "tiny" else Adapter(house.registry.tree(digest), digest, base)
    model: Any = load_model(artifact, dtype=torch.float32)
    return [generated(model, load_tokenizer(artifact), prompt) for prompt in PROMPTS]


def answers(serving: Serving, name: str, key: str = "none") -> list[str]:
    """The greedy answers of a server, which are the same streamed or not."""
    client = OpenAI(base_url=f"{serving.url}/v1", api_key=key, max_retries=0)
    assert [model.id for model in client.models.list()] == [name]
    said = []
    for prompt in PROMPTS:
        asked: Any = {"model": name, "messages": prompt, "temperature": 0, "max_tokens": 40}
        whole = client.chat.completions.create(**asked).choices[0]
        chunks = list(client.chat.completions.create(**asked, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.message.content
        assert chunks[-1].choices[0].finish_reason == whole.finish_reason
        said.append(str(whole.message.content))
    return said


def test_llama_cpp_answers_from_an_exported_file_as_transformers_does(
    house: House, opened: Open, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text("secret\nother\n")
    serving = opened(house, "file@v1", "--api-key-file", str(keys))
    assert answers(serving, "file", "secret") == expected(house, "tiny")
    for command in serving.commands:  # one with curl, one with the openai client
        ended = subprocess.run(command, shell=True, env=house.environment, capture_output=True, text=True, check=True)
        assert ended.stdout.strip()
    with pytest.raises(openai.AuthenticationError):
        OpenAI(base_url=f"{serving.url}/v1", api_key="none").chat.completions.create(model="file", messages=[])
    # A line for each request that was answered, and for what was refused; llama.cpp tells when it comes to it.
    assert eventually(lambda: "Invalid API Key" in serving.err)
    children = descendants(serving.process.pid)
    serving.process.kill()
    ended = serving.end()
    assert eventually(lambda: not alive(*children))
    told = ended.err.splitlines()
    assert sum("total time" in line for line in told) == 2 * len(PROMPTS) + 2
    assert len(told) < 2 * len(PROMPTS) + 12


def test_llama_cpp_serves_an_adapter_on_the_file_of_its_base(house: House, opened: Open) -> None:
    said = answers(opened(house, "lora", "--base", "file"), "lora")
    assert said == expected(house, "tuned")
    assert said != expected(house, "tiny")


def test_transformers_serves_an_adapter_on_its_base(house: House, opened: Open) -> None:
    serving = opened(house, "tuned", "--name", "mine")
    assert answers(serving, "mine") == expected(house, "tuned")
    for command in serving.commands:
        ended = subprocess.run(command, shell=True, env=house.environment, capture_output=True, text=True, check=True)
        assert ended.stdout.strip()
    children = descendants(serving.process.pid)
    ended = serving.interrupt()
    assert ended.code == 130
    assert not alive(*children)
    assert sum(" POST /v1/chat/completions 200: " in line for line in ended.err.splitlines()) == 2 * len(PROMPTS) + 2


def test_a_file_that_llama_cpp_does_not_load_is_told(house: House, opened: Open, tmp_path: Path) -> None:
    (file,) = house.registry.tree(house.registry.resolve("file")).glob("*.gguf")
    without = file.read_bytes().replace(b"tokenizer.chat_template", b"tokenizer.chat_templatx", 1)
    for name, content, code, told in (
        ("plain", without, 2, "plain: not by llama_cpp: the gguf has no chat template"),
        ("broken", file.read_bytes()[: 2**20], 1, "llama.cpp does not load the GGUF file"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.gguf").write_bytes(content)
        house.take(name, "gguf", tmp_path / name)
        ended = opened(house, name).end()
        assert (ended.code, ended.out) == (code, "")
        assert told in ended.err
