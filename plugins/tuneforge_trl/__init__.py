"""Fine-tuning with TRL: pre-training, supervised fine-tuning, reward models, preferences, distillation."""

from tuneforge import Align, Train, hookimpl

from .distill import Distill
from .dpo import Dpo
from .pretrain import Pretrain
from .reward import Reward
from .sft import Sft


@hookimpl
def register_train() -> list[type[Train]]:
    return [Pretrain, Reward, Sft]


@hookimpl
def register_align() -> list[type[Align]]:
    return [Distill, Dpo]
