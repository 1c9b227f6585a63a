"""A trainer of the likelihood of answers: each row, or pair, has a loss of its own, however a batch is split.

TRL's DPOTrainer and KTOTrainer average over what is in memory at once, and KTOTrainer estimates from it how far the
model is from the reference: there the result depends on the micro batch. TRL's functions do the work here, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from torch import Tensor
from transformers import Trainer, set_seed
from trl.models.utils import disable_gradient_checkpointing, prepare_deepspeed, prepare_fsdp
from trl.trainer.utils import disable_dropout_in_model, use_adapter

from ..adapters.engine import Adapted
from ..adapters.reference import REF
from ..loop import Quiet
from ..rows.batches import Grouped
from ..rows.pairs import real_count
from ..spread.ranks import gathered, total
from ..watching.evaluation import means
from .answers import Answers, answers, logps, make_able
from .reference import Place, stand_by

Batch = Mapping[str, Tensor]
Figures = dict[str, Tensor]
"""What is told of the rows of a batch, a number of each, by TRL's names."""

FIGURES = {
    "reward_accuracy": "rewards/accuracies",
    "reward_margin": "rewards/margins",
    "chosen_logps": "logps/chosen",
    "rejected_logps": "logps/rejected",
    "entropy": "entropy",
}
"""What is told of held-out rows, as `HeldOut` takes it."""


class AnswerTrainer(Quiet, Grouped, Trainer):
    """Trains on batches of token rows with a mask of the answer, beside the reference that `place` says, if any.

    `beside` is the reference as a loaded model, where it is one of its own. Where its log-probabilities were computed
    before, batches have them as `reference`.
    """

    loss_is_scaled_for_ga: Any = True

    def __init__(
        self,
        adapted: Adapted,
        place: Place | None,
        beside: Any,
        *,
        args: Any,
        tokenizer: Any,
        rows: Any,
        collator: Any,
    ) -> None:
        set_seed(args.seed)  # a new adapter is drawn
        model: Any = adapted.model
        config = model.config.get_text_config()
        config.pad_token_id = tokenizer.pad_token_id
        zero3 = args.deepspeed_plugin is not None and args.deepspeed_plugin.zero_stage == 3
        if adapted.config is not None:
            # ZeRO-3 gathers weights of one type.
            quantized = getattr(model, "is_quantized", False)
            model = get_peft_model(model, adapted.config, autocast_adapter_dtype=not zero3 or quantized)
        stand_by(model, place)
        is_peft = isinstance(model, PeftModel)
        if is_peft and args.gradient_checkpointing:
            model.enable_input_require_grads()
            if zero3:
                args.gradient_checkpointing_kwargs = {"use_reentrant": True}
        if args.use_liger_kernel:
            args.liger_kernel_config = {"fused_linear_cross_entropy": False}  # it would take the place of the loss here
        super().__init__(
            model=model,
            args=args,
            data_collator=collator,
            train_dataset=rows,
            processing_class=tokenizer,
            callbacks=adapted.callbacks,
        )
        disable_dropout_in_model(model)
        make_able(model, entropy=True)
        self._metrics: dict[str, dict[str, list[float]]] = {"train": defaultdict(list), "eval": defaultdict(list)}
        self._refers = place is not None
        self._reference: Any = None
        if beside is not None:
            disable_dropout_in_model(beside)
            make_able(beside)
            self._reference = self._prepared(beside)
        coefficient = getattr(config, "router_aux_loss_coef", 0.0) or 0.0
        self._balance = coefficient if hasattr(config, "output_router_logits") else 0.0

    def _prepared(self, model: Any) -> Any:
        if self.is_deepspeed_enabled:
            return prepare_deepspeed(model, self.accelerator)
        if self.is_fsdp_enabled:
            return prepare_fsdp(model, self.accelerator)
        return self.accelerator.prepare_model(model, evaluation_mode=True)

    def judge(self, found: Answers, reference: Tensor, batch: Batch, real: Tensor) -> tuple[Tensor, Figures]:
        """The loss of each of n rows or pairs, (n,), and figures of those that are `real`, (n,).

        `reference` are its log-probabilities, as many as `found` has; zeros where there is none.
        """
        raise NotImplementedError

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        tokens = inputs["input_ids"], inputs["attention_mask"], inputs["completion_mask"]
        # Before the model's own pass: another adapter is switched on for it.
        reference = self.reference_logps(inputs) if self._refers else None
        found = answers(model, *tokens, balance=self._balance != 0)
        if reference is None:
            reference = torch.zeros_like(found.logps)
        real = ~inputs["blank"]
        losses, figures = self.judge(found, reference, inputs, real)
        if found.entropy is not None:
            figures["entropy"] = found.entropy[real.repeat(len(found.entropy) // len(real))]
        seen = self._metrics["train" if self.model.training else "eval"]  # type: ignore[union-attr]
        for name, values in figures.items():
            seen[name].extend(values.detach().float().tolist())
        # What the ranks have is averaged, and each of them has but its share of the sum.
        share = self.args.world_size / num_items_in_batch if num_items_in_batch else 1 / real_count(inputs)
        loss = (losses * real).sum() * share
        if self._balance:
            loss = loss + self._balance * found.balance * real.sum() * share
        return loss

    def reference_logps(self, batch: Batch, prefix: str = "") -> Tensor:
        """What the reference gives to the answers of a batch, (r,); to the rows that are called `prefix`..."""
        if f"{prefix}reference" in batch:
            return batch[f"{prefix}reference"]
        with torch.no_grad(), self._as_reference() as model:
            return logps(model, *(batch[f"{prefix}{name}"] for name in TOKENS))

    @contextmanager
    def _as_reference(self) -> Iterator[Any]:
        own: Any = self.model
        if self._reference is not None:
            yield self._reference
            return
        unwrapped: Any = self.accelerator.unwrap_model(own)
        name = REF if REF in unwrapped.peft_config else None
        kwargs = self.args.gradient_checkpointing_kwargs
        checkpoints = disable_gradient_checkpointing(own, kwargs) if self.args.gradient_checkpointing else nullcontext()
        with checkpoints, use_adapter(unwrapped, name):
            yield own

    def blank(self, row: Any) -> Any:
        return row | {"blank": True}

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> int:
        return int(total(sum(real_count(batch) for batch in batch_samples)))

    def summary(self, found: Mapping[str, list[float]]) -> dict[str, float]:
        """The figures of what was found for each row, or pair, by TRL's names."""
        told = means(found)
        if "rewards/chosen" in told and "rewards/rejected" in told:
            told["rewards/margins"] = told["rewards/chosen"] - told["rewards/rejected"]
        return told

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        seen = self._metrics["train"]
        if "loss" in logs:
            logs |= self.summary(gathered(seen))
        seen.clear()
        super().log(logs, start_time)

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Any, None, None]:
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, inputs), None, None


TOKENS = ("input_ids", "attention_mask", "completion_mask")
