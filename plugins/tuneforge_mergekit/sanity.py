"""Whether a merged model is sound: it loads, nothing in it is infinite, and its tokenizer fits it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from tuneforge import StepError
from tuneforge.kit.chats import tokenize_chat

_QUESTION, _ANSWER = "What is the capital of France?", "Paris."
_SHOWN = 3


def verify(folder: Path) -> dict[str, Any]:
    """Figures of a sound model: its parameters, the largest weight and logit. Raises StepError for one that is not.

    The model is loaded as it is stored, so that no more memory is needed than for its weights.
    """
    largest = _weights(folder)
    disable_progress_bar()
    loaded, told = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", output_loading_info=True)
    model: Any = loaded.eval()
    wrong = {what: sorted(told[what]) for what in ("missing_keys", "unexpected_keys", "mismatched_keys") if told[what]}
    if wrong:
        what, names = next(iter(wrong.items()))
        raise StepError(
            f"the merged model does not fit its own configuration: {what.replace('_', ' ')} "
            f"{', '.join(map(str, names[:_SHOWN]))}{f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''}",
            "Merge models of one architecture that transformers knows.",
        )
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    ids, rows = tokenizer.get_vocab(), model.get_input_embeddings().weight.shape[0]
    beyond = [token for token, number in ids.items() if number >= rows]
    if beyond:
        raise StepError(
            f"the merged model has {rows} embeddings, too few for {len(beyond)} tokens of its tokenizer, such as "
            f"{beyond[0]}",
            "Choose by tokenizer: whose the result has.",
        )
    chat = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}]
    templated = tokenizer.chat_template is not None
    probe = tokenize_chat(tokenizer, chat).ids if templated else tokenizer(f"{_QUESTION} {_ANSWER}")["input_ids"]
    with torch.inference_mode():
        logit = float(model(torch.tensor([probe])).logits.abs().max())
    if not logit < float("inf"):
        raise StepError(
            "the merged model's logits are not finite, though its weights are",
            "Merge in a type of more range: write dtype: float32 or bfloat16.",
        )
    return {"parameters": model.num_parameters(), "largest_weight": largest, "largest_logit": logit, "tokens": len(ids)}


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
