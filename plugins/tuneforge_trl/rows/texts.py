"""Texts without a chat template, as tokens."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from tuneforge import StepError
from tuneforge.kit.chats import Tokens, after_prompt

_ENDS = ("<|endoftext|>", "<|end_of_text|>", "<\uff5cend▁of▁sentence\uff5c>", "<eos>", "</s>")
"""What models call the token that ends a text."""


def end_of_text(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends a text: not always the tokenizer's EOS token, with which many chat models end a turn."""
    special = {token.content: place for place, token in tokenizer.added_tokens_decoder.items()}
    end = next((special[name] for name in _ENDS if name in special), tokenizer.eos_token_id)
    if end is None:
        raise StepError(
            "the tokenizer has no end-of-text token, so the model could not learn where a text ends",
            "Name one as eos_token in the model's tokenizer_config.json.",
        )
    return int(end)


def tokenize_text(tokenizer: PreTrainedTokenizerBase, prompt: str | None, completion: str) -> Tokens:
    """A text and the token that ends it, begun as the tokenizer begins texts, with loss on what follows the prompt.

    A document has no prompt, and is under loss as a whole.
    """
    end = end_of_text(tokenizer)
    text = prompt or ""
    whole, before = _ids(tokenizer, text + completion, end), _ids(tokenizer, text, end) if text else []
    if whole[: len(before)] != before:
        # A token across the border is one that no prompt will end with when the model is used. Not every tokenizer can
        # begin in the middle of a text, though.
        apart = before + tokenizer(completion, add_special_tokens=False, verbose=False)["input_ids"]
        if tokenizer.decode(apart) == tokenizer.decode(whole):
            whole = apart
    whole.append(end)
    return after_prompt(Tokens(whole, whole), before)


def begun(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The token ids from which the model goes on with a text."""
    return _ids(tokenizer, text, end_of_text(tokenizer))


def _ids(tokenizer: PreTrainedTokenizerBase, text: str, end: int) -> list[int]:
    ids: list[int] = tokenizer(text, verbose=False)["input_ids"]
    # Some tokenizers end texts by themselves.
    while ids and ids[-1] in (end, tokenizer.eos_token_id):
        ids = ids[:-1]
    return ids
