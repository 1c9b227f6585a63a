"""Models with SentencePiece's own file beside them, trained here: its BPE is exported, its Unigram is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.gguf.small_models import CHATML, LINES, rewrite, write_model
from tuneforge import StepError
from tuneforge_gguf.export import export
from tuneforge_gguf.metadata import field, read
from tuneforge_gguf.verify import verify

pytestmark = pytest.mark.slow


def _trained(folder: Path, kind: str, **settings: Any) -> Path:
    """The tokenizer.model of a SentencePiece tokenizer that falls back to bytes."""
    folder.mkdir()
    (folder / "lines.txt").write_text("\n".join(line for text in LINES * 3 for line in text.splitlines()))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "lines.txt"),
        model_prefix=str(folder / "tokenizer"),
        model_type=kind,
        vocab_size=420,
        hard_vocab_limit=False,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
        **settings,
    )
    return folder / "tokenizer.model"


def _llama(file: Path) -> PreTrainedTokenizerFast:
    """What transformers makes of it for a Llama."""
    config = {"tokenizer_class": "LlamaTokenizer", "legacy": False, "bos_token": "<s>", "eos_token": "</s>"}
    (file.parent / "tokenizer_config.json").write_text(
        json.dumps(config | {"unk_token": "<unk>", "pad_token": "</s>", "add_bos_token": True})
    )
    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(file.parent)
    tokenizer.chat_template = CHATML
    return tokenizer


def _unigram(file: Path) -> PreTrainedTokenizerFast:
    """What SentencePiece itself does: the likeliest pieces, not those that merging leads to."""
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(file))
    scored = [(pieces.id_to_piece(index), pieces.get_score(index)) for index in range(len(pieces))]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    assert tokenizer.encode("The quick brown fox").ids == pieces.encode("The quick brown fox")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )


def test_exports_sentencepieces_bpe(tmp_path: Path, converter: Path) -> None:
    file = _trained(tmp_path / "trained", "bpe")
    model = write_model(tmp_path / "model", _llama(file), unused=0)
    shutil.copy(file, model)
    figures = verify(export(model, tmp_path, "f16", converter, log=lambda _: None), model)
    # Before a space at the beginning of a text, llama.cpp puts another.
    assert figures["texts"] > 3000 and figures["texts_differing"] < 0.1 * figures["texts"]


def test_exports_gemmas_tokens_of_spaces_alone(tmp_path: Path, converter: Path) -> None:
    spaces = ["\u2581" * count for count in range(2, 10)]
    ids = {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "pad_piece": "<pad>", "eos_piece": "<eos>"}
    file = _trained(
        tmp_path / "trained",
        "bpe",
        **ids,
        bos_piece="<bos>",
        user_defined_symbols=["<mask>", *spaces],
        add_dummy_prefix=False,
    )
    # As the Hub has it: transformers itself no longer writes them there.
    added = {
        str(index): {"content": token, "special": False, "normalized": False, "lstrip": False, "rstrip": False}
        for index, token in enumerate(spaces, 5)
    }
    config = {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True, "added_tokens_decoder": added}
    (file.parent / "tokenizer_config.json").write_text(json.dumps(config))
    model = write_model(tmp_path / "model", AutoTokenizer.from_pretrained(file.parent), "gemma2", tied=True, unused=0)
    shutil.copy(file, model)
    rewrite(model / "tokenizer_config.json", added_tokens_decoder=added)
    out = export(model, tmp_path, "f16", converter, log=lambda _: None)
    figures = verify(out, model)
    assert figures["texts"] > 3000 and figures["texts_differing"] < 0.001 * figures["texts"]
    tokens = field(read(out), "tokenizer.ggml.tokens")
    assert tokens[5:7] == ["  ", "   "]


def test_refuses_sentencepieces_unigram_which_llama_cpp_would_read_as_bpe(tmp_path: Path, converter: Path) -> None:
    file = _trained(tmp_path / "trained", "unigram")
    model = write_model(tmp_path / "model", _unigram(file), unused=0)
    with pytest.raises(StepError, match="cannot read a Unigram tokenizer"):
        export(model, tmp_path, "f16", converter, log=lambda _: None)
    shutil.copy(file, model)
    (tmp_path / "out").mkdir()
    with pytest.raises(StepError, match="tokenizes text differently"):
        verify(export(model, tmp_path / "out", "f16", converter, log=lambda _: None), model)
    assert not list((tmp_path / "out").iterdir())
