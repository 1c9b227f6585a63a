"""What a type of adapter asks for around a training, besides what PEFT does by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel, TrainerCallback


class Process:
    """The usual: PEFT's trainable adapter is the result, and its checkpoints hold all that there is to resume."""

    def quantization(self) -> Any:
        """How the base is quantized while it is loaded, as transformers takes it; None where it is not."""
        return None

    def ready(self, model: PreTrainedModel) -> None:
        """Makes the loaded base ready for an adapter."""

    def wrap(self, model: PreTrainedModel, config: PeftConfig) -> PeftModel | None:
        """The model with its adapter, where the trainer is not to put it on as usual."""
        return None

    def callbacks(self) -> list[TrainerCallback]:
        """What is done at the trainer's events."""
        return []

    def result(
        self, model: PeftModel, state: Mapping[str, torch.Tensor] | None
    ) -> tuple[PeftConfig, dict[str, torch.Tensor]] | None:
        """The adapter that is written, for the base as it was; None where it is the one that was trained.

        `state` are all weights where the model does not hold them, being cut up among processes.
        """
        return None
