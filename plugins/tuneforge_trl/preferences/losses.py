"""What is made of the log-probabilities of answers: each loss as its paper has it, of one pair, or one answer, each.

Nothing here depends on what else is in memory, so that a batch may be split in any way. (TRL's aot, which compares the
sorted ratios of a batch, can therefore not be had.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

_DISCOPOP_TAU = 0.05  # what the paper found


@dataclass(frozen=True)
class Pairs:
    """Both answers of n pairs, each tensor of shape (n,).

    `chosen` and `rejected` are log-probabilities in nats, summed over an answer's tokens, the terminator included;
    `chosen_tokens` and `rejected_tokens` say how many these are. `chosen_reference` and `rejected_reference` are the
    log-probabilities that the reference has; zeros where there is none.
    """

    chosen: Tensor
    rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    chosen_reference: Tensor
    rejected_reference: Tensor

    @property
    def chosen_ratio(self) -> Tensor:
        """How much likelier than to the reference the chosen answer is to the model, in nats."""
        return self.chosen - self.chosen_reference

    @property
    def rejected_ratio(self) -> Tensor:
        return self.rejected - self.rejected_reference

    @property
    def chosen_mean(self) -> Tensor:
        """The log-probability of a token of the chosen answer, in the mean."""
        return self.chosen / self.chosen_tokens.clamp(min=1)

    @property
    def rejected_mean(self) -> Tensor:
        return self.rejected / self.rejected_tokens.clamp(min=1)


class Objective(Protocol):
    """What a method makes of pairs."""

    def losses(self, pairs: Pairs) -> Tensor:
        """The loss of each pair, (n,)."""
        ...

    def rewards(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """What the method takes for the worth of the chosen and of the rejected answers, (n,) each."""
        ...


@dataclass(frozen=True)
class Dpo:
    """A sum of losses, each by its weight."""

    weights: Mapping[str, float]
    beta: float
    smoothing: float

    def losses(self, pairs: Pairs) -> Tensor:
        found = [weight * DPO[name](pairs, self.beta, self.smoothing) for name, weight in self.weights.items()]
        return torch.stack(found).sum(0)

    def rewards(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        return self.beta * pairs.chosen_ratio, self.beta * pairs.rejected_ratio


def _delta(pairs: Pairs) -> Tensor:
    return pairs.chosen_ratio - pairs.rejected_ratio


def _mean_delta(pairs: Pairs) -> Tensor:
    chosen, rejected = pairs.chosen_tokens.clamp(min=1), pairs.rejected_tokens.clamp(min=1)
    return pairs.chosen_ratio / chosen - pairs.rejected_ratio / rejected


def _sigmoid(pairs: Pairs, beta: float, smoothing: float) -> Tensor:
    margin = beta * _delta(pairs)
    return -(1 - smoothing) * logsigmoid(margin) - smoothing * logsigmoid(-margin)


def _sigmoid_norm(pairs: Pairs, beta: float, smoothing: float) -> Tensor:
    return -logsigmoid(beta * _mean_delta(pairs))


def _hinge(pairs: Pairs, beta: float, smoothing: float) -> Tensor:
    return torch.relu(1 - beta * _delta(pairs))


def _ipo(pairs: Pairs, beta: float, smoothing: float) -> Tensor:
    # Of means over tokens, as the authors computed it, by what they have told TRL's.
    return (_mean_delta(pairs) - 1 / (2 * beta)) ** 2


def _exo_pair(pairs: Pairs, beta: float, smoothing: float) -> Tensor:
    margin = beta * _delta(pairs)
    better = torch.sigmoid(margin) * (logsigmoid(margin) - math.log1p(-smoothing))
    return better + torch.sigmoid(-margin) * (logsigmoid(-margin) - math.log(smoothing))


def _nca_pair(pairs: Pairs, beta: float, smoothing: float) -> Tensor:
    chosen, rejected = beta * pairs.chosen_ratio, beta * pairs.rejected_ratio
    return -logsigmoid(chosen) - logsigmoid(-chosen) / 2 - logsigmoid(-rejected) / 2


def _robust(pairs: Pairs, beta: float, smoothing: float) -> Tensor:
    margin = beta * _delta(pairs)
    return (smoothing * logsigmoid(-margin) - (1 - smoothing) * logsigmoid(margin)) / (1 - 2 * smoothing)


def _bco_pair(pairs: Pairs, beta: float, smoothing: float) -> Tensor:
    return -logsigmoid(beta * pairs.chosen_ratio) - logsigmoid(-beta * pairs.rejected_ratio)


def _sppo_hard(pairs: Pairs, beta: float, smoothing: float) -> Tensor:
    return (pairs.chosen_ratio - 1 / (2 * beta)) ** 2 + (pairs.rejected_ratio + 1 / (2 * beta)) ** 2


def _apo_zero(pairs: Pairs, beta: float, smoothing: float) -> Tensor:
    return torch.sigmoid(-beta * pairs.chosen_ratio) + torch.sigmoid(beta * pairs.rejected_ratio)


def _apo_down(pairs: Pairs, beta: float, smoothing: float) -> Tensor:
    return torch.sigmoid(beta * pairs.chosen_ratio) + torch.sigmoid(-beta * _delta(pairs))


def _discopop(pairs: Pairs, beta: float, smoothing: float) -> Tensor:
    margin = beta * _delta(pairs)
    blend = torch.sigmoid(margin / _DISCOPOP_TAU)
    return (1 - blend) * -logsigmoid(margin) + blend * torch.exp(-margin)


def _sft(pairs: Pairs, beta: float, smoothing: float) -> Tensor:
    return -pairs.chosen_mean


DPO: Mapping[str, Callable[[Pairs, float, float], Tensor]] = {
    "sigmoid": _sigmoid,
    "sigmoid_norm": _sigmoid_norm,
    "hinge": _hinge,
    "ipo": _ipo,
    "exo_pair": _exo_pair,
    "nca_pair": _nca_pair,
    "robust": _robust,
    "bco_pair": _bco_pair,
    "sppo_hard": _sppo_hard,
    "apo_zero": _apo_zero,
    "apo_down": _apo_down,
    "discopop": _discopop,
    "sft": _sft,
}
"""The losses of dpo by name; their papers are in its documentation."""


@dataclass(frozen=True)
class Orpo:
    """Hong et al. 2024, https://arxiv.org/abs/2403.07691, equations 6 and 7; `weight` is their lambda."""

    weight: float

    def losses(self, pairs: Pairs) -> Tensor:
        chosen, rejected = self.rewards(pairs)
        return -pairs.chosen_mean - self.weight * logsigmoid(chosen - rejected)

    def rewards(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """The log odds of each answer, of its probability by the token."""
        return _log_odds(pairs.chosen_mean), _log_odds(pairs.rejected_mean)


def _log_odds(logp: Tensor) -> Tensor:
    # An answer of probability one has infinite odds.
    logp = logp.clamp(max=-1e-6)
    return logp - torch.log(-torch.expm1(logp))


@dataclass(frozen=True)
class Cpo:
    """Xu et al. 2024, https://arxiv.org/abs/2401.08417, equations 3 and 5; `weight` is that of the chosen answers."""

    beta: float
    weight: float

    def losses(self, pairs: Pairs) -> Tensor:
        return -logsigmoid(self.beta * (pairs.chosen - pairs.rejected)) - self.weight * pairs.chosen_mean

    def rewards(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        return self.beta * pairs.chosen, self.beta * pairs.rejected


@dataclass(frozen=True)
class Simpo:
    """Meng et al. 2024, https://arxiv.org/abs/2405.14734, equation 6; `margin` is their gamma."""

    beta: float
    margin: float

    def losses(self, pairs: Pairs) -> Tensor:
        chosen, rejected = self.rewards(pairs)
        return -logsigmoid(chosen - rejected - self.margin)

    def rewards(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        return self.beta * pairs.chosen_mean, self.beta * pairs.rejected_mean


@dataclass(frozen=True)
class Kto:
    """Ethayarajh et al. 2024, https://arxiv.org/abs/2402.01306, equations 7 and 8; weights are their lambdas."""

    beta: float
    desirable_weight: float
    undesirable_weight: float

    def losses(self, ratio: Tensor, kl: float, desirable: Tensor) -> Tensor:
        """The loss of each of n answers; `ratio` is the log-probability less the reference's, `desirable` is bool."""
        margin = self.beta * (ratio - kl)
        liked = self.desirable_weight * torch.sigmoid(-margin)
        return torch.where(desirable, liked, self.undesirable_weight * torch.sigmoid(margin))
