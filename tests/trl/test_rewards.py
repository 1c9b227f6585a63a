"""Each reward of a recipe: what it gives, what is refused before anything runs, and who is named when one fails."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tuneforge import Facts, Finding, RewardModel
from tuneforge.keys import shown_config, step_key
from tuneforge.sources import Digests
from tuneforge_trl.online.grpo import Grpo
from tuneforge_trl.online.rewards.base import Answer, Rule
from tuneforge_trl.online.rewards.measures import find_number

RECORD = '{"item": "bolts", "quantity": 28}'
SCHEMA = {"type": "object", "required": ["item"], "properties": {"quantity": {"type": "integer"}}}


def rule(**options: Any) -> Rule:
    (only,) = Grpo(rewards=[options]).rewards
    return only


def given(options: dict[str, Any], text: str, reference: str | None = None, tokens: int = 1) -> float:
    prompt = [{"role": "user", "content": "?"}]
    return rule(**options).scorer()(Answer(prompt, text, reference, tokens))


def found(*rewards: dict[str, Any], **facts: list[Facts]) -> list[Finding]:
    return list(Grpo(rewards=list(rewards)).check(facts))


@pytest.mark.parametrize(
    ("options", "text", "reference", "reward"),
    [
        ({"type": "exact"}, "blue", "blue", 1),
        ({"type": "exact"}, " blue\n", "blue ", 1),
        ({"type": "exact"}, "Blue", "blue", 0),
        ({"type": "exact"}, "", "blue", 0),
        ({"type": "exact"}, f"Here: {RECORD}", RECORD, 0),
        ({"type": "exact", "of": "record"}, f"Here: {RECORD}", RECORD, 1),
        ({"type": "exact", "of": "record"}, '{"quantity": 28.0, "item": "bolts"}', RECORD, 1),
        ({"type": "exact", "of": "record"}, '{"quantity": 29, "item": "bolts"}', RECORD, 0),
        ({"type": "exact", "of": "record"}, "none", RECORD, 0),
        ({"type": "regex", "pattern": r"^\{.*\}$"}, '{\n"a": 1}', None, 1),
        ({"type": "regex", "pattern": r"^\{.*\}$"}, 'Here: {"a": 1}', None, 0),
        ({"type": "regex", "pattern": r"\d"}, "a 1", None, 1),
        ({"type": "regex", "pattern": r"\d", "whole": True}, "a 1", None, 0),
        ({"type": "regex", "pattern": r"\d", "whole": True}, " 1 ", None, 1),
        ({"type": "json-schema", "json_schema": SCHEMA}, RECORD, None, 1),
        ({"type": "json-schema", "json_schema": SCHEMA}, '{"item": "bolts", "quantity": "many"}', None, 0),
        ({"type": "json-schema", "json_schema": SCHEMA}, '{"quantity": 28}', None, 0),
        ({"type": "json-schema", "json_schema": SCHEMA}, f"Here: {RECORD}", None, 0),
        ({"type": "json-schema", "json_schema": SCHEMA}, '{"item": NaN}', None, 0),
        ({"type": "json-schema", "json_schema": SCHEMA}, "[" * 100_000, None, 0),
        ({"type": "number"}, "It is 1,234.50 in all.", "1234.5", 1),
        ({"type": "number"}, "3 + 4 is 8", "#### 7", 0),
        ({"type": "number"}, "I do not know.", "7", 0),
        ({"type": "number"}, r"\boxed{7} and not 8", "7", 1),
        ({"type": "number"}, r"\boxed{\frac{3}{4}}", "0.75", 1),
        ({"type": "number"}, "3.14", "3.14159", 0),
        ({"type": "number", "tolerance": 0.01}, "3.14", "3.14159", 1),
    ],
)
def test_what_an_answer_is_worth(options: dict[str, Any], text: str, reference: str | None, reward: float) -> None:
    assert given(options, text, reference) == reward


@pytest.mark.parametrize(
    ("options", "rewards"),
    [
        ({"most": 4}, {1: 1, 4: 1, 5: 0, 9: 0}),
        ({"most": 4, "slack": 3}, {4: 1, 5: 0.75, 6: 0.5, 7: 0.25, 8: 0}),
        ({"least": 3, "most": 4, "slack": 1}, {1: 0, 2: 0.5, 3: 1, 4: 1, 5: 0.5, 6: 0}),
        ({"least": 3}, {2: 0, 3: 1, 999: 1}),
    ],
)
def test_the_length_of_an_answer(options: dict[str, Any], rewards: dict[int, float]) -> None:
    assert {tokens: given({"type": "length", **options}, "x", tokens=tokens) for tokens in rewards} == rewards


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("#### 72", 72),
        ("$1,234,567.89 in all", Fraction("1234567.89")),
        ("1,23 and 4", 4),
        ("from 10-5", 5),
        ("it is -5.", -5),
        ("it is \u22125", -5),
        ("x = 2e3", 2000),
        ("about .5", Fraction(1, 2)),
        ("3/4 of it", Fraction(3, 4)),
        (r"\dfrac{1}{3}", Fraction(1, 3)),
        (r"-\frac{1}{2}", Fraction(-1, 2)),
        (r"\boxed{12} or \boxed{13} of 14", 13),
        (r"\boxed{x_{1} = 5}", 5),
        (r"\boxed{none} of 14", None),
        (r"\boxed{12", 12),
        ("1/0", None),
        ("no", None),
        ("9" * 5000, None),
    ],
)
def test_the_number_that_an_answer_comes_to(text: str, number: Fraction | int | None) -> None:
    assert find_number(text) == number


@pytest.mark.parametrize(
    ("options", "reference", "reason"),
    [
        ({"type": "exact"}, None, "without a reference"),
        ({"type": "exact"}, "blue", ""),
        ({"type": "exact", "of": "record"}, "blue", "whose reference holds no JSON record"),
        ({"type": "exact", "of": "record"}, RECORD, ""),
        ({"type": "number"}, "none", "whose reference has no number"),
        ({"type": "number"}, None, "without a reference"),
        ({"type": "regex", "pattern": "x"}, None, ""),
        ({"type": "length", "most": 1}, None, ""),
    ],
)
def test_rows_that_a_reward_cannot_judge(options: dict[str, Any], reference: str | None, reason: str) -> None:
    assert rule(**options).lacks(reference) == reason


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "pattern": (
        {"type": "regex", "pattern": "(a"},
        "rewards.0.pattern",
        "pattern does not compile: missing ), unterminated subpattern at position 0",
    ),
    "schema": (
        {"type": "json-schema", "json_schema": {"properties": {"a": {"type": "strin"}}}},
        "rewards.0.json_schema",
        "json_schema.properties.a.type is no JSON schema: 'strin' is not valid under any of the given schemas",
    ),
    "length": ({"type": "length"}, "rewards.0.most", "length has neither least nor most, so every answer is right"),
    "lengths": ({"type": "length", "least": 3, "most": 2}, "rewards.0.least", "no answer has at least 3"),
    "module": ({"type": "function", "function": "nowhere.to:go"}, "rewards.0.function", "there is no module nowhere"),
    "submodule": (
        {"type": "function", "function": "json.nowhere:go"},
        "rewards.0.function",
        "there is no module json.n",
    ),
    "name": ({"type": "function", "function": "json.decoder:nothing"}, "rewards.0.function", "decoder.py has no func"),
    "parameters": (
        {"type": "function", "function": "json.scanner:py_make_scanner"},
        "rewards.0.function",
        "py_make_scanner of scanner.py asks for context",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_by_the_plan(case: str) -> None:
    options, field, problem = REFUSED[case]
    (finding,) = found(options)
    assert (finding.field, finding.level) == (field, "error")
    assert finding.problem.startswith(problem)
    assert finding.fix


def test_nothing_to_learn_from() -> None:
    (finding,) = Grpo().check({})
    assert (finding.field, finding.problem) == (
        "rewards",
        "there is nothing to learn from: neither rewards nor a reward_model",
    )
    assert found(reward_model=[Facts(RewardModel)]) == []


def accuracy(answer: str, reference: str) -> float:
    return float(answer == reference)


def test_each_reward_has_a_name_of_its_own() -> None:
    exact = {"type": "exact"}
    (finding,) = found(exact, exact)
    assert finding.problem == "two rewards are called exact, and each has a figure of its own"
    assert found(exact, exact | {"name": "again"}) == []
    schema = {"type": "json-schema", "json_schema": {}}
    assert rule(**schema).called == "json_schema"
    (finding,) = found({"type": "function", "function": f"{__file__}:accuracy"})
    assert finding.problem.startswith("reward_accuracy is a figure of pairs of answers")
    assert found({"type": "function", "function": f"{__file__}:accuracy", "name": "right"}) == []
    (finding,) = found(exact | {"name": "model"}, reward_model=[Facts(RewardModel)])
    assert "two rewards are called model" in finding.problem


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    path = tmp_path / "scores.py"
    path.write_text(
        "import torch_that_is_not_there\n"
        "LEVEL = 1\n"
        "def brief(answer): return 1 / len(answer)\n"
        "def told(prompt, answer, reference): return len(prompt)\n"
        "async def slow(answer): return 1.0\n"
        "if LEVEL:\n    from math import floor as rounded\n"
    )
    return path


def test_a_function_is_looked_for_without_importing_it(scores: Path) -> None:
    for name in ("brief", "told", "rounded", "LEVEL"):
        assert found({"type": "function", "function": f"{scores}:{name}"}) == []
    (finding,) = found({"type": "function", "function": f"{scores}:brif"})
    assert (finding.problem, finding.fix) == ("scores.py has no function brif", "It has brief, told.")
    (finding,) = found({"type": "function", "function": f"{scores.with_name('none.py')}:brief"})
    assert finding.problem == f"{scores.with_name('none.py')} does not exist"
    scores.write_text("from math import *\n")
    assert found({"type": "function", "function": f"{scores}:floor"}) == []
    scores.write_text("def brief(answer)\n")
    (finding,) = found({"type": "function", "function": f"{scores}:brief"})
    assert finding.problem.startswith("scores.py:1 is no Python: ")


def test_a_function_is_told_what_it_asks_for(scores: Path) -> None:
    scores.write_text(
        "def brief(answer): return 1 / len(answer)\n"
        "def right(answer, *, reference, slack=0): return answer == reference\n"
        "def every(**told): return len(told)\n"
        "def tensor(answer):\n    import torch\n    return torch.tensor(0.5)\n"
    )
    for name, reward in (("brief", 0.25), ("right", 1), ("every", 3), ("tensor", 0.5)):
        options = {"type": "function", "function": f"{scores}:{name}"}
        assert rule(**options).called == name
        assert given(options, "blue", "blue") == reward


def test_a_function_counts_by_its_content(scores: Path, tmp_path: Path) -> None:
    def key() -> str:
        method = Grpo(rewards=[{"type": "function", "function": f"{scores}:brief"}])
        return step_key(method, 1, {}, Digests(tmp_path / "cache"))

    before = key()
    assert key() == before
    scores.write_text(scores.read_text() + "\n# changed")
    assert key() != before
    method = Grpo(rewards=[{"type": "function", "function": f"{scores}:brief"}])
    shown = json.dumps(shown_config(method, Digests(tmp_path / "cache")))
    assert str(tmp_path) not in shown and "scores.py@" in shown


def test_planning_imports_nothing_heavy() -> None:
    code = (
        "import sys; from tuneforge_trl.online.grpo import Grpo; "
        "rewards = [{'type': 'exact'}, {'type': 'json-schema', 'json_schema': {'type': 'object', 'items': {}}}, "
        "{'type': 'function', 'function': 'json:loads'}]; "
        "print([finding.problem for finding in Grpo(rewards=rewards).check({})]); "
        "print(sorted({'torch', 'transformers', 'trl', 'numpy', 'jsonschema', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['loads of __init__.py asks for s']\n[]\n"
