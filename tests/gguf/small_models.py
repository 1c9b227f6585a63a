"""Tiny models with random weights and tokenizers trained on a few lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from string import ascii_letters

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LINES = (
    "The quick brown fox jumps over the lazy dog, and it's what they're after.",
    "Order 4711: three boxes of apples, 12.50 each, for Mrs Jansen in Utrecht; 37.50 in all.",
    "def area(radius):\n    return 3.14159 * radius ** 2  # of a circle\n",
    "Съешь ещё этих мягких французских булок. 東京都に住んでいます。 Où est l'été?",
)
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
CONFIGS: dict[str, Callable[..., PreTrainedConfig]] = {
    "llama": LlamaConfig,
    "qwen2": Qwen2Config,
    "mistral": MistralConfig,
    "gemma2": partial(Gemma2Config, head_dim=16, query_pre_attn_scalar=16),
}


def _pre_tokenizer(splitting: str) -> pre_tokenizers.PreTokenizer:
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if splitting == "gpt-2":
        return whole
    if splitting == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), whole])
    split = pre_tokenizers.Split(Regex(QWEN2 if splitting == "qwen2" else LLAMA3), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def byte_level(splitting: str = "gpt-2") -> PreTrainedTokenizerFast:
    """A byte-level BPE that splits text as llama.cpp does under the given name."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=splitting == "llama-bpe"))
    tokenizer.pre_tokenizer = _pre_tokenizer(splitting)
    tokenizer.decoder = decoders.ByteLevel()
    if splitting == "llama-bpe":
        tokenizer.post_processor = processors.TemplateProcessing(single="<|bos|> $A", special_tokens=[("<|bos|>", 0)])
    tokenizer.train_from_iterator(
        LINES,
        trainers.BpeTrainer(
            vocab_size=400,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=["<|bos|>", "<|im_start|>", "<|im_end|>", "<|pad|>"],
            show_progress=False,
        ),
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|bos|>", eos_token="<|im_end|>", pad_token="<|pad|>"
    )
    wrapped.chat_template = CHATML
    return wrapped


def write_model(
    folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    family: str = "llama",
    *,
    tied: bool = False,
    dtype: torch.dtype = torch.float32,
    hidden: int = 64,
    intermediate: int = 96,
    unused: int = 5,
) -> Path:
    """A model with random weights, large enough ones that a wrong rotary base shows."""
    config = CONFIGS[family](
        vocab_size=len(tokenizer) + unused,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.5)
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def rewrite(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def sentencepiece_like() -> PreTrainedTokenizerFast:
    """A BPE as transformers writes those of SentencePiece, with bytes for what has no token; no tokenizer.model.

    Its merges make `t he` of "the": merged from the left, as if all were equal, it would be `th e`.
    """
    merges = [("h", "e"), ("t", "h"), ("\u2581", "a")]
    special = ["<unk>", "<s>", "</s>"]
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *ascii_letters, *map("".join, merges)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.add_special_tokens(special)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>"
    )
    wrapped.chat_template = CHATML
    return wrapped
