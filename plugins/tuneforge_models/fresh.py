"""Models from nothing: a byte-level BPE tokenizer trained on given texts, and random weights of an architecture."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = Path(__file__).with_name("chatml.jinja")


def make_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE trained on `texts`, with ChatML turns: `<|im_end|>` ends a turn, `<|endoftext|>` pads, no BOS.

    Text is split as GPT-2 splits it, and nothing is normalized: llama.cpp's `gpt-2` pre-tokenizer gives the same ids.
    The merges, though, never join a space to what follows it. GPT-2's do, so that a word after a space and the same
    word after a quotation mark are strangers to each other, and a small model that should copy `Kim` from a sentence
    into `{"name":"Kim"}` has to learn the pair for every word. Here the ids are the same, for a longer text.

    `vocab_size` counts the 256 bytes and the three special tokens; fewer are made when the texts are too few.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.decoder = decoders.ByteLevel()
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    spaces_apart = pre_tokenizers.Split(Regex(" +"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([spaces_apart, gpt2])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.pre_tokenizer = gpt2
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE.read_text(encoding="utf-8"),
        clean_up_tokenization_spaces=False,
    )


def make_model(
    architecture: Literal["llama", "qwen2", "mistral"],
    tokenizer: PreTrainedTokenizerFast,
    *,
    hidden_size: int,
    intermediate_size: int,
    layers: int,
    heads: int,
    kv_heads: int,
    context: int,
    tied: bool,
    dtype: torch.dtype,
    seed: int,
) -> PreTrainedModel:
    """Random weights for `architecture`, drawn from `seed` alone, with an embedding row for each of the tokens."""
    config = AutoConfig.for_model(
        architecture,
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=context,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    if architecture == "mistral":
        config.sliding_window = None  # its default is narrower than the contexts asked for here may be
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    return model


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes weights (safetensors), configuration, tokenizer and chat template; the bytes follow from the two alone."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for name in ("config.json", "generation_config.json"):
        path = folder / name
        settings = json.loads(path.read_text(encoding="utf-8"))
        # Which transformers wrote a model is no property of the model, and would change its digest with every update.
        settings.pop("transformers_version", None)
        path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
