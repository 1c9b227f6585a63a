"""The method `publish: llama_cpp`: what llama.cpp makes of the release.

The commands are those of llama.cpp's tools/server/README.md: `-m`, `--lora`, `--jinja`, `-c`, `--port`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest

from tests.publish.commands import commands, options
from tuneforge import Facts, Gguf, GgufAdapter, Step, StepError
from tuneforge.kit.llamacpp import loaded
from tuneforge.kit.models import load_tokenizer
from tuneforge_publish import Folder, LlamaCpp, Ollama
from tuneforge_publish.gguf_bundle import ServedGguf
from tuneforge_publish.gguf_file import GgufFile
from tuneforge_publish.llama_cpp_file import verify_template
from tuneforge_publish.parts import Part


@pytest.mark.slow  # exports a model, and loads it in llama.cpp
def test_the_release_is_what_llama_cpp_loads_and_answers_from(exported: Any, tmp_path: Path) -> None:
    to = tmp_path / "out"
    exported.publish(tmp_path / "receipt", [exported.gguf], [exported.report], LlamaCpp, to=to, context=128)
    assert {path.name for path in to.iterdir()} == {"model-q8_0.gguf", "README.md", "lineage.json", "SHA256SUMS"}
    chat, server, question, _ = commands(to)
    assert (chat[0], server[0], question[0]) == ("llama-cli", "llama-server", "curl")
    for command in (chat, server):
        told = options(command[1:])
        assert (to / told["-m"][0]).is_file() and told["--jinja"] == [] and told["-c"] == ["128"]
    assert f"http://localhost:{options(server)['--port'][0]}/v1/chat/completions" in question
    card = (to / "README.md").read_text()
    # Keys and values of one layer with one head of 16 numbers, in 16 bits.
    assert f"one conversation of 128 tokens {2 * 2 * 16 * 128 / 1000:.1f} kB more" in card
    messages = [{"role": "user", "content": "Hello"}]
    with loaded(to / "model-q8_0.gguf", threads=1, context=128) as llama:
        text = llama.render(messages)
        assert text == load_tokenizer(exported.base).apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        assert "".join(llama.answer(llama.tokenize(text, special=True), 8, temperature=0))


@pytest.mark.slow
def test_an_adapter_is_served_on_the_gguf_model_of_its_base(exported: Any, tmp_path: Path) -> None:
    to = tmp_path / "out"
    exported.publish(tmp_path / "receipt", [exported.gguf, exported.gguf_adapter], method=LlamaCpp, to=to)
    assert {path.name for path in to.iterdir() if path.is_dir()} == {"whole", "light"}
    servers = [options(command) for command in commands(to) if command[0] == "llama-server"]
    assert [server["-m"] for server in servers] == [["whole/model-q8_0.gguf"]] * 2
    assert servers[1]["--lora"] == ["light/adapter-f16.gguf"] and "--lora" not in servers[0]
    assert all((to / file).is_file() for server in servers for file in (*server["-m"], *server.get("--lora", ())))
    assert servers[0]["-c"] == ["256"], "what the model was made for"
    steps = [step for step in exported.lineage["steps"] if step["name"] != "whole"]
    stranger = exported.entry("other", exported.gguf.digest, Gguf.kind, "quantize: gguf", {"model": ["sft"]})
    with pytest.raises(StepError, match="none of the released GGUF models is the one it was trained on"):
        replace(exported, lineage=exported.lineage | {"steps": [*steps, stranger]}).publish(
            tmp_path / "again", [exported.gguf, exported.gguf_adapter], method=LlamaCpp, to=tmp_path / "other"
        )


@pytest.mark.slow
def test_a_template_that_llama_cpp_renders_otherwise_is_refused(exported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = GgufFile(next(exported.gguf.path.glob("*.gguf")))
    verify_template(file, threads=1)
    # As if the file had been given another one after it was made.
    monkeypatch.setattr(GgufFile, "template", file.template.replace("<|im_start|>user", "<|im_start|>human") + "!")
    with pytest.raises(StepError, match="and the model's own template"):
        verify_template(file, threads=1)


@pytest.mark.parametrize("method", [Folder, LlamaCpp, Ollama])
def test_an_adapter_without_its_model_is_found_before_anything_runs(tmp_path: Path, method: type[Folder]) -> None:
    (finding, *_) = method(to=tmp_path / "out").check({"artifacts": [Facts(GgufAdapter)]})
    assert finding.level == "error" and "without its base model in GGUF" in finding.problem
    findings = method(to=tmp_path / "out").check({"artifacts": [Facts(GgufAdapter), Facts(Gguf)]})
    assert "error" not in [finding.level for finding in findings]


@pytest.mark.slow
def test_a_context_beyond_what_the_model_was_made_for_is_told(exported: Any, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    step = Step("release", tmp_path, tmp_path / "scratch", 0, 1, events.append, exported.lineage)
    Ollama(to=tmp_path / "out", context=257).run([exported.gguf], step=step)
    (warning,) = (event for event in events if event["event"] == "warning")
    assert warning["problem"] == "whole was made for 256 tokens, and is to be served with 257"


def test_a_long_context_is_not_taken_for_granted(tmp_path: Path) -> None:
    """Llama 3.1 of 8 billion weights has 131072 tokens, whose keys and values take 17 GB."""
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_context_length(131072)
    writer.add_block_count(32)
    writer.add_head_count(32)
    writer.add_head_count_kv(8)
    writer.add_embedding_length(4096)
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    part = Part("model", ".", Gguf(tmp_path, "7" * 64), None, None, True)
    model = ServedGguf(part, None, GgufFile(tmp_path / "model.gguf"))
    card = "\n".join(model.usage(None))
    assert "one conversation of 8192 tokens 1.1 GB more. The model was made for 131072: raise `-c` where" in card
    assert card.count("--jinja -c 8192") == 2
    assert model.needs(131072).context == 131072 and "made for" not in model.told(131072, "-c")


def test_what_is_no_gguf_file_is_refused(made: Any, tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"model-q8_0\.gguf cannot be read as GGUF"):
        made.publish(tmp_path / "receipt", [made.gguf], method=LlamaCpp, to=tmp_path / "out")
    assert not (tmp_path / "out").exists()
