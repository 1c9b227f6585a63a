"""Adapters that stand before the text: learnt vectors in place of words."""

from typing import TYPE_CHECKING, Any, Literal

from tuneforge import Field

from .base import AdapterType

if TYPE_CHECKING:
    from peft import PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig

    from .engine import Making
    from .process import Process


class BeforeText(AdapterType):
    """Learnt vectors before the text."""

    mergeable = False
    # PEFT leaves out the position ids by which packed rows are told apart.
    packable = False

    tokens: int = Field(
        20,
        ge=1,
        also=("num_virtual_tokens", "prompt_length", "prefix_length"),
        description="How many vectors there are; they take as much of the model's context.",
    )

    def foretold(self) -> dict[str, Any]:
        return super().foretold() | {"num_virtual_tokens": self.tokens}


class Prefix(BeforeText):
    """Learnt keys and values before the text in every layer.

    Li and Liang 2021, Prefix-Tuning: Optimizing Continuous Prompts for Generation, https://arxiv.org/abs/2101.00190
    """

    peft_type = "PREFIX_TUNING"
    title = "learnt keys and values before the text, in every layer"
    paper = ("Li and Liang 2021", "https://arxiv.org/abs/2101.00190")
    # It is a cache of keys and values, without which activations are computed anew.
    checkpointable = False
    usual_rate = 25.0

    type: Literal["prefix"] = Field(also=("prefix_tuning", "prefix-tuning"), description="The type of adapter.")

    def peft_config(self, making: "Making") -> "PrefixTuningConfig":
        from .prompts_engine import prefix_config

        return prefix_config(self, making)


class Prompt(BeforeText):
    """Learnt vectors before the text, in place of embedded words.

    Lester et al. 2021, The Power of Scale for Parameter-Efficient Prompt Tuning, https://arxiv.org/abs/2104.08691
    """

    peft_type = "PROMPT_TUNING"
    title = "learnt vectors before the text, in place of embedded words"
    paper = ("Lester et al. 2021", "https://arxiv.org/abs/2104.08691")
    usual_rate = 50.0

    type: Literal["prompt"] = Field(also=("prompt_tuning", "prompt-tuning"), description="The type of adapter.")
    text: str | None = Field(
        None,
        also=("prompt_tuning_init_text",),
        description="What they say to begin with, repeated or cut to their number; random words where it is not set.",
    )

    def peft_config(self, making: "Making") -> "PromptTuningConfig":
        from .prompts_engine import prompt_config

        return prompt_config(self, making)

    def process(self, making: "Making") -> "Process":
        from .prompts_engine import AsPrompt

        return AsPrompt()


class PTuning(BeforeText):
    """Learnt vectors before the text, written by a small network while they are trained.

    The network is not needed afterwards: the result is a prompt. Liu et al. 2021, GPT Understands, Too,
    https://arxiv.org/abs/2103.10385
    """

    peft_type = "PROMPT_TUNING"
    title = "learnt vectors before the text, written by a small network"
    paper = ("Liu et al. 2021", "https://arxiv.org/abs/2103.10385")
    usual_rate = 5.0

    type: Literal["p-tuning"] = Field(also=("p_tuning", "ptuning"), description="The type of adapter.")
    hidden_size: int | None = Field(
        None, ge=1, also=("encoder_hidden_size",), description="Width of the network; the model's where it is not set."
    )

    @property
    def shardable(self) -> bool:
        return False

    def peft_config(self, making: "Making") -> "PromptEncoderConfig":
        from .prompts_engine import p_tuning_config

        return p_tuning_config(self, making)

    def process(self, making: "Making") -> "Process":
        from .prompts_engine import ByEncoder

        return ByEncoder()
