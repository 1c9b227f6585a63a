"""Texts without a template: where they end, and what of them is learnt."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tuneforge import Model, StepError
from tuneforge.kit.chats import IGNORED, Tokens
from tuneforge.kit.models import load_tokenizer
from tuneforge_trl.rows.texts import end_of_text, tokenize_text


@pytest.fixture(scope="session")
def plain(base: Model) -> PreTrainedTokenizerBase:
    return load_tokenizer(base)


def learnt(tokenizer: PreTrainedTokenizerBase, tokens: Tokens) -> str:
    return tokenizer.decode([label for label in tokens.labels if label != IGNORED])


def test_a_document_is_learnt_with_its_end(plain: PreTrainedTokenizerBase) -> None:
    tokens = tokenize_text(plain, None, "the sky is blue")
    assert plain.decode(tokens.ids) == "the sky is blue<|endoftext|>"
    assert tokens.labels == tokens.ids


def test_of_a_prompt_only_what_follows_is_learnt(plain: PreTrainedTokenizerBase) -> None:
    tokens = tokenize_text(plain, "the sky is", " blue")
    assert plain.decode(tokens.ids) == "the sky is blue<|endoftext|>"
    assert learnt(plain, tokens) == " blue<|endoftext|>"


WORDS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="<|"), min_size=1, max_size=20)


@settings(max_examples=200, deadline=None)
@given(WORDS, WORDS)
def test_the_prompt_is_what_it_is_when_the_model_is_used(
    plain: PreTrainedTokenizerBase, prompt: str, completion: str
) -> None:
    tokens = tokenize_text(plain, prompt, completion)
    before = plain(prompt)["input_ids"]
    assert tokens.ids[: len(before)] == before
    assert tokens.labels[: len(before)] == [IGNORED] * len(before)
    assert IGNORED not in tokens.labels[len(before) :]
    assert plain.decode(tokens.ids) == f"{prompt}{completion}<|endoftext|>"


@pytest.mark.parametrize(
    ("special", "eos", "wanted"),
    [
        (["<|im_end|>", "<|endoftext|>"], "<|im_end|>", "<|endoftext|>"),
        (["<|end_of_text|>", "<|eot_id|>"], "<|eot_id|>", "<|end_of_text|>"),
        (["<eos>", "<end_of_turn>"], "<eos>", "<eos>"),
        (["<s>", "</s>"], "</s>", "</s>"),
        (["[END]"], "[END]", "[END]"),
    ],
    ids=["qwen", "llama-3", "gemma", "mistral", "own"],
)
def test_which_token_ends_a_text(base: Model, special: list[str], eos: str, wanted: str) -> None:
    tokenizer = bare(special)
    tokenizer.eos_token = eos
    assert tokenizer.decode([end_of_text(tokenizer)]) == wanted


def test_a_tokenizer_without_any(base: Model) -> None:
    with pytest.raises(StepError, match="no end-of-text token"):
        end_of_text(bare([]))


def bare(special: list[str]) -> Any:
    """A tokenizer of letters, as SentencePiece writes them: each text begins with a space that is not there."""
    vocabulary = {letter: place for place, letter in enumerate("\u2581abcdefg")}
    tokenizer = Tokenizer(models.BPE(vocabulary | {"bc": len(vocabulary)}, [("b", "c")]))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens([AddedToken(token) for token in special])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def test_a_tokenizer_that_begins_and_ends_texts_by_itself() -> None:
    tokenizer = bare(["<s>", "</s>"])
    tokenizer.eos_token, tokenizer.bos_token = "</s>", "<s>"
    start, end = (tokenizer.convert_tokens_to_ids(token) for token in ("<s>", "</s>"))
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", start), ("</s>", end)]
    )
    tokens = tokenize_text(tokenizer, "abc", " de")
    assert tokenizer.convert_ids_to_tokens(tokens.ids) == ["<s>", "\u2581", "a", "bc", "\u2581", "d", "e", "</s>"]
    assert [label for label in tokens.labels if label != IGNORED] == tokens.ids[4:]


def test_a_token_across_the_border_where_the_completion_cannot_stand_alone() -> None:
    """ "b" and "c" are one token here, and "c" alone would get a space before it: the border token is learnt."""
    tokenizer = bare(["</s>"])
    tokenizer.eos_token = "</s>"
    tokens = tokenize_text(tokenizer, "ab", "cd")
    assert tokenizer.convert_ids_to_tokens(tokens.ids) == ["\u2581", "a", "bc", "d", "</s>"]
    assert [label for label in tokens.labels if label != IGNORED] == tokens.ids[2:]


def test_a_token_across_the_border_is_taken_apart_where_it_can_be(plain: PreTrainedTokenizerBase) -> None:
    tokenizer = deepcopy(plain)
    prompt, completion = "blu", "e"
    joined = tokenizer("blue")["input_ids"]
    before = tokenizer(prompt)["input_ids"]
    assert joined[: len(before)] != before, "the tokenizer has a token for blue"
    assert learnt(tokenizer, tokenize_text(tokenizer, prompt, completion)) == "e<|endoftext|>"
