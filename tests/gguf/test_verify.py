from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.gguf.small_models import byte_level, rewrite, write_model
from tuneforge import StepError
from tuneforge.kit.llamacpp import loaded, template_of, template_options
from tuneforge_gguf.export import export
from tuneforge_gguf.verify import verify

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, converter: Path, llama: Path) -> Path:
    return export(llama, tmp_path_factory.mktemp("out"), "f16", converter, log=print)


def _weight(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    def edit(model: Path) -> None:
        tensors = load_file(model / "model.safetensors")
        tensors[name] = change(tensors[name])
        save_file(tensors, model / "model.safetensors", {"format": "pt"})

    return edit


def _more(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    tensors["model.layers.0.self_attn.q_proj.bias"] = torch.zeros(64)
    save_file(tensors, model / "model.safetensors", {"format": "pt"})


def _replace(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(model: Path) -> None:
        text = (model / name).read_text()
        assert old in text
        (model / name).write_text(text.replace(old, new))

    return edit


def _swapped(model: Path) -> None:
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))


def _nudged(weight: torch.Tensor) -> torch.Tensor:
    changed = weight.clone()
    changed.view(-1)[77] *= 1.01
    return changed


# Each edits the model behind the file's back.
MODEL_EDITS = {
    "a weight": (
        _weight("model.layers.1.mlp.down_proj.weight", _nudged),
        "blk.1.ffn_down.weight of the GGUF file differs",
    ),
    "a query's rows": (
        _weight("model.layers.0.self_attn.q_proj.weight", lambda weight: weight.roll(1, 0)),
        "attn_q.weight",
    ),
    "a tensor more": (_more, "lacks 1 of the model's tensors, such as model.layers.0.self_attn.q_proj.bias"),
    "the rotary base": (_replace("config.json", "10000.0", "500.0"), "rope.freq_base is 10000.0"),
    "the activation": (_replace("config.json", '"silu"', '"tanh"'), "logits differ from transformers' by"),
    "two tokens": (_swapped, "token [0-9]+ is 'a' in the GGUF file and 'b' in the tokenizer"),
    "the eos token": (_replace("tokenizer_config.json", "<|im_end|>", "<|im_start|>"), "eos token is 2 in the GGUF"),
    "the template": (_replace("chat_template.jinja", "<|im_end|>", "<|im_end|> "), "chat template of the GGUF file"),
    "the splitting": (
        _replace("tokenizer.json", '"use_regex": true', '"use_regex": false'),
        "tokenizes text differently",
    ),
}


@pytest.mark.parametrize("edit", MODEL_EDITS)
def test_finds_what_differs_and_leaves_no_file(tmp_path: Path, llama: Path, exported: Path, edit: str) -> None:
    change, problem = MODEL_EDITS[edit]
    model = shutil.copytree(llama, tmp_path / "model")
    file = Path(shutil.copy(exported, tmp_path / "model-f16.gguf"))
    change(model)
    with pytest.raises(StepError, match=problem):
        verify(file, model)
    assert not file.exists()


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _other(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def edit(content: bytes) -> bytes:
        assert content.count(old) == 1 and len(old) == len(new)
        return content.replace(old, new)

    return edit


FILE_EDITS = {
    "cut short": (_cut, "cannot be read"),
    "another splitting": (_other(b"gpt-2", b"qwen2"), "tokenizes text differently"),
    "an unknown splitting": (
        _other(b"gpt-2", b"gpt-9"),
        "llama.cpp does not load the GGUF file: .*unknown pre-tokenizer type: 'gpt-9'",
    ),
}


@pytest.mark.parametrize("edit", FILE_EDITS)
def test_finds_a_file_that_llama_cpp_reads_otherwise(tmp_path: Path, llama: Path, exported: Path, edit: str) -> None:
    change, problem = FILE_EDITS[edit]
    file = tmp_path / "model-f16.gguf"
    file.write_bytes(change(exported.read_bytes()))
    with pytest.raises(StepError, match=problem):
        verify(file, llama)
    assert not file.exists()


def test_finds_weights_that_do_not_fit_the_type(tmp_path: Path, converter: Path) -> None:
    model = write_model(tmp_path / "model", byte_level())
    _weight("model.layers.0.mlp.up_proj.weight", lambda weight: weight * 1e6)(model)
    with pytest.raises(StepError, match=r"ffn_up.weight of the GGUF file holds numbers that are not finite"):
        verify(export(model, tmp_path, "f16", converter, log=print), model)


def test_finds_that_nothing_got_smaller(tmp_path: Path, converter: Path) -> None:
    model = write_model(tmp_path / "model", byte_level(), hidden=48, intermediate=80)
    with pytest.raises(StepError, match="not one tensor of the GGUF file is in Q8_0"):
        verify(export(model, tmp_path, "q8_0", converter, log=print), model)


@pytest.mark.parametrize(
    ("start", "problem"),
    [
        ("{{ bos_token }}", None),
        ("{% if enable_thinking %}<think>{% endif %}", None),
        ("{% if enable_thinking is defined %}{{ enable_thinking | string | length }}{% endif %}", None),
        ("{{ messages[0].content.swapcase() }}", "chat template parsing error: .*swapcase"),
        ("{{ tools is defined }}", "renders the chat template differently: '.*', not '.*'"),
    ],
)
def test_compares_what_both_make_of_the_template(
    tmp_path: Path, converter: Path, start: str, problem: str | None
) -> None:
    tokenizer = byte_level()
    tokenizer.chat_template = start + str(tokenizer.chat_template)
    model = write_model(tmp_path / "model", tokenizer)
    file = export(model, tmp_path, "f16", converter, log=print)
    if problem is None:
        assert verify(file, model)["texts_differing"] == 0
    else:
        with pytest.raises(StepError, match=problem):
            verify(file, model)


@pytest.mark.parametrize(
    ("thinks", "options"),
    [
        ("enable_thinking is defined and enable_thinking", {"enable_thinking": "false"}),
        ("enable_thinking is not defined or enable_thinking", {"enable_thinking": "true"}),
    ],
)
def test_the_prompt_is_the_one_without_what_servers_pass(
    tmp_path: Path, converter: Path, thinks: str, options: dict[str, str]
) -> None:
    """llama.cpp passes `enable_thinking: true` to a template by which a model can think; nobody did in the training."""
    tokenizer = byte_level()
    tokenizer.chat_template = f"""{{%- for message in messages -%}}
{{%- if message.role == 'assistant' and '</think>' in message.content -%}}
{{{{ '<|im_start|>assistant\n' + message.content.split('</think>')[-1] + '<|im_end|>\n' }}}}
{{%- else -%}}{{{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}}}{{%- endif -%}}
{{%- endfor -%}}{{%- if add_generation_prompt -%}}{{{{ '<|im_start|>assistant\n' }}}}
{{%- if {thinks} -%}}{{{{ '<think>\n' }}}}{{%- else -%}}{{{{ '<think>\n\n</think>\n\n' }}}}{{%- endif -%}}
{{%- endif -%}}"""
    model = write_model(tmp_path / "model", tokenizer)
    file = export(model, tmp_path, "f16", converter, log=print)
    assert template_options(template_of(file)) == options
    said: list[str] = []
    verify(file, model, log=said.append)
    question = [{"role": "user", "content": "Why?"}]
    with loaded(file, threads=1, context=256) as llama:
        want = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
        assert llama.render(question) == want
    assert not [text for text in said if "enable_thinking" in text]


def test_asks_for_an_eos_token(tmp_path: Path, llama: Path, exported: Path) -> None:
    model = shutil.copytree(llama, tmp_path / "model")
    rewrite(model / "tokenizer_config.json", eos_token=None)
    with pytest.raises(StepError, match="has no eos token"):
        verify(Path(shutil.copy(exported, tmp_path / "model-f16.gguf")), model)


def test_llama_cpp_ends_with_the_one_who_asked(exported: Path) -> None:
    with pytest.raises(ZeroDivisionError), loaded(exported, threads=1, context=256) as llama:
        assert llama.tokenize("a")
        raise ZeroDivisionError
    with pytest.raises(StepError, match="crashes on the GGUF file"):
        llama.tokenize("a")
