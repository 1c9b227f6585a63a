"""The rewards that a recipe can name, chosen by `type:`."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import Discriminator

from tuneforge import Finding

from .base import Rule
from .function import Custom
from .matches import Exact, JsonSchema, Regex
from .measures import Length, Number

AnyReward = Annotated[Exact | Regex | JsonSchema | Length | Number | Custom, Discriminator("type")]

MODEL = "model"
"""What the reward of a reward model is called."""

_TAKEN = ("accuracy", "margin")
"""Names whose figure, reward_<name>, is another one: that of pairs."""


def check_rewards(rules: Sequence[Rule], model: bool) -> Iterator[Finding]:
    """Findings on the rewards of a recipe, `model` being whether there is a reward model, too."""
    if not rules and not model:
        yield Finding(
            "there is nothing to learn from: neither rewards nor a reward_model",
            "Give rewards, such as `rewards: [{type: exact}]`, or wire a reward_model beside with:.",
            field="rewards",
        )
    seen = {MODEL} if model else set()
    for place, rule in enumerate(rules):
        for finding in rule.check():
            yield replace(finding, field=f"rewards.{place}.{finding.field}")
        if rule.called in seen:
            yield Finding(
                f"two rewards are called {rule.called}, and each has a figure of its own",
                f"Give one a name: `name: other_{rule.called}`.",
                field=f"rewards.{place}",
            )
        if rule.called in _TAKEN:
            yield Finding(
                f"reward_{rule.called} is a figure of pairs of answers, for which that of this reward would be taken",
                f"Give it another name: `name: own_{rule.called}`.",
                field=f"rewards.{place}",
            )
        seen.add(rule.called)
