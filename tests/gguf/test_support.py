from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.gguf.small_models import byte_level, write_model
from tuneforge.kit.llamacpp import LlamaCpp, loaded
from tuneforge_gguf.export import export
from tuneforge_gguf.support import architecture_supported, pre_tokenizer, tokenizer_support

SPLITTINGS = ("gpt-2", "smollm", "qwen2", "smaug-bpe", "llama-bpe")
GPT2: dict[str, Any] = json.loads(byte_level().backend_tokenizer.to_str())


@pytest.fixture(scope="module", params=SPLITTINGS)
def splitter(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, converter: Path
) -> Iterator[tuple[PreTrainedTokenizerFast, LlamaCpp]]:
    tokenizer = byte_level(request.param)
    assert pre_tokenizer(json.loads(tokenizer.backend_tokenizer.to_str())) == request.param
    model = write_model(tmp_path_factory.mktemp("model"), tokenizer)
    file = export(model, tmp_path_factory.mktemp("out"), "f16", converter, log=print)
    with loaded(file, threads=1, context=256) as llama:
        yield tokenizer, llama


PIECES = ["'s", "'LL", " ", "  ", "\n", "\r\n", "\t", "a", "Z", "é", "7", "2024", "½", "…", "<|im_end|>", "\u00a0"]
TEXTS = st.lists(
    st.sampled_from(PIECES) | st.characters(exclude_categories=("Cs", "Cn", "Co"), exclude_characters="\0"), max_size=12
).map("".join)


@pytest.mark.slow
@settings(max_examples=200, derandomize=True, deadline=None)
@given(text=TEXTS, special=st.booleans())
def test_llama_cpp_splits_any_text_as_the_tokenizer_does(
    splitter: tuple[PreTrainedTokenizerFast, LlamaCpp], text: str, special: bool
) -> None:
    tokenizer, llama = splitter
    assert llama.tokenize(text, special=special) == tokenizer(text, add_special_tokens=special)["input_ids"]


def _with(**parts: Any) -> dict[str, Any]:
    changed: dict[str, Any] = json.loads(json.dumps(GPT2))
    return changed | parts


def test_takes_qwen2s_own_composing_of_characters_for_what_llama_cpp_calls_qwen2() -> None:
    tokenizer = json.loads(byte_level("qwen2").backend_tokenizer.to_str()) | {"normalizer": {"type": "NFC"}}
    assert pre_tokenizer(tokenizer) == "qwen2"
    assert pre_tokenizer(tokenizer | {"normalizer": {"type": "NFKC"}}) is None


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
TOKEN = {"id": 400, "content": "<x>", "single_word": False, "rstrip": False, "normalized": False, "special": True}


@pytest.mark.parametrize(
    "tokenizer",
    [
        _with(normalizer={"type": "NFC"}),
        _with(decoder=None),
        _with(pre_tokenizer=None),
        _with(pre_tokenizer=BYTES),
        _with(pre_tokenizer=GPT2["pre_tokenizer"] | {"add_prefix_space": True}),
        _with(pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, BYTES]}),
        _with(pre_tokenizer={"type": "Sequence", "pretokenizers": [GPT2["pre_tokenizer"], GPT2["pre_tokenizer"]]}),
        _with(model=GPT2["model"] | {"ignore_merges": True}),
        _with(model=GPT2["model"] | {"end_of_word_suffix": "</w>"}),
        _with(model=GPT2["model"] | {"vocab": {"a": 0}}),
        _with(added_tokens=[*GPT2["added_tokens"], TOKEN | {"lstrip": True}]),
    ],
)
def test_names_no_splitting_that_is_not_exactly_the_known_one(tokenizer: dict[str, Any]) -> None:
    assert pre_tokenizer(tokenizer) is None
    assert tokenizer_support(tokenizer) is None or tokenizer["pre_tokenizer"] is None


def test_leaves_the_whole_word_form_of_llama3_alone_where_the_file_would_not_tell_of_bos() -> None:
    tokenizer = json.loads(byte_level("llama-bpe").backend_tokenizer.to_str())
    assert pre_tokenizer(tokenizer | {"post_processor": None}) is None


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (lambda: models.Unigram([("a", -1.0)]), "cannot read a Unigram tokenizer"),
        (lambda: models.WordLevel({"a": 0}, unk_token="a"), "cannot read a WordLevel tokenizer"),
        (lambda: models.BPE({"a": 0}, []), "not byte-level"),
    ],
)
def test_refuses_tokenizers_that_have_no_place_in_gguf(model: Callable[[], models.Model], problem: str) -> None:
    tokenizer = Tokenizer(model())
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    described = json.loads(tokenizer.to_str())
    assert problem in (tokenizer_support(described) or "")
    assert tokenizer_support(described, sentencepiece=True) is None


@pytest.mark.slow
def test_knows_the_converters_architectures(converter: Path) -> None:
    assert architecture_supported("MistralForCausalLM", converter) is True
    assert architecture_supported("NoSuchForCausalLM", converter) is False
    assert architecture_supported("MistralForCausalLM", None) is None
