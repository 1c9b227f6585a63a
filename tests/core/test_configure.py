"""An option that can be written in several ways is told of once, where it is wrong."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from tuneforge import Config, Field
from tuneforge.configure import configured

Word = Literal["sigmoid", "hinge"]


class Mixed(Config):
    """Words and their weights."""

    loss: Word | dict[Word, float] = Field("hinge", description="One word, or several.")


@pytest.mark.parametrize(
    ("written", "at", "near"),
    [
        ({"sigmoidd": 1.0, "hinge": 1.0}, ("loss", "sigmoidd"), "Did you mean sigmoid? loss takes "),
        ({"sigmoid": "much"}, ("loss", "sigmoid"), "loss takes "),
        ("hing", ("loss",), "Did you mean hinge? loss takes "),
        ("something", ("loss",), "loss takes "),
    ],
)
def test_it_is_told_where_it_is_wrong(written: Any, at: tuple[str, ...], near: str) -> None:
    found: list[tuple[tuple[str | int, ...], str, str]] = []
    told = configured(
        Mixed, {"loss": written}, "mixed", "with", lambda at, problem, fix: found.append((tuple(at), problem, fix))
    )
    assert told is None
    ((place, _, fix),) = found
    assert place == at and fix.startswith(near)


def test_each_of_several_mistakes_is_told() -> None:
    found: list[tuple[str | int, ...]] = []
    written = {"loss": {"sigmoidd": 1.0, "hing": 1.0}}
    configured(Mixed, written, "mixed", "with", lambda at, problem, fix: found.append(tuple(at)))
    assert found == [("loss", "sigmoidd"), ("loss", "hing")]
