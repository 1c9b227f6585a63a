"""Fine-tuning with TRL: pre-training, supervised fine-tuning, reward models, preferences, rewards, distillation."""

from tuneforge import Align, Train, hookimpl

from .distill import Distill
from .online.grpo import Grpo
from .online.online_dpo import OnlineDpo
from .online.rloo import Rloo
from .preferences.cpo import Cpo
from .preferences.dpo import Dpo
from .preferences.kto import Kto
from .preferences.orpo import Orpo
from .preferences.simpo import Simpo
from .pretrain import Pretrain
from .reward import Reward
from .sft import Sft


@hookimpl
def register_train() -> list[type[Train]]:
    return [Pretrain, Reward, Sft]


@hookimpl
def register_align() -> list[type[Align]]:
    return [Cpo, Distill, Dpo, Grpo, Kto, OnlineDpo, Orpo, Rloo, Simpo]
