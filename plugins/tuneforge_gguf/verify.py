"""A GGUF file against the model it was made from: weights, vocabulary, template, and what llama.cpp answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import torch
from jinja2 import TemplateError
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from tuneforge import StepError
from tuneforge.kit.llamacpp import LlamaCpp, loaded
from tuneforge.kit.texts import CONVERSATIONS, PLAIN, odd_texts

from .answers import CONTEXT, compare
from .metadata import field, file_type, read
from .storage import stored
from .weights import Rows, bound, error, shape_of

# Architectures whose tensors the converter takes one by one as they are, in the first ones but for rotary pairs. Of
# others, what is not alike is left to the comparison of logits.
_PAIRED = frozenset({"llama", "granite", "smollm3"})
_ONE_TO_ONE = _PAIRED | {"qwen2", "qwen3", "olmo2", "starcoder2"}

_HYPERPARAMETERS = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
}

# Of the odd texts: llama.cpp reads rare Unicode a little differently in some tokenizers that it has always known.
_ODD_SHARE = 0.02


def verify(file: Path, model: Path, *, threads: int = 1, log: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Compares a GGUF file with its transformers model; raises StepError and deletes the file where they disagree.

    Returns figures: those of `stored`, how many tensors were compared with the model's, the largest `weights_error` (a
    share of a block's largest weight, or of a row of them), `tokens` in the vocabulary, `texts` tokenized on both
    sides and how many `texts_differing`, `logits_error` (root mean square, as a share of the spread of the logits), and
    `greedy_agreement`, the share of positions where both choose the same next token.
    """
    try:
        reader = read(file)
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(model)
        _hyperparameters(reader, model, log)
        figures = stored(reader) | _weights(reader, model, log) | _vocabulary(reader, tokenizer)
        with loaded(file, threads=threads, context=2 * CONTEXT) as llama:
            figures |= _texts(llama, tokenizer, field(reader, "tokenizer.ggml.model") == "gpt2", log)
            return figures | _answers(llama, tokenizer, model, file_type(reader))
    except BaseException:
        file.unlink(missing_ok=True)
        raise


def _hyperparameters(reader: gguf.GGUFReader, model: Path, log: Callable[[str], None]) -> None:
    architecture = field(reader, "general.architecture")
    config = AutoConfig.from_pretrained(model).to_dict()
    config |= config.get("rope_parameters") or {}
    if architecture in _ONE_TO_ONE:
        for key, name in _HYPERPARAMETERS.items():
            got, want = field(reader, f"{architecture}.{key}"), config.get(name)
            if want is not None and (got is None or not math.isclose(got, want, rel_tol=1e-6)):
                raise StepError(f"{architecture}.{key} is {got} in the GGUF file, but {name} of config.json is {want}")
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    if window and field(reader, f"{architecture}.attention.sliding_window") is None:
        log(f"llama.cpp attends without this model's sliding window: beyond {window} tokens its answers differ")


def _weights(reader: gguf.GGUFReader, model: Path, log: Callable[[str], None]) -> dict[str, float]:
    architecture = field(reader, "general.architecture")
    # Experts are joined into one tensor.
    strict = architecture in _ONE_TO_ONE and field(reader, f"{architecture}.expert_count") is None
    shards = dict(_tensors(model))
    # The converter may know an architecture that the released gguf package does not: then no name is translated.
    kind = next((key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == architecture), None)
    names = gguf.get_tensor_name_map(kind, field(reader, f"{architecture}.block_count")) if kind is not None else None
    sources = {(names and names.get_name(name, (".weight", ".bias"))) or name: name for name in shards}
    missing = sources.keys() - {tensor.name for tensor in reader.tensors}
    if missing and strict:
        raise StepError(f"the GGUF file lacks {len(missing)} of the model's tensors, such as {sources[min(missing)]}")
    compared, worst = 0, 0.0
    for tensor in reader.tensors:
        want = None
        if tensor.name in sources:
            with safe_open(shards[sources[tensor.name]], "pt") as shard:
                want = shard.get_tensor(sources[tensor.name])
            if architecture in _PAIRED:
                want = _in_rotary_pairs(tensor.name, want, reader)
        off, most = error(tensor, _rows(want, tensor)), bound(tensor)
        if off <= most:
            compared, worst = compared + 1, max(worst, off)
        elif strict and want is not None:
            raise StepError(f"{tensor.name} of the GGUF file differs from the model's by {off:.2g}, not {most:.2g}")
    if compared < len(reader.tensors):
        log(f"{len(reader.tensors) - compared} of {len(reader.tensors)} tensors have no like in the model")
    return {"tensors_compared": compared, "weights_error": worst}


def _rows(weight: torch.Tensor | None, tensor: gguf.ReaderTensor) -> Rows | None:
    """The rows of a model's weight; None if it is not of the tensor's shape."""
    if weight is None or tuple(weight.shape) != shape_of(tensor):
        return None
    rows = weight.reshape(-1, weight.shape[-1])
    return lambda start, stop: rows[start:stop].float().numpy()


def _tensors(model: Path) -> Iterator[tuple[str, Path]]:
    """Every weight's name and the file it is in."""
    for path in sorted(model.glob("*.safetensors")):
        with safe_open(path, "pt") as shard:
            # Some old checkpoints hold the rotary frequencies, which follow from the configuration.
            yield from ((name, path) for name in shard.keys() if not name.endswith(".rotary_emb.inv_freq"))  # noqa: SIM118


def _in_rotary_pairs(name: str, weight: torch.Tensor, reader: gguf.GGUFReader) -> torch.Tensor:
    """A query or key projection with the two rows of a rotary pair beside each other, not half a head apart."""
    part = name.split(".")[-2]
    if part not in {"attn_q", "attn_k"}:
        return weight
    key = f"{field(reader, 'general.architecture')}.attention.head_count"
    heads = field(reader, f"{key}_kv" if part == "attn_k" else key)
    return weight.reshape(heads, 2, -1, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def _vocabulary(reader: gguf.GGUFReader, tokenizer: PreTrainedTokenizerBase) -> dict[str, float]:
    tokens, types = (field(reader, f"tokenizer.ggml.{part}") for part in ("tokens", "token_type"))
    own = {index: token for token, index in tokenizer.get_vocab().items()}
    for index, (token, kind) in enumerate(zip(tokens, types, strict=True)):
        want = own.get(index, f"[PAD{index}]")  # a model may have more rows than tokens
        if kind == gguf.TokenType.USER_DEFINED:  # such as Gemma's of spaces alone: the converter writes them plain
            want = want.replace("\u2581", " ")
        if token != want:
            raise StepError(f"token {index} is {token!r} in the GGUF file and {own.get(index)!r} in the tokenizer")
    if lost := own.keys() - range(len(tokens)):
        raise StepError(f"the GGUF file lacks {len(lost)} tokens of the tokenizer, such as {own[min(lost)]!r}")
    if tokenizer.eos_token_id is None:
        raise StepError("the tokenizer has no eos token, and llama.cpp takes one by chance then", "Give it one.")
    keys = gguf.Keys.Tokenizer
    for kind, key in (("bos", keys.BOS_ID), ("eos", keys.EOS_ID), ("pad", keys.PAD_ID)):
        want, got = getattr(tokenizer, f"{kind}_token_id"), field(reader, key)
        if want is not None and got != want:
            raise StepError(
                f"the {kind} token is {got} in the GGUF file and {want} in the tokenizer",
                f"Make {kind}_token of tokenizer_config.json and the tokenizer's post-processor agree.",
            )
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if field(reader, "tokenizer.chat_template") != template:
        raise StepError("the chat template of the GGUF file is not the tokenizer's")
    return {"tokens": len(tokens)}


def _texts(
    llama: LlamaCpp, tokenizer: PreTrainedTokenizerBase, byte_level: bool, log: Callable[[str], None]
) -> dict[str, float]:
    rendered = list(_rendered(tokenizer))
    # What llama.cpp's server passes to a template depends on whether it finds that the model can think.
    thinking = [text for given in (True, False) for _, text in _rendered(tokenizer, enable_thinking=given)]
    # It leaves a leading BOS to its tokenizer.
    bos = tokenizer.bos_token or ""
    for messages, text in rendered:
        served = bos + llama.render(messages).removeprefix(bos)
        if served not in {bos + each.removeprefix(bos) for each in (text, *thinking)}:
            raise StepError(
                f"llama.cpp renders the chat template differently: {served!r}, not {text!r}",
                "Make the template simpler: without what only Python has, and independent of what a server passes.",
            )
        if served != bos + text.removeprefix(bos):
            log("llama.cpp's server passes enable_thinking to this chat template, and gets another prompt than without")
    odd = [(text, False) for text in odd_texts()]
    plain = [(text, special) for text in PLAIN for special in (False, True)]
    marked = [(text, False) for _, text in rendered]
    different = []
    whole = [(each, llama.tokenize(each[0], special=each[1])) for each in (*plain, *marked)]
    for each, got in (*whole, *zip(odd, _tokenized(llama, tokenizer, [text for text, _ in odd]), strict=True)):
        want = _ids(tokenizer, each[0], special=each[1])
        if got != want:
            different.append(each)
            told = f"differently from the model's tokenizer, such as {each[0]!r}: {got[:16]}, not {want[:16]}"
            # Of SentencePiece tokenizers llama.cpp puts a space before text that follows a marker or starts with one.
            if each in plain or (byte_level and (each in marked or len(different) > _ODD_SHARE * len(odd))):
                raise StepError(f"llama.cpp tokenizes text {told}")
    if different:
        log(f"llama.cpp tokenizes {len(different)} texts {told}")
    return {"texts": len(plain) + len(marked) + len(odd), "texts_differing": len(different)}


def _tokenized(llama: LlamaCpp, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    # What comes between two texts must not be in any of them.
    used = {token for text in texts for token in _ids(tokenizer, text)}
    between = next((token for token in range(len(tokenizer)) if token not in used), None)
    if between is None:
        return [llama.tokenize(text) for text in texts]
    return llama.tokenize_all(texts, between)


def _rendered(tokenizer: PreTrainedTokenizerBase, **arguments: Any) -> Iterator[tuple[list[dict[str, str]], str]]:
    """Conversations with the prompt that transformers makes of them; not those that the template refuses."""
    for messages in CONVERSATIONS if tokenizer.chat_template else ():
        try:
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **arguments)
        except TemplateError:
            continue
        yield messages, str(text)


def _answers(llama: LlamaCpp, tokenizer: PreTrainedTokenizerBase, model: Path, type: str) -> dict[str, float]:
    """What llama.cpp takes for the next token at positions within several texts, against transformers' logits."""
    disable_progress_bar()
    network: PreTrainedModel = AutoModelForCausalLM.from_pretrained(model, dtype="auto")

    def rows(tokens: Sequence[int], ends: Sequence[int]) -> Iterator[npt.NDArray[np.float32]]:
        with torch.inference_mode():
            logits = network(torch.tensor([tokens])).logits[0].float()
        yield from (logits[end - 1].log_softmax(-1).numpy() for end in ends)

    (*_, answer) = _ids(tokenizer, "a")
    texts = [_ids(tokenizer, text) for text in (*PLAIN[:3], *(text for _, text in _rendered(tokenizer)))]
    return compare(
        llama,
        texts,
        rows,
        answer,
        type,
        "transformers'",
        "The converter or llama.cpp may not support this model's configuration (rotary scaling, windows, biases).",
    )


def _ids(tokenizer: PreTrainedTokenizerBase, text: str, *, special: bool = False) -> list[int]:
    return list(tokenizer(text, add_special_tokens=special)["input_ids"])
