"""Reward models: loading them, and scoring conversations with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from tuneforge import Model, RewardAdapter, RewardModel, StepError

from .chats import Messages, Tools, chat_ids, terminator
from .generation import by_length
from .models import device, full_model, load_tokenizer


def new_reward_model(
    model: Model, *, dtype: torch.dtype, seed: int, on: torch.device | None = None, quantization: Any = None
) -> PreTrainedModel:
    """A causal language model with a score head in place of its output head, drawn from `seed` alone.

    It is on the device of `device()`, or on the given one, and in training mode. `quantization` is how transformers is
    to round the model's weights while it loads them; the score head stays as it is.
    """
    rounded = {} if quantization is None else {"quantization_config": quantization, "device_map": {"": on or device()}}
    loaded = _with_head(model.path, score_padding(load_tokenizer(model)), dtype, seed, **rounded)
    return (loaded if rounded else loaded.to(on or device())).train()  # type: ignore[no-any-return]


def load_reward_model(
    artifact: RewardModel | RewardAdapter, *, dtype: torch.dtype, on: torch.device | None = None
) -> PreTrainedModel | PeftModel:
    """A reward model for inference, on the device of `device()` or on the given one; an adapter comes on its base."""
    model: Any = _with_head(full_model(artifact).path, score_padding(load_tokenizer(artifact)), dtype, seed=0)
    if isinstance(artifact, RewardAdapter):
        model = PeftModel.from_pretrained(model, artifact.path)
    loaded: PreTrainedModel | PeftModel = model.to(on or device()).eval()
    return loaded


@torch.inference_mode()
def score(model: PreTrainedModel | PeftModel, conversations: Sequence[Sequence[int]]) -> list[float]:
    """The scores of conversations given as token ids (see `chats.chat_ids`), all in memory at once.

    A score is read at the last token that does not pad; it has no unit, only its differences mean something.
    """
    rows = [torch.tensor(ids) for ids in conversations]
    ids = pad_sequence(rows, batch_first=True, padding_value=_padding_of(model))
    mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    logits = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits
    found: list[float] = logits.squeeze(-1).float().tolist()
    return found


def judge(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[tuple[Messages, Tools]],
    batch_size: int,
) -> list[float]:
    """The scores of conversations as messages, each with its tools, by a reward model and its own tokenizer.

    Each is rendered by the template as a whole, as in the training of the reward model: its score is read where that
    learnt to give it.
    """
    rows = [chat_ids(tokenizer, messages, tools) for messages, tools in conversations]
    found: dict[int, float] = {}
    for batch in by_length([len(ids) for ids in rows], batch_size):
        found.update(zip(batch, score(model, [rows[index] for index in batch]), strict=True))
    return [found[index] for index in range(len(rows))]


def score_padding(tokenizer: PreTrainedTokenizerBase) -> int:
    """A token to pad by that no conversation ends with.

    A score is read at the last token that is not the padding token: where that is the token which ends a turn, as with
    many models that name none, it would be read one token too early.
    """
    ends = {tokenizer.eos_token_id, terminator(tokenizer)}
    others = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id, *tokenizer.added_tokens_decoder)
    found = next((token for token in others if token is not None and token not in ends), None)
    if found is None:
        raise StepError(
            "the tokenizer has no token to pad conversations by, besides the one that ends them",
            "Name another one as pad_token in the model's tokenizer_config.json.",
        )
    return int(found)


def _padding_of(model: Any) -> int:
    return int(model.config.get_text_config().pad_token_id)


def _with_head(folder: Path, padding: int, dtype: torch.dtype, seed: int, **rounded: Any) -> Any:
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # that the output head is not used and the score head is new need not be told
    logging.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model: Any = AutoModelForSequenceClassification.from_pretrained(
                folder, num_labels=1, dtype=dtype, **rounded
            )
    finally:
        logging.set_verbosity(level)
    model.config.get_text_config().pad_token_id = padding
    return model
