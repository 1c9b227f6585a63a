"""Fine-tuning with TRL: supervised fine-tuning and direct preference optimization."""

from tuneforge import Align, Train, hookimpl

from .dpo import Dpo
from .sft import Sft


@hookimpl
def register_train() -> list[type[Train]]:
    return [Sft]


@hookimpl
def register_align() -> list[type[Align]]:
    return [Dpo]
