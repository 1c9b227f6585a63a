"""The loss of tokens, computed on those under loss alone.

TRL 1.16 computes more: the entropy and the best guess at every token, whether under loss or not, from logits that are
made in pieces and made again for the gradient. That holds little memory, and on a CPU takes up to four times as long.
"""

from __future__ import annotations

import inspect
from typing import Any, Literal

import torch
from torch.nn.functional import cross_entropy
from trl.trainer.utils import add_fused_lm_head

from tuneforge.kit.chats import IGNORED

from ..rows.tokens import lengths
from .acceleration import is_flash

_LOGITS = 1 << 30
"""Bytes of float32 logits that a micro batch may have; the gradient and the softmax take as much again."""


class TokenLoss:
    """An SFTTrainer's part: the negative log-likelihood of the tokens under loss, summed and divided by their number.

    Rows are padded on the right and the model is causal, so that no token attends to padding even without a mask, and
    attention has its quickest form. With flash attention rows are not padded but put one after the other.
    """

    def __init__(
        self, *args: Any, cross_entropy: Literal["auto", "plain", "chunked"] = "auto", **settings: Any
    ) -> None:
        super().__init__(*args, **settings)
        trainer: Any = self
        model = trainer.model
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        # Its virtual tokens come before the others, and it neither knows which logits to keep nor reads positions.
        prompts = bool(getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False))
        can_keep = "logits_to_keep" in inspect.signature(base.forward).parameters
        if cross_entropy == "auto":
            tokens = max(lengths(trainer.train_dataset, "input_ids")) * trainer.args.per_device_train_batch_size
            cross_entropy = "chunked" if tokens * base.config.get_text_config().vocab_size * 4 > _LOGITS else "plain"
        self._masked = prompts
        self._chunked = cross_entropy == "chunked" or prompts or not can_keep
        if self._chunked and not trainer.aux_loss_enabled:
            add_fused_lm_head(base, outputs=("log_probs",))
        if is_flash(base) and not prompts:
            trainer.data_collator.padding_free = trainer.padding_free = True

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        trainer: Any = self
        if trainer.aux_loss_enabled or return_outputs:  # the balance of experts is in TRL's loss alone
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[misc]
        given: dict[str, Any] = dict(inputs) | {"use_cache": False}
        labels: torch.Tensor = given["labels"]
        if not self._masked:
            given.pop("attention_mask", None)
        if self._chunked:
            found = model(**given, fused_lm_head=True)
            total, under_loss = -found.log_probs.sum(), found.label_mask
        else:
            del given["labels"]
            # The logits at a token are of the one after it.
            kept = torch.nn.functional.pad(labels[:, 1:] != IGNORED, (0, 1))
            logits = model(**given, logits_to_keep=kept).logits
            under_loss = kept[:, :-1]
            total = cross_entropy(logits.float(), labels[:, 1:][under_loss], reduction="sum")
        if num_items_in_batch is None:
            return total / under_loss.sum().clamp(min=1)
        if trainer.args.average_tokens_across_devices:
            # The number is of all processes' tokens, and the gradients of processes are averaged.
            total = total * trainer.accelerator.num_processes
        return total / num_items_in_batch
