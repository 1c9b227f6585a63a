"""Rewards for what can be measured of an answer: its length, and the number that it comes to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Literal

from tuneforge import Field, Finding

from .base import Answer, Rule, Scorer


class Length(Rule):
    """1 for an answer of a wanted length, falling to 0 over `slack` tokens beyond it.

    What keeps answers from growing: Yu et al. 2025 (DAPO), https://arxiv.org/abs/2503.14476
    """

    type: Literal["length"] = Field(also=("overlong", "soft_overlong"), description="The type of reward.")
    least: int = Field(
        0,
        ge=0,
        also=("min", "minimum", "min_tokens", "min_length"),
        description="Tokens that an answer should have at least.",
    )
    most: int | None = Field(
        None,
        ge=1,
        also=("max", "maximum", "max_tokens", "max_length"),
        description="Tokens that it should have at most.",
    )
    slack: int = Field(0, ge=0, also=("cache",), description="Tokens beyond these over which the reward falls to 0.")

    def check(self) -> Iterator[Finding]:
        if not self.least and self.most is None:
            yield Finding("length has neither least nor most, so every answer is right", "Give most.", field="most")
        elif self.most is not None and self.least > self.most:
            problem = f"no answer has at least {self.least} and at most {self.most} tokens"
            yield Finding(problem, "Swap least and most.", field="least")

    def scorer(self) -> Scorer:
        def score(answer: Answer) -> float:
            most = answer.tokens if self.most is None else self.most
            beyond = max(answer.tokens - most, self.least - answer.tokens, 0)
            return max(0.0, 1 - beyond / (self.slack + 1))

        return score


class Number(Rule):
    r"""1 for an answer that comes to the reference's number, else 0.

    An answer's number is the one in its last \boxed{}, else the last one in it; so is the reference's. 1,234.50, 2e3,
    3/4 and \frac{3}{4} are numbers, compared exactly.
    """

    compares = True

    type: Literal["number"] = Field(also=("numeric", "math", "gsm8k"), description="The type of reward.")
    tolerance: float = Field(
        0.0, ge=0, description="How far off it may be, as a share of the reference's number; 0: they are equal."
    )

    def lacks(self, reference: str | None) -> str:
        if reference is not None and find_number(reference) is None:
            return "whose reference has no number"
        return super().lacks(reference)

    def scorer(self) -> Scorer:
        tolerance = Fraction(self.tolerance)

        def score(answer: Answer) -> float:
            found, wanted = find_number(answer.text), find_number(answer.reference or "")
            if found is None or wanted is None:
                return 0.0
            return float(abs(found - wanted) <= tolerance * abs(wanted))

        return score


def find_number(text: str) -> Fraction | None:
    r"""The number in the last \boxed{} of a text, else its last number; None if there is none."""
    boxed = _last_boxed(text)
    # Some write the minus of typesetters.
    plain = _FRACTION.sub(r"\1\2/\3", (text if boxed is None else boxed).replace("\u2212", "-"))
    numbers = [found[0] for found in _NUMBER.finditer(plain)]
    if not numbers:
        return None
    try:
        return Fraction(numbers[-1].replace(",", ""))
    except (ValueError, ZeroDivisionError):
        return None


def _last_boxed(text: str) -> str | None:
    start = text.rfind(_BOXED)
    if start < 0:
        return None
    depth = 1
    for place in range(start + len(_BOXED), len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if not depth:
            return text[start + len(_BOXED) : place]
    return None  # cut off


_BOXED = "\\boxed{"
_FRACTION = re.compile(r"(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}")
_NUMBER = re.compile(
    r"""(?:(?<![\w)])-)?  # a minus sign, and no hyphen
    (?: (?:\d{1,3}(?:,\d{3})+(?!\d)|\d+) (?:\.\d+)? | \.\d+ )
    (?: [eE][-+]?\d{1,3}(?!\d) | /\d+ )?""",
    re.VERBOSE,
)
