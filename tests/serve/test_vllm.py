"""What vLLM is told: the command, with one in its place that writes down how it was called."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chat.conftest import House
from tests.serve.conftest import Open
from tuneforge import Adapter, Facts, Model, QuantizedModel, Terms
from tuneforge_vllm import VLlm
from tuneforge_vllm import command as vllm

TERMS = Terms("127.0.0.1", 8000, "bot")
STAND_IN = """#!{python}
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

environment = {{name: value for name, value in os.environ.items() if name.startswith(("VLLM", "HF_"))}}
Path({file!r}).write_text(json.dumps([sys.argv[1:], environment]))


class Health(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()


HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Health).serve_forever()
"""


def model(folder: Path, template: str = "{{ messages }}") -> Path:
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "chat_template.jinja").write_text(template)
    return folder


def adapter(folder: Path, base: Path, **config: Any) -> Adapter:
    folder.mkdir()
    settings = {"peft_type": "LORA", "r": 12, "bias": "none"} | config
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    (folder / "adapter_model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    return Adapter(folder, "a", Model(base, "b"))


def test_the_command_serves_by_vllm_with_the_key_out_of_sight(opened: Open, tmp_path: Path) -> None:
    stand_in, called = tmp_path / "bin" / "vllm", tmp_path / "called.json"
    stand_in.parent.mkdir()
    stand_in.write_text(STAND_IN.format(python=sys.executable, file=str(called)))
    stand_in.chmod(0o755)
    (tmp_path / "keys.txt").write_text("secret\n")
    house = House(tmp_path, {"PATH": f"{stand_in.parent}:{os.defpath}"})
    house.take("bot", "model", model(tmp_path / "model"))
    arguments = ["--engine", "vllm", "--context", "512", "--api-key-file", str(tmp_path / "keys.txt")]
    serving = opened(house, "bot", *arguments)
    port = serving.url.rpartition(":")[2]
    (verb, folder, *told), environment = json.loads(called.read_text())
    assert (verb, Path(folder)) == ("serve", house.registry.tree(house.registry.resolve("bot")))
    pairs = dict(zip(told[::2], told[1::2], strict=True))
    assert pairs == {
        "--host": "127.0.0.1",
        "--port": port,
        "--served-model-name": "bot",
        "--generation-config": "vllm",
        "--allowed-origins": "[]",
        "--max-model-len": "512",
    }
    assert (environment["VLLM_API_KEY"], environment["VLLM_NO_USAGE_STATS"]) == ("secret", "1")


def test_an_adapter_is_served_beside_its_base(tmp_path: Path) -> None:
    base = model(tmp_path / "base")
    lora = adapter(tmp_path / "lora", base)
    told = vllm.arguments(lora, TERMS)
    assert told[1] == str(base)
    assert told[told.index("--served-model-name") + 1] == "bot-base"
    assert told[-5:] == ["--enable-lora", "--max-lora-rank", "16", "--lora-modules", f"bot={lora.path}"]
    shutil.copyfile(base / "chat_template.jinja", lora.path / "chat_template.jinja")
    assert vllm.arguments(lora, TERMS)[-2:] == ["--chat-template", str(lora.path / "chat_template.jinja")]


def test_what_cannot_be_served_is_found_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "executable", lambda: None)
    known = Facts(Model, {"architectures": ["LlamaForCausalLM"]}, template="{{ messages }}")
    (missing,) = VLlm().check(known, TERMS)
    assert missing.problem == "vLLM is not installed here"
    monkeypatch.setattr(vllm, "executable", lambda: "vllm")
    assert not list(VLlm().check(known, TERMS))
    settings = {"quant_method": "gptq", "bits": 3, "group_size": 128, "sym": True, "desc_act": False}
    three_bits = Facts(QuantizedModel, {**known.config, "quantization_config": settings})
    problems = [each.problem for each in VLlm().check(three_bits, Terms("127.0.0.1", 1, "bot", ("a", "b")))]
    assert [problem.split(",")[0] for problem in problems] == [
        "vLLM takes one API key",
        "the quantized-model has no chat template",
        "vLLM has no GPTQ of 3 bits",
    ]
    pissa = Facts(Adapter, {"peft_type": "LORA", "init_lora_weights": "pissa"}, template="x", base=known)
    (finding,) = VLlm().check(pissa, TERMS)
    assert "pissa, changes the model's own weights" in finding.problem and "another --engine" in finding.fix
