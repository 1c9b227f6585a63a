"""Whether a merged model is sound: it loads, nothing in it is infinite, and its tokenizer fits it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from tuneforge import StepError

_TEXT = "What is the capital of France? Paris."
_SHOWN = 3


def verify(folder: Path, giver: Path) -> dict[str, Any]:
    """Figures of a sound model: its parameters, the largest weight and logit. Raises StepError for one that is not.

    `giver` is the model whose tokenizer it has. Tokens that have no embedding there, such as one for images in a model
    of texts, need none here; how many they are is among the figures (`tokens_without_embedding`).

    The model is loaded as it is stored, so that no more memory is needed than for its weights.
    """
    largest = _weights(folder)
    disable_progress_bar()
    loading: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", output_loading_info=True)
    model, told = loading
    model.eval()
    wrong = {what: sorted(told[what]) for what in ("missing_keys", "unexpected_keys", "mismatched_keys") if told[what]}
    if wrong:
        what, names = next(iter(wrong.items()))
        raise StepError(
            f"the merged model does not fit its own configuration: {what.replace('_', ' ')} "
            f"{', '.join(map(str, names[:_SHOWN]))}{f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''}",
            "Merge models of one architecture that transformers knows.",
        )
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    rows = model.get_input_embeddings().weight.shape[0]
    beyond = _beyond(tokenizer, rows)
    new = sorted(beyond - _beyond_of(giver)) if beyond else []
    if new:
        raise StepError(
            f"the merged model has {rows} embeddings, too few for {len(new)} tokens of its tokenizer, such as {new[0]}",
            "Choose by tokenizer: whose the result has.",
        )
    probe = tokenizer(_TEXT, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        logit = float(model(probe).logits.abs().max())
    if not logit < float("inf"):
        raise StepError(
            "the merged model's logits are not finite, though its weights are",
            "Merge in a type of more range: write dtype: float32 or bfloat16.",
        )
    return {
        "parameters": model.num_parameters(),
        "largest_weight": largest,
        "largest_logit": logit,
        "tokens": len(tokenizer),
        **({"tokens_without_embedding": len(beyond)} if beyond else {}),
    }


def _beyond(tokenizer: PreTrainedTokenizerBase, rows: int) -> set[str]:
    """The tokens that have no row in an embedding of so many."""
    return {token for token, number in tokenizer.get_vocab().items() if number >= rows}


def _beyond_of(folder: Path) -> set[str]:
    rows: int = AutoConfig.from_pretrained(folder).get_text_config().vocab_size
    return _beyond(AutoTokenizer.from_pretrained(folder), rows)


def _weights(folder: Path) -> float:
    """The largest absolute weight. Raises StepError where weights are infinite or no numbers, with their names."""
    largest, wrong = 0.0, []
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no dictionary
                tensor = tensors.get_tensor(name)
                if tensor.is_floating_point() and tensor.numel():
                    ends = [float(end) for end in torch.aminmax(tensor)]
                    if not all(abs(end) < float("inf") for end in ends):
                        wrong.append(name)
                    largest = max(largest, *map(abs, ends))
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise StepError(
            f"{len(wrong)} merged tensors hold infinite values or no numbers: {', '.join(wrong[:_SHOWN])}{more}",
            "Use smaller weights, or a type of more range: dtype: float32 or bfloat16.",
        )
    return largest
