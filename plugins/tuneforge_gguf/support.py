"""What llama.cpp can express, told from JSON and source text alone: light enough for a plan."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def tokenizer_support(tokenizer: Mapping[str, Any], *, sentencepiece: bool = False) -> str | None:
    """Why a tokenizer.json surely has no place in a GGUF file; None when it has one or only the converter can tell.

    `sentencepiece`: the model's folder also holds tokenizer.model, which llama.cpp's converter then reads instead.
    """
    kind = tokenizer["model"].get("type")
    if sentencepiece or (kind == "BPE" and (tokenizer["model"].get("byte_fallback") or _byte_level(tokenizer))):
        return None
    if kind == "BPE":
        return "its BPE tokenizer is not byte-level, so llama.cpp cannot split text the way it does"
    return f"llama.cpp cannot read a {kind} tokenizer from tokenizer.json"


def pre_tokenizer(tokenizer: Mapping[str, Any]) -> str | None:
    """llama.cpp's name for the way a byte-level BPE tokenizer.json splits text, where that can be told from its parts.

    Converters know tokenizers by a hash of what they answer, so one that was trained anew is unknown to them. Here a
    name is given only if every part is exactly what llama.cpp does under that name. None leaves it to the converter.
    """
    model, normalizer = tokenizer["model"], tokenizer.get("normalizer")
    if (
        model.get("type") != "BPE"
        or any(model.get(part) for part in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"))
        or normalizer not in (None, {"type": "NFC"})
        or (tokenizer.get("decoder") or {}).get("type") != "ByteLevel"
        # A byte without a token of its own is dropped before merging in one library and after it in the other.
        or not _alphabet() <= model["vocab"].keys()
        or any(token[flag] for token in tokenizer["added_tokens"] for flag in ("lstrip", "rstrip", "single_word"))
    ):
        return None
    match list(_splits(tokenizer.get("pre_tokenizer"))), bool(model.get("ignore_merges")):
        case [pattern, "bytes"], False if pattern == _QWEN2:
            # llama.cpp does not compose characters (NFC) for any model; the published Qwen2 models live with it too.
            return "qwen2"
        case _ if normalizer:
            return None
        case ["gpt-2"], False:
            return "gpt-2"
        case ["digits", "gpt-2"], False:
            return "smollm"
        case [pattern, "bytes"], False if pattern == _LLAMA3:
            return "smaug-bpe"
        # Under this name llama.cpp looks whole words up, and adds a BOS token unless the file tells otherwise.
        case [pattern, "bytes"], True if pattern == _LLAMA3 and _tells_bos(tokenizer.get("post_processor")):
            return "llama-bpe"
    return None


def architecture_supported(architecture: str, converter: Path | None) -> bool | None:
    """Whether the converter in that folder knows an architecture, such as `LlamaForCausalLM`; None without a folder."""
    if converter is None:
        return None
    tree = ast.parse((converter / "conversion" / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "TEXT_MODEL_MAP" and node.value:
            return architecture in ast.literal_eval(node.value)
    raise ValueError(f"{converter}: this version of the converter lists its architectures elsewhere")


def _splits(part: Mapping[str, Any] | None) -> Iterator[str]:
    """The steps of a pre-tokenizer: `gpt-2`, `bytes`, `digits`, the pattern of a split, or `?` for anything else."""
    match part:
        case {"type": "Sequence", "pretokenizers": parts}:
            for each in parts:
                yield from _splits(each)
        case {"type": "ByteLevel", "add_prefix_space": False, **rest}:
            yield "gpt-2" if rest.get("use_regex", True) else "bytes"
        case {"type": "Digits", "individual_digits": True}:
            yield "digits"
        case {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}:
            yield pattern
        case _:
            yield "?"


def _byte_level(tokenizer: Mapping[str, Any]) -> bool:
    part = tokenizer.get("pre_tokenizer") or {}
    return any(each.get("type") == "ByteLevel" for each in part.get("pretokenizers", [part]))


def _tells_bos(part: Mapping[str, Any] | None) -> bool:
    """Whether the converter finds in the post-processor if a BOS token is added, and writes it down."""
    match part:
        case {"type": "Sequence", "processors": parts}:
            return any(map(_tells_bos, parts))
        case {"type": "ByteLevel"} | {"type": "TemplateProcessing", "single": [{"SpecialToken": _}, _, *_]}:
            return True
    return False


def _alphabet() -> set[str]:
    """The 256 characters that stand for bytes in a byte-level vocabulary (Radford et al. 2019)."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    return {chr(byte) for byte in printable} | {chr(256 + index) for index in range(256 - len(printable))}
