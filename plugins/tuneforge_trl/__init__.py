"""Fine-tuning with TRL: continued pre-training, supervised fine-tuning, reward models, preferences, rewards."""

from tuneforge import Align, Train, hookimpl

from .dpo import Dpo
from .online.grpo import Grpo
from .online.online_dpo import OnlineDpo
from .online.rloo import Rloo
from .pretrain import Pretrain
from .reward import Reward
from .sft import Sft


@hookimpl
def register_train() -> list[type[Train]]:
    return [Pretrain, Reward, Sft]


@hookimpl
def register_align() -> list[type[Align]]:
    return [Dpo, Grpo, OnlineDpo, Rloo]
