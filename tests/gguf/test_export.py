from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.gguf.small_models import byte_level, rewrite, sentencepiece_like, write_model
from tuneforge import StepError
from tuneforge_gguf import export as export_module
from tuneforge_gguf.export import export
from tuneforge_gguf.verify import verify

pytestmark = pytest.mark.slow

_EXPORT = """
import sys
from pathlib import Path

import tuneforge_gguf.engine
from tuneforge_gguf.export import export

model, out, converter = map(Path, sys.argv[1:])
export(model, out, "f16", converter, log=lambda line: None)
print("torch._dynamo" in sys.modules)
"""
_TOKENIZER = """
import sys

from transformers import AutoTokenizer

AutoTokenizer.from_pretrained(sys.argv[1])
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.parametrize(
    ("family", "tied", "dtype", "type_", "weights_error"),
    [
        ("llama", False, torch.float32, "q8_0", 0.005),
        ("llama", True, torch.bfloat16, "bf16", 0.0),
        ("qwen2", True, torch.float32, "bf16", 2**-8),
        ("qwen2", False, torch.bfloat16, "q8_0", 0.005),
        ("mistral", False, torch.bfloat16, "f16", 0.0),
        ("mistral", True, torch.float32, "f16", 2**-11),
    ],
)
def test_writes_a_file_that_llama_cpp_answers_from_as_transformers_does(
    tmp_path: Path, converter: Path, family: str, tied: bool, dtype: torch.dtype, type_: str, weights_error: float
) -> None:
    model = write_model(tmp_path / "model", byte_level(), family, tied=tied, dtype=dtype)
    (tmp_path / "out").mkdir()
    file = export(model, tmp_path / "out", type_, converter, log=lambda _: None)
    assert list((tmp_path / "out").iterdir()) == [file] == [tmp_path / "out" / f"model-{type_}.gguf"]
    figures = verify(file, model)
    assert figures["tensors_compared"] == figures["tensors"] == (20 if tied else 21) + 6 * (family == "qwen2")
    assert figures["tensors_as_asked"] == (15 if tied else 16)
    assert figures["weights_error"] <= weights_error
    assert figures["texts_differing"] == 0
    assert figures["greedy_agreement"] > 0.8


def test_writes_sentencepiece_like_tokenizers_so_that_merges_keep_their_order(tmp_path: Path, converter: Path) -> None:
    model = write_model(tmp_path / "model", sentencepiece_like(), unused=0)
    logged: list[str] = []
    figures = verify(export(model, tmp_path, "f16", converter, log=print), model, log=logged.append)
    # What is left is llama.cpp's: a space before text that follows a marker or starts with a space.
    assert 0 < figures["texts_differing"] < 0.1 * figures["texts"]
    assert any("texts differently" in line for line in logged)


def test_equal_models_give_equal_bytes_wherever_they_lie(tmp_path: Path, converter: Path, llama: Path) -> None:
    files = []
    for folder in ("Acme-Chat-7B-v2", "another place/checkpoint-300"):
        shutil.copytree(llama, tmp_path / folder)
        (tmp_path / folder / "out").mkdir()
        name = "support-bot"
        files.append(export(tmp_path / folder, tmp_path / folder / "out", "q8_0", converter, name=name, log=print))
    assert files[0].read_bytes() == files[1].read_bytes()
    fields = gguf.GGUFReader(files[0]).fields
    assert fields["general.name"].contents() == "support-bot"
    known = ("architecture", "type", "name", "size_label", "file_type", "quantization_version")
    assert {key for key in fields if key.startswith("general.")} == {f"general.{key}" for key in known}
    assert str(tmp_path).encode() not in files[0].read_bytes()


def test_leaves_the_process_as_it_was(tmp_path: Path, converter: Path, llama: Path) -> None:
    path, argv, root = list(sys.path), list(sys.argv), list(logging.getLogger().handlers)
    logged: list[str] = []
    export(llama, tmp_path, "f16", converter, log=logged.append)
    assert (sys.path, sys.argv, logging.getLogger().handlers) == (path, argv, root)
    assert sys.modules["gguf"] is gguf
    assert not {"conversion", "convert_hf_to_gguf"} & sys.modules.keys()
    assert any("token_embd.weight" in line for line in logged)


def _tokenizer(model: models.Model, pre_tokenizer: pre_tokenizers.PreTokenizer) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="b", bos_token="a", pad_token="a")


def _unknown() -> PreTrainedTokenizerFast:
    described = json.loads(byte_level().backend_tokenizer.to_str())
    described["normalizer"] = {"type": "Lowercase"}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(described)),
        bos_token="<|bos|>",
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
    )


def _unigram() -> PreTrainedTokenizerFast:
    return _tokenizer(models.Unigram([("a", -1.0), ("b", -2.0)]), pre_tokenizers.Metaspace())


@pytest.mark.parametrize(
    ("tokenizer", "problem"),
    [(_unigram, "cannot read a Unigram tokenizer"), (_unknown, "does not know how the model's tokenizer splits text")],
)
def test_refuses_a_tokenizer_that_llama_cpp_does_not_have(
    tmp_path: Path, converter: Path, tokenizer: type[PreTrainedTokenizerFast], problem: str
) -> None:
    model = write_model(tmp_path / "model", tokenizer())
    (tmp_path / "out").mkdir()
    with pytest.raises(StepError, match=problem):
        export(model, tmp_path / "out", "f16", converter, log=print)
    assert not list((tmp_path / "out").iterdir())


def test_refuses_an_architecture_that_the_converter_does_not_know(tmp_path: Path, converter: Path, llama: Path) -> None:
    model = shutil.copytree(llama, tmp_path / "model")
    rewrite(model / "config.json", architectures=["NoSuchForCausalLM"])
    with pytest.raises(StepError, match="does not know the architecture NoSuchForCausalLM"):
        export(model, tmp_path, "f16", converter, log=print)


def test_tells_what_the_converter_stumbled_over_and_leaves_no_file(
    tmp_path: Path, converter: Path, llama: Path
) -> None:
    model = shutil.copytree(llama, tmp_path / "model")
    (model / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(StepError, match=r"llama.cpp's converter failed: \w+: "):
        export(model, tmp_path, "f16", converter, log=print)
    assert not list(tmp_path.glob("*.gguf"))


def test_a_killed_export_leaves_nothing_outside_of_its_folder(
    tmp_path: Path, llama: Path, converter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(converter: Path, splitting: str | None, score: Any, arguments: list[str]) -> None:
        assert Path(arguments[-1]).read_text()
        assert Path(arguments[-1]).is_relative_to(tmp_path / "out")
        raise KeyboardInterrupt

    (tmp_path / "out").mkdir()
    monkeypatch.setattr(export_module, "_convert", killed)
    with pytest.raises(KeyboardInterrupt):
        export(llama, tmp_path / "out", "f16", converter, log=print)
    assert not list((tmp_path / "out").iterdir())


def test_a_conversion_loads_no_compiler(llama: Path, tmp_path: Path, converter: Path) -> None:
    """Which would take 24 MB of it. Loading a tokenizer alone does, unless it is kept from it."""

    def told(source: str, *given: Path) -> str:
        command = [sys.executable, "-c", source, *map(str, given)]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]

    assert told(_EXPORT, llama, tmp_path, converter) == "False"
    assert told(_TOKENIZER, llama) == "True", "then nothing need be kept from loading it"
